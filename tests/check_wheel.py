"""Check that the wheel holds the library alone, and that numpy and h5py are enough to read with it.

Run as a script. It builds the wheel into a temporary folder, looks inside, installs it with numpy
and h5py and nothing else into a new environment, and reads a small dataset there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from playmill import __version__
from playmill.storage import DataStorage
from playmill.synchronizer import SyncedData

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NUM_FRAMES = 5

READ = """
import importlib.util, sys
version, frames, path = sys.argv[1:]
for name in ("torch", "av", "zarr", "typer", "celery", "redis", "tasks", "workers"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed here"

import playmill
from playmill.dataset import open_dataset
assert playmill.__version__ == version
assert "site-packages" in playmill.__file__, playmill.__file__
with open_dataset(path) as dataset:
    assert len(dataset) == int(frames)
    window = dataset.window(1, 3)
    assert window["features"].shape == (3, 8), window["features"].shape
    print(f"read {len(dataset)} frames with numpy and h5py alone; a window: {', '.join(window)}")
"""
"""What a trainer does, in an environment that has the wheel, numpy and h5py."""


def main() -> None:
    """Check, and say what was checked; a broken promise is an exception."""
    with tempfile.TemporaryDirectory(prefix="playmill-wheel-") as name:
        folder = Path(name)
        wheel = build(folder)
        print(f"built {wheel.name}: {look_inside(wheel)}")
        python = install(wheel, folder / "venv")
        dataset = write_dataset(folder / "datasets")
        run(str(python), "-I", "-c", READ, __version__, str(NUM_FRAMES), str(dataset), shown=True)
        check_command_without_typer(python)


def build(folder: Path) -> Path:
    """Build the wheel; return its path."""
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", str(folder), str(PROJECT)),
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def look_inside(wheel: Path) -> str:
    """Check what the wheel would put into a trainer's environment; return a summary."""
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    expected = {"playmill", f"playmill-{__version__}.dist-info"}
    if top != expected:
        sys.exit(f"the wheel's top level is {sorted(top)}; it must be {sorted(expected)}")
    packed = {name for name in names if name.endswith(".py")}
    source = {path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("playmill/**/*.py")}
    if packed != source:
        sys.exit(f"in the wheel or in the checkout, not in both: {sorted(packed ^ source)}")
    if "playmill/py.typed" not in names:
        sys.exit("the wheel lacks playmill/py.typed, so that type checkers would ignore its types")
    if "playmill/decoding/sample.h264" not in names:
        sys.exit("the wheel lacks playmill/decoding/sample.h264, which NVDEC proves itself with")
    return f"{len(packed)} modules in playmill, nothing else"


def install(wheel: Path, venv: Path) -> Path:
    """Make an environment with the wheel, numpy and h5py; return its python."""
    python = venv / "bin" / "python"
    constraints = PROJECT / "constraints.txt"
    run(str(BIN / "uv"), "venv", "--quiet", "--python", sys.executable, str(venv))
    pip = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", str(python)]
    run(*pip, "--no-deps", str(wheel))
    run(*pip, "--constraints", str(constraints), "numpy", "h5py")
    return python


def write_dataset(folder: Path) -> Path:
    """Publish a dataset of a few frames; return its path."""
    with DataStorage(folder) as storage:
        storage.start_session("wheel-check", {})
        storage.save_synced_data([synced_frame(index) for index in range(NUM_FRAMES)])
        return storage.end_session()


def synced_frame(index: int) -> SyncedData:
    """Return one frame with a key press."""
    press = {"type": "key_down", "key": "w"}
    return SyncedData(
        timestamp=1_760_000_000_000_000 + 33_333 * index,
        frame_id=str(index),
        frame_features=np.full(8, index, np.float16),
        inputs=[press],
        metadata={"sync_window_ms": 100, "policy": "following", "latency_ms": 0},
    )


def check_command_without_typer(python: Path) -> None:
    """Check that the command says in one line what it lacks, with numpy and h5py alone."""
    done = subprocess.run(
        [str(python.parent / "playmill"), "version"], capture_output=True, text=True, check=False
    )
    if done.returncode != 1 or "typer" not in done.stderr or len(done.stderr.splitlines()) != 1:
        sys.exit(f"`playmill` without typer ended with {done.returncode} and said: {done.stderr}")
    print(f"the command there: {done.stderr.strip()}")


def run(*command: str, shown: bool = False) -> None:
    """Run a command; stop with its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:3])} ... failed:\n{done.stdout}{done.stderr}")
    if shown:
        print(done.stdout, end="")


if __name__ == "__main__":
    main()
