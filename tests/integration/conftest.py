"""Fixtures of the tests that run the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.support import Playmill


@pytest.fixture
def playmill(tmp_path: Path) -> Playmill:
    """The command, in an empty folder."""
    return Playmill(tmp_path)
