from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from playmill.alignment.gates import evaluate, parse_gate
from playmill.alignment.report import alignment_report
from playmill.command.verify_process import verify_apart
from playmill.decoding.motion import COLUMNS
from playmill.reading import row_reader
from playmill.storage import DataStorage
from playmill.verify import report_beside, text_digest, verify
from tests.unit.dataset_samples import make_content, make_events, make_features, make_images


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DataStorage(tmp_path_factory.mktemp("sound")).write(
        make_content(), features=[make_features()], images=make_images()
    )


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path))


def change(path: Path, edit: Callable[[h5py.File], None], *, seal: bool = True) -> None:
    """Change a file behind the format's back; `seal` keeps the digest of the text right."""
    with h5py.File(path, "r+") as file:
        edit(file)
        if seal:
            file.attrs["text_digest"] = text_digest(file)


def replace(name: str, values: Any, **how: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        attrs = dict(file[name].attrs)
        del file[name]
        node = file.create_dataset(name, data=values, **how)
        for key, value in attrs.items():
            node.attrs[key] = value

    return edit


def put(name: str, index: Any, value: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        node = file[name]
        node[index] = value

    return edit


def set_attr(name: str, attr: str, value: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[name].attrs[attr] = value

    return edit


def test_a_sound_file_has_no_problems(path: Path) -> None:
    assert verify(path) == []


@pytest.mark.parametrize("policy", ["following", "preceding", "nearest", "window"])
@pytest.mark.parametrize(("window_us", "latency_us"), [(100_000, 0), (1_500, -30_000)])
def test_assignment_and_actions_follow_for_every_policy(
    tmp_path: Path, policy: str, window_us: int, latency_us: int
) -> None:
    content = make_content(policy=policy, window_us=window_us, latency_us=latency_us)
    assert verify(DataStorage(tmp_path).write(content)) == []


def test_no_window_is_stored_as_infinity(tmp_path: Path) -> None:
    path = DataStorage(tmp_path).write(make_content(window_us=None))
    with h5py.File(path) as file:
        assert file["/sync"].attrs["window_ms"] == np.inf
    assert verify(path) == []


FORM = {
    "array missing": (lambda f: f.__delitem__("/sync/events"), "/sync/events is missing"),
    "group missing": (lambda f: f.__delitem__("/sync"), "group /sync is missing"),
    "array added": (
        lambda f: f.create_dataset("/frames/index", data=[1]),
        "/frames/index is not of the format",
    ),
    "bad feature key": (lambda f: f.move("/features/encoder-a", "/features/a b"), "'a b' is no"),
    "attribute missing": (
        lambda f: f["/sync"].attrs.__delitem__("policy"),
        "/sync: attribute policy is missing",
    ),
    "attribute added": (set_attr("/sync", "mood", "good"), "attribute mood is not of the format"),
    "attribute type": (set_attr("/sync", "assigned", "many"), "not one int64"),
    "fixed-length text": (set_attr("/", "clock", np.bytes_(b"unix_us")), "variable-length utf-8"),
    "metadata not JSON": (set_attr("/", "metadata", "{"), "metadata is not JSON"),
    "dtype": (replace("/sync/frame", np.zeros(259, np.int32)), "int32, not int64"),
    "rank": (replace("/actions/keys", np.zeros(150, np.uint8)), r"not \(N, K\)"),
    "length": (replace("/frames/flags", np.zeros(149, np.uint8)), "expected N = 150"),
    "no checksum": (
        replace("/frames/flags", np.zeros(150, np.uint8), chunks=(150,), compression="gzip"),
        "filters of labels",
    ),
    "contiguous": (replace("/features/encoder-a", np.zeros((150, 24), np.float16)), "filters of"),
}


@pytest.mark.parametrize(("edit", "problem"), FORM.values(), ids=FORM.keys())
def test_a_broken_form_is_found(path: Path, edit: Any, problem: str) -> None:
    change(path, edit)
    assert_found(path, problem)


def assert_found(path: Path, problem: str) -> None:
    problems = verify(path)
    assert any(re.search(problem, line) for line in problems), problems


def report(*path: str | int, value: Any) -> Callable[[h5py.File], None]:
    """Change one value of the alignment report."""

    def edit(file: h5py.File) -> None:
        whole = json.loads(file["/sync"].attrs["report"])
        inner = whole
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        file["/sync"].attrs["report"] = json.dumps(whole)

    return edit


REPORT = {
    "assigned": (report("assigned", value=1), "the report says assigned is 1, but the arrays say"),
    "unassigned": (report("unassigned", value=-1), "the report says unassigned is -1, but"),
    "why": (report("unassigned_why", "in_gap", value=9), r"says unassigned_why is .*\"in_gap\": 9"),
    "valid rows": (report("valid_frames", value=150), "says valid_frames is 150, but"),
    "interval": (report("frame_interval_ms", value=10.0), "says frame_interval_ms is 10.0, but"),
    "coverage": (report("coverage", value=0.5), "says coverage is 0.5, but the arrays say 1.0"),
    "gaps": (report("gap_fraction", value=0.1), "says gap_fraction is 0.1, but the arrays say 0.0"),
    "distance": (report("event_frame_distance_ms", "p95", value=0.0), "event_frame_distance_ms is"),
    "audit": (report("conservation", "presses", "log", value=0), "says conservation is"),
    "gate": (report("gates", 0, "passed", value=False), "says gates is"),
    "gate's value": (report("gates", 0, "value", value=0.99), "says gates is"),
    "no gate": (report("gates", 0, "gate", value="luck>1"), "cannot be read: UsageError"),
    "warnings": (report("warnings", value=["another"]), "report's warnings are not the last"),
    "no report": (set_attr("/sync", "report", "[1]"), "says assigned is null, but the arrays say"),
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with its alignment report."""
    content = make_content()
    arrays = (content.timestamp_us, content.flags, content.events, content.alignment)
    found = alignment_report(*arrays, content.actions)
    found["gates"] = evaluate([parse_gate("coverage>0.9")], found)
    found["warnings"] = content.warnings[-1:]
    return DataStorage(tmp_path_factory.mktemp("reported")).write(replaced(content, report=found))


@pytest.mark.parametrize(("edit", "problem"), REPORT.values(), ids=REPORT.keys())
def test_a_report_that_is_not_that_of_the_arrays_is_found(
    reported: Path, tmp_path: Path, edit: Any, problem: str
) -> None:
    path = Path(shutil.copy(reported, tmp_path))
    assert verify(path) == []
    change(path, edit)
    assert_found(path, problem)


@pytest.mark.parametrize("count", [0, 1])
def test_some_none_or_all_warnings_are_the_report_s(
    reported: Path, tmp_path: Path, count: int
) -> None:
    path = Path(shutil.copy(reported, tmp_path))
    change(path, report("warnings", value=["the log is short"][:count]))
    assert verify(path) == []
    change(path, report("warnings", value=["the log is short"] * 2))
    assert_found(path, "report's warnings are not the last")


def test_a_report_beside_that_is_another_is_found(reported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reported.parent, tmp_path / "session_s-1"))
    path, beside = folder / reported.name, folder / "alignment.json"
    assert report_beside(path) == []
    for text in (beside.read_text().replace('"assigned": ', '"assigned": 1'), "{", "[1]"):
        beside.write_text(text)
        (problem,) = report_beside(path)
        assert problem.startswith("alignment.json beside it is not the report that the dataset")
    beside.unlink()
    assert report_beside(path) == []


MOTION = {
    "infinite": ((7, 4), np.inf),
    "partly unknown": ((7, 4), np.nan),
    "the first known": (0, 0.5),
    "change below 0": ((7, COLUMNS.index("change")), -0.5),
    "change above 255": ((7, COLUMNS.index("change")), 256),
}


@pytest.mark.parametrize(("place", "value"), MOTION.values(), ids=MOTION.keys())
def test_motion_that_is_none_is_found(path: Path, place: Any, value: float) -> None:
    change(path, put("/frames/motion", place, value))
    frame = place[0] if isinstance(place, tuple) else place
    assert_found(path, f"/frames/motion of frame {frame} is none: a row is finite")


def test_motion_may_be_unknown_as_a_whole(path: Path) -> None:
    change(path, put("/frames/motion", 7, np.nan))
    assert verify(path) == []


MEANING = {
    "times": (put("/frames/timestamp_us", 7, 1), "does not increase strictly at frame 7"),
    "formula": (put("/frames/timestamp_us", -1, 2**60), r"by its pts \d"),
    "time base": (set_attr("/frames/pts", "time_base", "1/1000"), r"by its pts \d"),
    "time base zero": (set_attr("/frames/pts", "time_base", "1/0"), "cannot be read"),
    "flag bits": (put("/frames/flags", 3, 128), "bits without a name"),
    "flag names": (set_attr("/frames/flags", "names", ["a"]), "names are not damaged"),
    "clock": (set_attr("/", "clock", "tai"), "clock is 'tai'"),
    "no video": (set_attr("/", "provenance", "{}"), "does not name the video"),
    "warnings": (set_attr("/", "warnings", "{}"), "warnings is not a list"),
    "event order": (put("/inputs/timestamp_us", 3, 0), "timestamp_us is not ascending"),
    "code": (put("/inputs/code", 0, 2), "/inputs/code has values beyond"),
    "code below": (put("/inputs/code", 0, -2), "/inputs/code has values beyond"),
    "device": (put("/inputs/device", 0, 4), "/inputs/device has values beyond"),
    "other device": (put("/inputs/device", 0, 1), "names a code of another device"),
    "code twice": (put("/inputs/codes", 1, "a"), "names one twice"),
    "raw offsets": (put("/inputs/raw_offsets", 1, -1), "raw_offsets does not ascend"),
    "rejected": (set_attr("/inputs/rejected_line", "total", np.int64(1)), "fewer than are kept"),
    "frame": (put("/sync/frame", 20, 0), "/sync/frame does not follow"),
    "offsets": (put("/sync/offsets", 20, 0), "/sync/offsets does not follow"),
    "events": (put("/sync/events", 20, 0), "/sync/events does not follow"),
    "policy": (set_attr("/sync", "policy", "nearest"), "does not follow"),
    "policy name": (set_attr("/sync", "policy", "best"), "policy is 'best'"),
    "latency": (set_attr("/sync", "latency_ms", 40.0), "does not follow"),
    "assigned": (set_attr("/sync", "assigned", np.int64(1)), "assigned is 1, but"),
    "repeats": (set_attr("/sync", "auto_repeats", np.int64(9)), "auto_repeats is 9, but"),
    "held": (put("/actions/keys", (50, 0), 7), "/actions/keys does not follow"),
    "presses": (put("/actions/key_presses", (50, 0), 7), "/actions/key_presses does not"),
    "mouse": (put("/actions/mouse", (50, 0), 0.5), "/actions/mouse does not follow"),
    "valid": (put("/actions/valid", 50, 0), "/actions/valid does not follow"),
    "columns": (set_attr("/actions/keys", "names", ["w", "a"]), "names do not follow"),
}


@pytest.mark.parametrize(("edit", "problem"), MEANING.values(), ids=MEANING.keys())
def test_a_broken_promise_is_found(path: Path, edit: Any, problem: str) -> None:
    change(path, edit)
    assert_found(path, problem)


def test_changed_text_is_found(path: Path) -> None:
    change(path, set_attr("/", "session_id", "s-2"), seal=False)
    assert_found(path, "text_digest differs")


def test_changed_text_of_features_is_found(path: Path) -> None:
    change(path, set_attr("/features/encoder-a", "encoder", "another"))
    assert_found(path, "/features/encoder-a: the text is not the one that was written")


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_found(path: Path, value: float) -> None:
    change(path, put("/features/encoder-a", (149, 23), value))
    assert verify(path) == ["/features/encoder-a holds values that are not finite"]


@pytest.mark.parametrize(
    "name", ["/features/encoder-a", "/frames/image", "/frames/motion", "/actions/keys"]
)
def test_a_flipped_bit_in_an_array_is_found(path: Path, name: str) -> None:
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(0)
    for place in (0, chunk.size // 2, chunk.size - 1):
        data = bytearray(path.read_bytes())
        data[chunk.byte_offset + place] ^= 16
        copy = path.with_name(f"{place}.h5")
        copy.write_bytes(data)
        assert_found(copy, f"{name} is damaged")


def test_a_flipped_bit_in_metadata_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"gameplay-session/1") + 3] ^= 1
    path.write_bytes(data)
    assert_found(path, "text_digest differs")


def test_a_chunk_that_is_missing_is_found(path: Path) -> None:
    def edit(file: h5py.File) -> None:
        attrs, values = dict(file["/frames/flags"].attrs), file["/frames/flags"]
        how = {"chunks": values.chunks, "shuffle": True, "fletcher32": True, "compression": "gzip"}
        del file["/frames/flags"]
        node = file.create_dataset("/frames/flags", (150,), np.uint8, **how)
        node.attrs.update(attrs)

    change(path, edit)
    assert_found(path, "/frames/flags lacks chunks")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_not_hdf5_has_one_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(content)
    problems = verify(tmp_path / "x.h5")
    assert len(problems) == 1
    assert "not a readable HDF5 file" in problems[0]


def test_what_is_missing_or_a_folder_has_one_problem(tmp_path: Path) -> None:
    assert "no such dataset" in verify(tmp_path / "x.h5")[0]
    assert "is a folder" in verify(tmp_path)[0]


def test_hdf5_that_is_no_dataset_has_one_problem(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data", data=[1, 2, 3])
    assert verify(tmp_path / "x.h5") == ["is no Playmill dataset: attribute format is None"]


def test_a_file_cut_anywhere_is_found(path: Path) -> None:
    data = path.read_bytes()
    for size in random.Random(0).sample(range(len(data)), 20):
        path.write_bytes(data[:size])
        assert verify(path) != []


def test_large_arrays_are_read_in_blocks_of_whole_chunks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_reader, "BLOCK_BYTES", 1)
    assert verify(path) == []
    with h5py.File(path) as file:
        node = file["/features/encoder-a"]
        for found in (row_reader.blocks(node), row_reader.RowReader(node).chunks()):
            assert [len(block) for block in found] == [64, 64, 22]


def test_a_log_of_one_event_and_one_frame_is_checked(tmp_path: Path) -> None:
    content = make_content(1, events=make_events([1_760_000_000_010_000]))
    path = DataStorage(tmp_path).write(content, features=[make_features(1)])
    assert verify(path) == []


def test_a_file_can_be_checked_in_a_process_of_its_own(path: Path) -> None:
    assert verify_apart(path) == []
    change(path, set_attr("/", "session_id", "s-2"), seal=False)
    assert verify_apart(path) == verify(path) != []


def test_a_file_on_which_hdf5_hangs_has_that_problem(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(b"GCOL") + 16  # the first string in the heap: index, count, zeros, length
    data[place + 8 : place + 16] = (1025).to_bytes(8, "little")
    path.write_bytes(data)
    problems = verify_apart(path, start_s=3)
    assert len(problems) == 1
    assert "is damaged" in problems[0]
