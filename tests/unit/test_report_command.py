"""`playmill report`: files appear whole, nothing else is written over, a folder is one index."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import h5py
import pytest

from playmill.config import PipelineConfig
from playmill.errors import DatasetError, UsageError
from playmill.jobs import Request
from playmill.report import command, page_file
from playmill.report.command import Wishes
from playmill.roots import RootedPath
from playmill.store import Store
from tests.unit.report_samples import (
    EVIL,
    Outline,
    make_dataset,
    make_hostile,
    make_report,
    make_video_dataset,
    store_report,
)

PLAIN = Wishes(with_pictures=False)


def write(path: Path, output: Path, wishes: Wishes = PLAIN) -> tuple[bool, list[str]]:
    said: list[str] = []
    return command.write(path, output, wishes, say=said.append), said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three datasets of two games."""
    place = tmp_path / "datasets"
    for name, game in (("one", "Doom"), ("two", "Doom"), ("three", "Breakout")):
        make_dataset(place, session_id=name, metadata={"game": game}, warnings=[])
    store_report(place / "session_two" / "data.h5", make_report())
    return place


def test_a_page_is_written_and_written_again(tmp_path: Path) -> None:
    path, output = make_dataset(tmp_path / "d"), tmp_path / "report.html"
    for _ in range(2):
        good, said = write(path, output)
        assert good
        assert said[0].startswith(f"{output}: 0.")
    assert {entry.name for entry in tmp_path.iterdir()} == {"d", "report.html"}
    assert "asked for without" in Outline(output.read_text(encoding="utf-8")).text


def test_pictures_come_of_the_video_that_is_named(tmp_path: Path) -> None:
    path, video = make_video_dataset(tmp_path)
    write(path, tmp_path / "r.html", Wishes(video=video))
    images = Outline((tmp_path / "r.html").read_text(encoding="utf-8")).values("src")
    assert images
    assert all(image.startswith("data:image/jpeg;base64,/9j/") for image in images)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89HDF", b"<p>playmill report</p>"])
def test_what_is_no_page_of_ours_is_not_written_over(tmp_path: Path, content: bytes) -> None:
    path, output = make_dataset(tmp_path / "d"), tmp_path / "notes.html"
    output.write_bytes(content)
    if not content:  # what `mktemp` leaves
        assert write(path, output)[0]
        return
    with pytest.raises(UsageError, match="exists and is no page of playmill's"):
        write(path, output)
    assert output.read_bytes() == content


def test_a_dataset_that_speaks_of_our_pages_is_none(tmp_path: Path) -> None:
    marked = '<meta name="generator" content="playmill report 1 session key">'
    path = make_dataset(tmp_path / "d", session_id=marked)
    with pytest.raises(UsageError, match="exists and is no page"):
        write(path, path)


WRONG: dict[str, tuple[str, str, Wishes, str]] = {
    "nothing there": ("absent.h5", "r.html", PLAIN, "absent.h5: there is no such file or folder"),
    "no dataset": ("notes.txt", "r.html", PLAIN, "notes.txt: is not a readable HDF5 file"),
    "no folder for it": ("d.h5", "no/r.html", PLAIN, "there is no folder no"),
    "a folder for it": ("d.h5", "empty", PLAIN, "empty: is a folder; name the page's file"),
    "nothing in it": ("empty", "r.html", PLAIN, "empty: no dataset"),
    "a video for many": ("datasets", "r.html", Wishes(video=Path("v")), "names the video of one"),
    "no store": ("d.h5", "r.html", Wishes(store=Path("empty")), "--store empty: is no store"),
    "no video": ("d.h5", "r.html", Wishes(video=Path("v.mp4")), "v.mp4: there is no such file"),
}


@pytest.mark.parametrize(("path", "output", "wishes", "message"), WRONG.values(), ids=WRONG)
def test_wrong_usage_writes_nothing(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    output: str,
    wishes: Wishes,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "session_one" / "data.h5", "d.h5")
    Path("empty").mkdir()
    Path("notes.txt").write_text("notes")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=re.escape(message)):
        write(Path(path), Path(output), wishes)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_dataset_leaves_the_old_page(tmp_path: Path) -> None:
    path, output = make_dataset(tmp_path / "d"), tmp_path / "r.html"
    write(path, output)
    old = output.read_bytes()
    with h5py.File(path, "r+") as file:
        del file["/actions/valid"]
    with pytest.raises(DatasetError, match="/actions/valid is missing"):
        write(path, output)
    assert output.read_bytes() == old


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "r.html"
    page_file.write_page(output, "old")

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        page_file.write_page(output, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]
    assert output.read_text() == "old"


def test_a_folder_becomes_an_index_with_a_page_for_each(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "index.html"
    good, said = write(folder, output)
    assert good
    assert len(said) == 4
    found = Outline(output.read_text(encoding="utf-8"))
    links = [href for href in found.values("href") if not href.startswith("#")]
    assert sorted(links) == [f"index-pages/session_{name}.html" for name in ("one", "three", "two")]
    assert all((tmp_path / unquote(link)).is_file() for link in links)
    for expected in ("Doom", "Breakout", "1 session to look at", "lag<50ms", "1 gate failed"):
        assert expected in found.text
    assert "the mill's store is not in this folder" in found.text


def test_hours_are_summed_by_game(folder: Path, tmp_path: Path) -> None:
    write(folder, tmp_path / "i.html")
    page = (tmp_path / "i.html").read_text(encoding="utf-8")
    games = page[page.index('id="games"') : page.index('id="gates"')]
    rows = re.findall(r"<tr[^>]*><th scope=\"row\"[^>]*>(.*?)</th>(.*?)</tr>", games)
    cells = {name: re.findall(r"<td[^>]*>(.*?)</td>", rest) for name, rest in rows}
    assert cells["Doom"][:4] == ["2", "0.00", "300", "518"]
    assert cells["Breakout"][:3] == ["1", "0.00", "150"]


def test_only_what_changed_is_drawn_again(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "index.html"
    write(folder, output)
    shutil.rmtree(folder / "session_one")
    make_dataset(folder, session_id="one", dataset_key="key-2")
    good, said = write(folder, output)
    assert good
    assert [line.split(": ")[0] for line in said] == [
        str(tmp_path / "index-pages" / "session_one.html"),
        str(output),
    ]


def test_what_cannot_be_read_is_listed_and_told(folder: Path, tmp_path: Path) -> None:
    (folder / "session_three" / "data.h5").write_text("no HDF5")
    with h5py.File(folder / "session_two" / "data.h5", "r+") as file:
        del file["/actions/mouse"]
    good, said = write(folder, tmp_path / "index.html")
    assert not good
    assert said[-1].endswith("1 dataset, 2 unreadable")
    text = Outline((tmp_path / "index.html").read_text(encoding="utf-8")).text
    assert "is not a readable HDF5 file" in text
    assert "/actions/mouse is missing" in text


def fail(store: Store, name: str, *, submitted_ns: int = 1, reason: str = "no clock") -> Request:
    request = Request.make(
        RootedPath("local", name), (), PipelineConfig(chunk_frames=submitted_ns),
        submitted_ns=submitted_ns,
    )  # fmt: skip
    store.submit(request)
    store.end(request.job_id, "failed", {"reason": reason, "failed_s": 1.7e9})
    return request


def test_failures_of_the_mill_are_listed(folder: Path, tmp_path: Path) -> None:
    store = Store(folder / ".playmill")
    fail(store, "rec/bad", reason=f"broken {EVIL}")
    fail(store, "rec/mended", submitted_ns=1)
    mended = Request.make(
        RootedPath("local", "rec/mended"), (), PipelineConfig(chunk_frames=7), submitted_ns=2
    )
    store.submit(mended)
    store.end(mended.job_id, "published", {"dataset": "session_x/data.h5"})
    (folder / ".playmill" / "jobs" / ("f" * 64)).mkdir()
    write(folder, tmp_path / "index.html")
    found = Outline((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "1 failed" in found.text
    assert "local:rec/bad" in found.text
    assert "2023-11-14 22:13:20 UTC" in found.text
    assert "rec/mended" not in found.text
    assert "script" not in found.names()


def test_a_store_elsewhere_can_be_named(folder: Path, tmp_path: Path) -> None:
    fail(Store(tmp_path / "store"), "rec/bad")
    write(folder, tmp_path / "index.html", Wishes(store=tmp_path / "store", with_pictures=False))
    assert "rec/bad" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_hostile_names_are_links_that_lead_somewhere(tmp_path: Path) -> None:
    path = make_hostile(tmp_path / "datasets")
    odd = path.parent.with_name('session_a "b" #1?<i>%20;ü')
    path.parent.rename(odd)
    write(tmp_path / "datasets", tmp_path / "index.html")
    found = Outline((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert not found.names() & {"script", "img", "i"}
    (link,) = [href for href in found.values("href") if not href.startswith("#")]
    assert (tmp_path / unquote(link)).is_file()
