"""Hooks of all tests: what is optional here, and required in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs something that is not here, or fail where it is required."""
    for item in items:
        if item.get_closest_marker("needs_shared") and not (SHARED / "recordings").is_dir():
            item.add_marker(pytest.mark.skip(reason="no recordings beside the project"))
        required = os.environ.get("REQUIRE_CUDA") == "1"
        if item.get_closest_marker("needs_cuda") and not required and not _cuda():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_configure() -> None:
    """Let interrupts through to commands that tests start: a shell's background ignores them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own PLAYMILL_ settings out of the tests."""
    for name in [name for name in os.environ if name.startswith("PLAYMILL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tests share the machine; several threads of torch would wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
