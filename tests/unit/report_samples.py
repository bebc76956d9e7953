"""Datasets for the tests of pages: hostile names, a full alignment report, a video of their own."""

from __future__ import annotations

import json
from fractions import Fraction
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py

from playmill.dataset import open_dataset
from playmill.report import session_page
from playmill.report.pictures import NoPictures, PictureSource
from playmill.storage import DataStorage
from playmill.testing import make_video
from tests.unit.dataset_samples import ZERO_US, make_content, make_events

EVIL = "</style></pre></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
"""Text that becomes a script wherever it is not escaped."""
VOID = frozenset(("meta", "img", "br"))


class Outline(HTMLParser):
    """What a browser sees in a page; fails where elements are not closed as they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text of the page."""
        return " ".join(self.words)

    def names(self) -> set[str]:
        """Return the kinds of elements."""
        return {name for name, _ in self.elements}

    def values(self, attribute: str) -> list[str]:
        """Return all values of an attribute."""
        return [value for _, attrs in self.elements if (value := attrs.get(attribute)) is not None]


def make_report(**changed: Any) -> dict[str, Any]:
    """Return an alignment report with every part of it."""
    lags = list(range(-500, 501, 20))
    row = {"log": 1000, "dataset": 990, "unassigned": 10}
    sums = ("presses", "releases", "scroll_x", "scroll_y", "mouse_dx", "mouse_dy")
    return {
        "events": 259,
        "assigned": 250,
        "unassigned": 9,
        "unassigned_why": {
            "before_first_frame": 3, "after_last_frame": 4, "in_gap": 2, "beyond_window": 0,
        },
        "event_frame_distance_ms": {"p50": 16.25, "p95": 31.5, "max": 33.25},
        "coverage": 0.9876,
        "gap_fraction": 0.0123,
        "clock": {
            "source": "subtitle track", "offset_us": -123456, "drift_ppm": 12.34, "samples": 3600,
            "residual_ms": {"p50": 1.25, "p95": 3.5, "max": 19.75},
            "steps": [{"at_us": ZERO_US + 2_000_000, "by_us": 16_667}],
            "findings": ["frames are stamped one frame late"],
        },
        "lag": {
            "lag_ms": 53.5, "confidence": 0.87, "confident": True, "applied": False,
            "evidence": {}, "curve": {"lag_ms": lags, "score": [-abs(lag - 60) for lag in lags]},
        },
        "conservation": {"holds": True, **{name: row for name in sums}},
        "gates": [
            {"gate": "clock_residual_p95<20ms", "value": 3.5, "passed": True},
            {"gate": "lag<50ms", "value": 53.5, "passed": False},
            {"gate": "coverage>0.9", "value": None, "passed": None, "why": "no event"},
        ],
    } | changed  # fmt: skip


def store_report(path: Path, report: object) -> Path:
    """Give the dataset `path` an alignment report."""
    with h5py.File(path, "r+") as file:
        file["/sync"].attrs["report"] = json.dumps(report)
    return path


def make_dataset(folder: Path, num_frames: int = 150, **changes: Any) -> Path:
    """Publish a dataset without features and pictures; `changes` as in `make_content`."""
    return DataStorage(folder).write(make_content(num_frames, **changes))


def make_hostile(folder: Path, num_frames: int = 300) -> Path:
    """Publish a dataset whose every text tries to be markup, or is very long."""
    names = [EVIL, "W" * 100, "ä" * 50, *(f"key number {i}" for i in range(40))]
    events = make_events(range(ZERO_US, ZERO_US + num_frames * 33_000, 7_919), keys=names)
    path = make_dataset(
        folder,
        num_frames,
        events=events,
        session_id=f"{EVIL}\u202egpj.exe" + "x" * 300,
        metadata={"game": EVIL, "player": "p" * 400, "deep": [{EVIL: EVIL}] * 2000},
        provenance={"video": {"name": EVIL, "digest": EVIL}, EVIL: EVIL},
        warnings=[EVIL, "long " * 400, *["w"] * 300],
    )
    report = make_report(gates=[{"gate": EVIL, "value": 1, "passed": False}])
    report["unassigned_why"] = {EVIL: 3}
    report["conservation"][EVIL] = {"log": 1, "dataset": EVIL, "unassigned": None}
    report["clock"] |= {"source": EVIL, "findings": [EVIL]}
    return store_report(path, report)


def make_video_dataset(
    folder: Path, *, num_frames: int = 90, gop: int = 15, **changes: Any
) -> tuple[Path, Path]:
    """Publish a dataset of a video that shows each frame's number; return both files."""
    video = folder / "play.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    pts = [900 + i * 3000 for i in range(num_frames)]
    make_video(
        video, numbers=range(num_frames), pts=pts, time_base=Fraction(1, 90_000), gop=gop,
        size=(128, 96),
    )  # fmt: skip
    digest = sha256(video.read_bytes()).hexdigest()
    recorded = {"name": video.name, "digest": digest, "width": 128, "height": 96}
    dataset = make_dataset(
        folder / "datasets", num_frames, provenance={"video": recorded}, **changes
    )
    return dataset, video


def page_of(path: Path, source: PictureSource | None = None) -> str:
    """Return the page of the dataset `path`."""
    with open_dataset(path) as dataset:
        return session_page.page(dataset, source or NoPictures("No pictures here."))


def outline(path: Path, **options: Any) -> Outline:
    """Return what is to be seen on the page of the dataset `path`."""
    return Outline(page_of(path, **options))
