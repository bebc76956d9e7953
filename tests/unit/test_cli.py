"""The command: wrong usage is one line and status 2, before anything starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest

from playmill import cli
from playmill.storage import DataStorage
from tests.unit.dataset_samples import make_content, make_features
from tests.unit.job_samples import make_session

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def playmill(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Return the command as a function of its words."""

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["playmill", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(cli.app, "registered_commands", list(cli.app.registered_commands))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capfd.readouterr()
        code = caught.value.code
        return Ended(code if isinstance(code, int) else int(code is not None), out, err)

    return call


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return DataStorage(tmp_path / "made").write(make_content(), features=[make_features()])


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Return a folder with a recording, and with what is none."""
    make_session(tmp_path / "session")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "file").touch()
    return tmp_path


RUN = ("run", "session", "--datasets", "datasets")
WRONG_USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "missing path": (("run", "absent", "--datasets", "datasets"), "absent: there is no such file"),
    "nothing found": (("run", "empty", "--datasets", "datasets"), "empty: no recording found in"),
    "one of two": (("run", "session", "empty", "--datasets", "datasets"), "empty: no recording"),
    "no recording": (("run", "notes.txt", "--datasets", "datasets"), "notes.txt: is no recording"),
    "no paths": (("run", "--datasets", "datasets"), "Missing argument"),
    "no datasets": (("run", "session"), "Missing option '--datasets'"),
    "a file for datasets": (
        ("run", "session", "--datasets", "file"),
        "--datasets file: this is a file; give a folder",
    ),
    "a file in the way": (
        ("run", "session", "--datasets", "file/d"),
        "file/d: file is a file; give a folder",
    ),
    "policy": ((*RUN, "--policy", "sometimes"), "unknown policy 'sometimes'; choose one of"),
    "near policy": ((*RUN, "--policy", "nearst"), "'nearst' (did you mean 'nearest'?); choose"),
    "format": ((*RUN, "--format", "vpt"), "no reader is named 'vpt' (did you mean 'openai-vpt'?)"),
    "encoder": ((*RUN, "--encoder", "resnet"), "unknown encoder 'resnet'"),
    "torchvision": ((*RUN, "--encoder", "nosuch:model"), "'nosuch"),
    "weights": ((*RUN, "--weights", "absent.pth"), "--weights absent.pth: there is no such file"),
    "precision": ((*RUN, "--precision", "fp8"), "unknown precision 'fp8'"),
    "device": ((*RUN, "--device", "tpu"), "--device is 'tpu'; choose auto, cpu, cuda"),
    "workers": ((*RUN, "--workers", "0"), "Invalid value for '--workers'"),
    "batch": ((*RUN, "--batch-size", "0"), "Invalid value for '--batch-size'"),
    "chunk": ((*RUN, "--chunk-frames", "x"), "Invalid value for '--chunk-frames'"),
    "anchor": ((*RUN, "--pts-zero-us", "noon"), "Invalid value for '--pts-zero-us'"),
    "huge anchor": ((*RUN, "--pts-zero-us", str(2**70)), "pts_zero_us is"),
    "unbounded window": ((*RUN, "--policy", "window", "--window-ms", "none"), "needs a window"),
    "negative window": ((*RUN, "--window-ms", "-1"), "--window-ms is -1; it must be 0 or more"),
    "tiny negative window": ((*RUN, "--window-ms=-0.001"), "--window-ms is -0.001; it must be"),
    "unknown option": ((*RUN, "--frobnicate"), "No such option"),
    "unknown command": (("frobnicate",), "No such command"),
    "inspect nothing": (("inspect", "nope"), "playmill: nope: there is no such file or folder"),
    "inspect text": (("inspect", "notes.txt"), "notes.txt"),
    "inspect a recording": (
        ("inspect", "session"),
        "session: recordings, no datasets; `playmill plan`",
    ),
    "inspect an empty folder": (("inspect", "empty"), "empty: neither a dataset nor a recording"),
    "inspect as json": (("inspect", "--json", "notes.txt"), "notes.txt"),
    "verify nothing": (("verify", "absent.h5"), "absent.h5: there is no such file"),
    "report of nothing": (("report", "absent.h5", "-o", "r.html"), "absent.h5: there is no such"),
    "report of text": (("report", "notes.txt", "-o", "r.html"), "notes.txt: is not a readable"),
    "report to nowhere": (("report", "session"), "Missing option '--output'"),
    "report over notes": (("report", "empty", "-o", "notes.txt"), "is no page of playmill's"),
    "worker queue": (("worker", "--queue", "tpu"), "--queue is 'tpu'; choose gpu or cpu"),
    "worker without settings": (("worker", "--queue", "cpu"), "PLAYMILL_ROOTS are not set"),
    "status without settings": (("status",), "PLAYMILL_ROOTS are not set"),
    "submit without settings": (("submit", "session"), "PLAYMILL_ROOTS are not set"),
}


@pytest.mark.parametrize(("words", "message"), WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage_is_told_before_anything_starts(
    playmill: Command,
    places: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(places)
    ended = playmill(*words)
    assert (ended.status, ended.out) == (2, "")
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err
    assert not (places / "datasets" / ".playmill").exists()


def test_a_run_that_is_refused_leaves_no_temporary_folder(
    playmill: Command, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = places / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    ended = playmill("run", places / "session", "--datasets", places / "d", "--policy", "line")
    assert (ended.status, list(scratch.iterdir())) == (2, [])
    assert "'line' makes no sense" in ended.err


def test_formats_lists_a_reader_that_says_nothing_of_itself(
    playmill: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        pass

    monkeypatch.setattr("playmill.inputs.readers", lambda: {"silent": Silent()})
    assert playmill("formats").out == "silent\n"


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_log_without_a_video_is_told_and_fails_nothing(
    playmill: Command, places: Path, command: str, as_json: bool
) -> None:
    log = places / "empty" / "events.jsonl"
    log.write_text('{"time_stamp": 1.5, "action": "move", "x": 1, "y": 2}\n')
    more = ["--datasets", places / "d"] if command == "run" else []
    ended = playmill(command, log.parent, *more, *(["--json"] if as_json else []))
    assert ended.status == 0
    if as_json:
        (row,) = json.loads(ended.out)
        assert row["recording"] == str(log)
        assert "without its video" in row["skipped"]
    else:
        assert ended.out.count("without its video") == 1


def test_plan_ends_with_1_where_a_recording_would_fail(playmill: Command, places: Path) -> None:
    (places / "text.mp4").write_text("text")
    ended = playmill("plan", places / "text.mp4", "--encoder", "mean_pixel")
    assert ended.status == 1
    assert ended.out.endswith("0 recordings would be made, 1 would fail\n")
    assert playmill("plan", places / "text.mp4", "--json").status == 1


@pytest.mark.parametrize("option", ["--window-ms", "--latency-ms"])
@pytest.mark.parametrize(
    "text",
    ["", "x", "1,5", "0.0001", "1e-4", "nan", "inf", "-inf", "snan", "1e10", "9e999999",
     "1e9999999", "0x10"],
)  # fmt: skip
def test_what_is_no_time_in_ms_is_wrong_usage(
    playmill: Command, places: Path, option: str, text: str
) -> None:
    ended = playmill("run", places / "session", "--datasets", places / "d", f"{option}={text}")
    assert (ended.status, ended.out) == (2, "")
    assert f"{option} is {text!r}; give milliseconds, with at most three decimals" in ended.err
    assert f", or {'none' if option == '--window-ms' else 'auto'}" in ended.err


@pytest.mark.parametrize(
    "text",
    ["", "64", "64x", "x64", "0x64", "64x0", "-1x5", "1.5x2", "64X64", "64x64x3", "999999x9"],
)
def test_what_is_no_picture_size_is_wrong_usage(playmill: Command, places: Path, text: str) -> None:
    ended = playmill("run", places / "session", "--datasets", places / "d", f"--images={text}")
    assert (ended.status, ended.out) == (2, "")
    assert f"--images is {text!r}; give height x width, e.g. 128x128" in ended.err


def test_the_version_is_one_line(playmill: Command) -> None:
    ended = playmill("version")
    assert (ended.status, len(ended.out.splitlines())) == (0, 1)


def test_help_names_the_commands(playmill: Command) -> None:
    ended = playmill("--help")
    assert ended.status == 0
    for name in ("run", "submit", "status", "worker", "inspect", "verify"):
        assert f" {name} " in ended.out


def test_a_dataset_is_inspected_and_verified(playmill: Command, dataset: Path) -> None:
    assert playmill("verify", dataset) == Ended(0, f"{dataset}: ok\n", "")
    shown = playmill("inspect", dataset)
    assert (shown.status, shown.err) == (0, "")
    assert "150" in shown.out
    value = json.loads(playmill("inspect", "--json", dataset).out)
    assert value["frames"]["count"] == 150


@pytest.mark.parametrize(
    "name", ["a b.h5", "ünï 録画.h5", "[red]x.h5", "100%.h5", os.fsdecode(b"\xff.h5")]
)
def test_names_are_data(playmill: Command, dataset: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(dataset, tmp_path / name)
    ended = playmill("verify", tmp_path / name)
    assert (ended.status, ended.err) == (0, "")
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert ended.out == f"{tmp_path}/{shown}: ok\n"
    assert playmill("inspect", "--json", tmp_path / name).status == 0


def test_a_file_that_breaks_a_promise_is_named_and_the_others_are_checked(
    playmill: Command, dataset: Path, tmp_path: Path
) -> None:
    broken, text = tmp_path / "broken.h5", tmp_path / "text.h5"
    shutil.copy(dataset, broken)
    with h5py.File(broken, "r+") as file:
        del file["frames/pts"]
    text.write_text("no HDF5")
    ended = playmill("verify", broken, text, dataset)
    assert (ended.status, ended.err) == (1, "")
    states = [line.rpartition(": ")[2] for line in ended.out.splitlines() if line[0] != " "]
    assert states == ["broken", "broken", "ok"]
    assert "/frames/pts" in ended.out


def test_inspecting_a_dataset_without_its_arrays_is_no_traceback(
    playmill: Command, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["format"] = "playmill"
        file.attrs["schema_version"] = 1
    ended = playmill("inspect", tmp_path / "x.h5")
    assert (ended.status, ended.out) == (2, "")
    assert "x.h5" in ended.err


def test_inspect_lists_the_datasets_of_a_folder(playmill: Command, dataset: Path) -> None:
    folder = dataset.parent.parent
    lines = playmill("inspect", folder).out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        f"{min(str(dataset), os.path.relpath(dataset), key=len)}: 150 frames"
    )
    (row,) = json.loads(playmill("inspect", "--json", folder).out)
    assert row["frames"]["count"] == 150
    assert playmill("inspect", dataset.parent).out.splitlines() == lines


@pytest.mark.parametrize("name", ["STORE", "DATASETS"])
def test_a_file_in_place_of_a_folder_of_the_deployment_is_named(
    playmill: Command, places: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    values = {"BROKER_URL": "redis://localhost:1", "STORE": places / "s", "DATASETS": places / "d"}
    for key, value in (values | {"ROOTS": f"r={places}", name: places / "file"}).items():
        monkeypatch.setenv(f"PLAYMILL_{key}", str(value))
    ended = playmill("status")
    assert ended.status == 2
    assert f"PLAYMILL_{name} is {places / 'file'}: this is a file; give a folder" in ended.err


def test_an_empty_store_is_said_to_be_so(
    playmill: Command, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"BROKER_URL": "redis://localhost:1", "STORE": places / "s", "DATASETS": places / "d"}
    for key, value in (values | {"ROOTS": f"r={places}"}).items():
        monkeypatch.setenv(f"PLAYMILL_{key}", str(value))
    ended = playmill("status")
    assert (ended.status, ended.out) == (0, "")
    assert f"no jobs on the store at {places / 's'}" in ended.err


def run_process(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "playmill.cli", *words],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def library_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the library without the mill, as a wheel installs it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(
        PROJECT / "playmill", folder / "playmill", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


@pytest.mark.parametrize("verb", cli.MILL_VERBS)
def test_every_verb_of_the_mill_has_a_stand_in(verb: str) -> None:
    modules = (PROJECT / "workers" / "commands").glob("*.py")
    assert sum(module.read_text().count(f"def {verb}(") for module in modules) == 1


def test_without_the_mill_one_line_says_how_to_get_it(library_alone: Path) -> None:
    ended = run_process("run", "x", "--datasets", "d", "--no-such-option", cwd=library_alone)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "this command needs the mill, which runs from a checkout" in ended.stderr


def test_another_package_called_workers_is_not_the_mill(library_alone: Path) -> None:
    (library_alone / "workers").mkdir(exist_ok=True)
    (library_alone / "workers" / "__init__.py").touch()
    commands = library_alone / "workers" / "commands" / "__init__.py"
    commands.parent.mkdir(exist_ok=True)
    commands.write_text("raise SystemExit('another package')")
    ended = run_process("run", "x", "--datasets", "d", cwd=library_alone)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "this command needs the mill" in ended.stderr


def test_wrong_usage_is_no_traceback_in_a_process_either(tmp_path: Path) -> None:
    ended = run_process(
        "run", str(tmp_path / "absent"), "--datasets", str(tmp_path / "d"), cwd=PROJECT
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1


def test_one_that_may_not_be_read_keeps_no_other_from_being_listed(
    playmill: Command, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = dataset.parent.parent / "session_denied" / "data.h5"
    shutil.copytree(dataset.parent, denied.parent)
    opened = h5py.File

    def guarded(path: Path, *values: object, **named: object) -> h5py.File:
        if Path(path) == denied:
            raise PermissionError(13, "Unable to synchronously open file (errno = 13)")
        return opened(path, *values, **named)

    monkeypatch.setattr(h5py, "File", guarded)
    ended = playmill("inspect", dataset.parent.parent)
    assert ended.status == 1
    assert ended.out.count("frames") == 1
    says = f"playmill: {denied}: may not be read by this user; give it read permission\n"
    assert ended.err == says
    assert playmill("inspect", denied) == Ended(2, "", says)


def test_a_full_disk_is_told_with_the_folder_and_what_to_do(
    playmill: Command, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(dataset))

    monkeypatch.setattr("playmill.report.page_file.write_page", full)
    ended = playmill("report", dataset, "-o", dataset.parent / "r.html")
    assert ended.status == 1
    assert ended.err.startswith(f"playmill: {dataset.parent}: the disk is full (")
    assert "Make room there, then run the same command again" in ended.err
