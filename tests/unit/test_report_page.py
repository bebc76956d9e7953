"""The page of a dataset: whole, escaped, bounded, and there for every dataset."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from playmill.dataset import open_dataset
from playmill.errors import DatasetError
from playmill.inputs.events import InputEvents
from playmill.report import session_page
from playmill.report.pictures import NoPictures, StoredPictures
from playmill.schema import frame_flag
from playmill.storage import DataStorage
from tests.unit.dataset_samples import (
    ZERO_US,
    make_content,
    make_events,
    make_features,
    make_images,
)
from tests.unit.report_samples import (
    EVIL,
    Outline,
    make_dataset,
    make_hostile,
    make_report,
    outline,
    page_of,
    store_report,
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a dataset that wants to be a script."""
    return page_of(make_hostile(tmp_path_factory.mktemp("hostile")))


def test_hostile_text_stays_text(hostile: str) -> None:
    found = Outline(hostile)
    assert not found.names() & {"script", "iframe", "object", "link", "form"}
    assert not [name for _, attrs in found.elements for name in attrs if name.startswith("on")]
    for where in ("</style></pre>", "alert(1)", r"\u202egpj.exe"):
        assert where in found.text
    assert "\u202e" not in hostile
    assert EVIL not in hostile


def test_a_page_asks_for_nothing(hostile: str) -> None:
    found = Outline(hostile)
    addresses = [*found.values("src"), *found.values("href")]
    assert addresses
    assert all(re.match("(#[a-z]+|data:image/jpeg;base64,)", address) for address in addresses)
    policies = [attrs for _, attrs in found.elements if "http-equiv" in attrs]
    assert [attrs["http-equiv"] for attrs in policies] == ["Content-Security-Policy"]
    assert str(policies[0]["content"]).startswith("default-src 'none';")
    assert "url(" not in hostile
    assert "@import" not in hostile


def test_hostile_text_does_not_make_a_page_long(hostile: str) -> None:
    assert len(hostile) < 300_000
    assert "more characters)" in hostile


def test_every_part_of_the_report_is_on_the_page(tmp_path: Path) -> None:
    found = outline(store_report(make_dataset(tmp_path), make_report()))
    for expected in (
        "1 gate failed", "input counts add up", "98.8 % of events within the video have a frame",
        "1 warning", "the log is short", "clock_residual_p95<20ms", "not checked",
        "coverage>0.9 is not checked: no event", "53.5 ms", "confident",
        "98.8 %", "3 before the first frame", "p50 16.2 ms, p95 31.5 ms, max 33.2 ms",
        "subtitle track", "-123.456 ms", "+12.34 ppm", "frames are stamped one frame late",
        "0:01.990", "+16.67 ms", "mouse dx", "following, window 100 ms", "Doom – ünï", "holds",
    ):  # fmt: skip
        assert expected in found.text, expected
    assert not [text for text in found.words if text.startswith("This dataset holds no alignment")]
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ids} == set(found.values("href"))


def marks(found: Outline) -> dict[str, str]:
    """Return the marks in the head of a page, with their colours."""
    kinds = [str(value) for value in found.values("class") if str(value).startswith("mark ")]
    texts = [word for word in found.words if word.strip()]
    first = texts.index("Playmill dataset") + 2
    return dict(zip(texts[first:], [kind.removeprefix("mark ") for kind in kinds], strict=False))


@pytest.mark.parametrize(
    ("coverage", "text", "colour"),
    [(1.0, "100 %", "good"), (0.9999, "over 99.9 %", "warn"), (0.9, "90 %", "bad")],
)
def test_green_says_that_every_event_has_a_frame_only_where_that_is_so(
    tmp_path: Path, coverage: float, text: str, colour: str
) -> None:
    report = make_report(coverage=coverage, gates=[])
    found = marks(outline(store_report(make_dataset(tmp_path), report)))
    assert found[f"{text} of events within the video have a frame"] == colour
    assert found["input counts add up"] == "good"
    assert not any("rows valid" in mark for mark in found)


def test_a_page_of_a_dataset_that_is_hardly_valid_looks_so(tmp_path: Path) -> None:
    found = marks(outline(make_dataset(tmp_path, window_us=20_000)))
    assert found["0 of 150 rows valid"] == "bad"


def test_without_a_report_its_parts_are_left_out(tmp_path: Path) -> None:
    found = outline(make_dataset(tmp_path))
    assert not {"gates", "lag", "clock", "conservation"} & set(found.values("id"))
    assert "holds no alignment report" in found.text
    assert "No pictures here." in found.text


@pytest.mark.parametrize("num_frames", [1, 2, 150])
@pytest.mark.parametrize("clock", ["unix_us", "stream"])
def test_an_empty_log_gives_a_page(tmp_path: Path, num_frames: int, clock: str) -> None:
    path = make_dataset(
        tmp_path, num_frames, events=InputEvents.none(), window_us=None, clock=clock, metadata={}
    )
    found = outline(path)
    assert "The log has no events." in found.text
    assert "window none" in found.text
    assert ("Recorded" in found.text) == (clock == "unix_us")


def test_one_frame_with_events(tmp_path: Path) -> None:
    events = make_events([ZERO_US + 10_000 + i for i in range(6)])
    found = outline(make_dataset(tmp_path, 1, events=events))
    assert "2 presses in this strip" in found.text


def test_pictures_have_words_for_those_who_do_not_see_them(tmp_path: Path) -> None:
    path = DataStorage(tmp_path).write(
        make_content(), features=[make_features()], images=make_images()
    )
    found = outline(path, source=StoredPictures())
    alts = found.values("alt")
    assert len(alts) >= 4
    assert any(re.fullmatch(r"Frame \d+ at 0:0\d\.\d{3}; down: .*; .+", alt) for alt in alts)
    pictures = [attrs for name, attrs in found.elements if name == "svg"]
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in pictures)


def test_what_is_held_stands_under_its_picture(tmp_path: Path) -> None:
    path = DataStorage(tmp_path).write(make_content(), images=make_images())
    found = outline(path, source=StoredPictures())
    with open_dataset(path) as dataset:
        names, keys = dataset.key_names, dataset.actions("keys")
        for alt in found.values("alt"):
            shown = re.match(r"Frame (\d+) at .*; down: (.*?);", alt)
            assert shown is not None
            held = {name for name, down in zip(names, keys[int(shown[1])], strict=True) if down}
            listed = [name for name in shown[2].split(", ") if not name.endswith("(tapped)")]
            assert set(listed) - {"nothing"} == held


def test_gaps_and_flags_are_named(tmp_path: Path) -> None:
    pts = np.arange(150, dtype=np.int64) * 3000 + 900
    pts[80:] += 90_000
    flags = np.zeros(150, np.uint8)
    flags[80] = frame_flag("gap_before")
    flags[3:5] = frame_flag("black")
    found = outline(make_dataset(tmp_path, pts=pts, flags=flags))
    for expected in ("One gap, 1 s without pictures", "1 gap_before, 2 black", "black pictures"):
        assert expected in found.text


def test_a_page_does_not_grow_with_the_session(tmp_path: Path) -> None:
    sizes = []
    for num_frames in (3_000, 60_000):
        events = make_events(
            range(ZERO_US, ZERO_US + num_frames * 33_333, 50_021), keys=list("abcdefgh")
        )
        sizes.append(
            len(page_of(make_dataset(tmp_path / str(num_frames), num_frames, events=events)))
        )
    assert sizes[1] < sizes[0] * 1.25
    assert sizes[1] < 600_000


def test_a_damaged_dataset_is_no_page(tmp_path: Path) -> None:
    path = make_dataset(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["/actions/mouse"]
    with open_dataset(path) as dataset, pytest.raises(DatasetError, match="/actions/mouse is miss"):
        session_page.page(dataset, NoPictures(""))
