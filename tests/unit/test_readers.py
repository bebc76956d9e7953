"""All readers together: each finds its own recordings, and an installed package adds its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from playmill.inputs import READERS
from playmill.recording.discovery import discover
from tests.conftest import PROJECT

GUIDE = PROJECT / "docs" / "readers.md"


def test_the_examples_of_the_project_are_claimed_by_no_reader_but_their_own() -> None:
    for path in discover([PROJECT / "examples" / "recordings"]):
        video = path / "video.mp4" if path.is_dir() else path
        assert [name for name, reader in READERS.items() if reader.find(video)] == []


@pytest.mark.parametrize("name", READERS)
def test_a_reader_claims_nothing_where_there_is_nothing(tmp_path, name) -> None:
    assert READERS[name].find(tmp_path / "recording.mp4") is None
    assert READERS[name].find(tmp_path / "none" / "video.mkv") is None


@pytest.mark.parametrize("name", READERS)
def test_the_guide_has_a_section_for_every_reader(name) -> None:
    assert f"`{name}`" in GUIDE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the code blocks of one language in the guide's part on readers of one's own."""
    part = GUIDE.read_text(encoding="utf-8").partition("## A reader of your own")[2]
    return re.findall(rf"```{language}\n(.*?)```", part, re.S)


SCRIPT = """
from pathlib import Path
from playmill.recording import read_recording
from playmill.inputs import readers, reader_for
recording = read_recording(Path("match.mp4"), identity="match.mp4")
events = reader_for(recording.reader).read(recording.log_files)
print(list(readers())[-1], recording.reader, recording.log.name, events.timestamp_us.tolist(),
      events.codes, events.rejected.reason)
"""


def test_the_example_of_a_reader_of_ones_own_runs_as_an_installed_package(tmp_path) -> None:
    # Given the package of the guide, laid out as an installer would.
    code, (table, *_) = blocks("python")[0], blocks("toml")
    site = tmp_path / "site"
    info = site / "pad_log_reader-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "pad_log_reader.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pad-log-reader\nVersion: 1.0\n")
    name, value = re.search(r'^(\S+) = "(pad_log_reader:\S+)"$', table, re.M).groups()  # type: ignore[union-attr]
    (info / "entry_points.txt").write_text(f"[playmill.readers]\n{name} = {value}\n")
    # And a recording in its format.
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "match.mp4").write_bytes(b"")
    (folder / "match.padlog").write_text("#padlog 1\n1000 + A\n1500 - A\nwhat\n")
    # When another process reads it.
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={"PYTHONPATH": f"{site}:{PROJECT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Then its reader was found, and took every line for what it is.
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == (
        "pad-log pad-log match.padlog [1000000, 1500000] ('A',)"
        " ('is not a time, a sign and a button',)"
    )


def test_the_example_of_a_mapping_is_read(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8").partition("## `generic`")[2]
    mapping, log = re.findall(r"```(?:json|csv)\n(.*?)```", text, re.S)[:2]
    (tmp_path / "playmill-mapping.json").write_text(mapping)
    (tmp_path / "match.csv").write_text(log)
    reader = READERS["generic"]
    files = reader.find(tmp_path / "match.mp4")
    assert files is not None
    events = reader.read(files)
    assert len(events) == len(log.splitlines()) - 1
    assert events.rejected.total == 0
