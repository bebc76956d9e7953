"""Inbox: new, changed and finished recordings are told from those that are left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playmill.config import PipelineConfig
from playmill.jobs import Request
from playmill.nights.inbox import Findings, is_temporary, look
from playmill.roots import Roots
from tasks.submit import make_request
from tests.unit.job_samples import make_session

NOW_S = 1_800_000_000.0
OLD_S = NOW_S - 86_400
SETTLE_S = 600.0


def age(top: Path, when_s: float = OLD_S) -> None:
    """Give everything under a folder, and itself, the same time of change."""
    for path in (*top.rglob("*"), top):
        os.utime(path, (when_s, when_s), follow_symlinks=False)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """An inbox with one finished recording, `good`."""
    make_session(tmp_path / "inbox" / "good")
    age(tmp_path / "inbox")
    return tmp_path / "inbox"


def look_into(*inboxes: Path, known: set[str] | None = None) -> Findings:
    """Look, under the one root that holds the first inbox."""
    roots = Roots({"r": inboxes[0].parent})

    def request(path: Path) -> Request:
        return make_request(path, PipelineConfig(), roots)

    return look(
        inboxes,
        make_request=request,
        is_known=(known or set()).__contains__,
        now_s=NOW_S,
        settle_s=SETTLE_S,
    )


def names(findings: Findings) -> list[str]:
    """Return the recordings that would be submitted."""
    return [request.recording.path for request in findings.requests]


def test_a_finished_recording_is_taken_and_a_known_one_is_not(inbox: Path) -> None:
    first = look_into(inbox)
    assert (names(first), first.known, first.skipped) == (["inbox/good"], 0, [])
    again = look_into(inbox, known={first.requests[0].job_id})
    assert (names(again), again.known, again.found) == ([], 1, {str(inbox): 1})


def test_a_log_without_its_video_is_told_and_is_no_recording(inbox: Path) -> None:
    log = inbox / "events.jsonl"
    log.write_text('{"time_stamp": 1.5, "action": "move", "x": 1, "y": 2}\n')
    age(inbox)
    findings = look_into(inbox, inbox)
    assert names(findings) == ["inbox/good"]
    ((name, why),) = findings.lone_logs
    assert (name, findings.skipped) == (str(log), [])
    assert "an input log (ducktrack) without its video" in why
    assert findings.problems == []


@pytest.mark.parametrize("name", ["video.mp4", "inputs.jsonl", "session.json"])
def test_a_source_that_was_touched_makes_the_recording_new(inbox: Path, name: str) -> None:
    known = {request.job_id for request in look_into(inbox).requests}
    os.utime(inbox / "good" / name, (OLD_S + 1, OLD_S + 1))
    assert names(look_into(inbox, known=known)) == ["inbox/good"]


@pytest.mark.parametrize("name", ["video.mp4", "inputs.jsonl", "session.json", "."])
def test_what_changed_lately_is_left_alone_and_named(inbox: Path, name: str) -> None:
    changed = inbox / "good" / name
    os.utime(changed, (NOW_S - 599, NOW_S - 599))
    ((recording, why),) = look_into(inbox).skipped
    assert recording == "r:inbox/good"
    assert why == f"{changed.name} was changed 599 s ago, less than 600 s"
    os.utime(changed, (NOW_S - 600, NOW_S - 600))
    assert names(look_into(inbox)) == ["inbox/good"]


def test_what_will_change_in_the_future_is_left_alone(inbox: Path) -> None:
    os.utime(inbox / "good" / "video.mp4", (NOW_S + 60, NOW_S + 60))
    ((_, why),) = look_into(inbox).skipped
    assert why == "video.mp4 was last changed in the future, by the clock of this machine"


@pytest.mark.parametrize(
    "name",
    [
        *("video.mp4.part", "video.mp4.crdownload", "upload.TMP", "video.mp4.aria2", "notes.txt~"),
        *(".video.mp4.Ab12Cd", ".rsync-partial"),
    ],
)
def test_a_recording_beside_a_temporary_file_is_not_finished(inbox: Path, name: str) -> None:
    (inbox / "good" / name).touch()
    age(inbox)
    ((_, why),) = look_into(inbox).skipped
    assert why == f"{name} beside it: something is still being written"
    (inbox / "good" / name).unlink()
    age(inbox)
    assert names(look_into(inbox)) == ["inbox/good"]


@pytest.mark.parametrize("name", [".DS_Store", "._video.mp4", ".nfs0001", "parts.txt", "tmp"])
def test_other_files_beside_it_do_not_matter(inbox: Path, name: str) -> None:
    (inbox / "good" / name).touch()
    age(inbox)
    assert names(look_into(inbox)) == ["inbox/good"]
    assert not is_temporary(name)


def test_pictures_that_still_arrive_keep_their_recording_back(inbox: Path) -> None:
    folder = inbox / "stills"
    make_session(folder, video={"dir": "pictures", "format": "png"})
    (folder / "pictures").mkdir()
    (folder / "pictures" / "1000.png").touch()
    age(inbox)
    assert names(look_into(inbox)) == ["inbox/good", "inbox/stills"]
    os.utime(folder / "pictures" / "1000.png", (NOW_S - 5, NOW_S - 5))
    assert look_into(inbox).skipped[0][0] == "r:inbox/stills"
    (folder / "pictures" / "2000.png.part").touch()
    age(inbox)
    assert look_into(inbox).skipped[0][1].startswith("2000.png.part beside it")


@pytest.mark.parametrize("missing", ["video.mp4", "inputs.jsonl"])
def test_a_recording_without_a_file_that_it_names_is_taken_once_nothing_changes(
    inbox: Path, missing: str
) -> None:
    (inbox / "good" / missing).unlink()
    age(inbox)
    os.utime(inbox / "good", (NOW_S - 60, NOW_S - 60))
    assert len(look_into(inbox).skipped) == 1
    age(inbox)
    without = look_into(inbox)
    assert names(without) == ["inbox/good"]
    # When the file has come, it is another recording than the one that failed.
    (inbox / "good" / missing).touch()
    age(inbox)
    assert names(look_into(inbox, known={without.requests[0].job_id})) == ["inbox/good"]


def test_an_empty_video_is_taken_so_that_its_job_says_what_is_wrong(inbox: Path) -> None:
    (inbox / "good" / "video.mp4").write_bytes(b"")
    age(inbox, NOW_S - 1)
    assert len(look_into(inbox).skipped) == 1
    age(inbox)
    assert names(look_into(inbox)) == ["inbox/good"]


def test_broken_json_is_taken_too(inbox: Path) -> None:
    (inbox / "good" / "session.json").write_text("{")
    age(inbox)
    assert names(look_into(inbox)) == ["inbox/good"]


def test_bare_videos_wait_for_their_own_temporary_files_alone(inbox: Path) -> None:
    for name in ("a.mp4", "b.mp4", "b.mp4.part", "ab.mp4", ".c.mkv.x1", "c.mkv", "d.mp4.part"):
        (inbox / name).touch()
    age(inbox)
    findings = look_into(inbox)
    assert names(findings) == ["inbox/a.mp4", "inbox/ab.mp4", "inbox/good"]
    assert [recording for recording, _ in findings.skipped] == ["r:inbox/b.mp4", "r:inbox/c.mkv"]
    os.utime(inbox / "a.mp4", (NOW_S, NOW_S))
    assert len(look_into(inbox).skipped) == 3


def test_an_inbox_that_is_not_there_is_a_problem_and_an_empty_one_is_not(inbox: Path) -> None:
    empty, absent = inbox.parent / "empty", inbox.parent / "absent"
    empty.mkdir()
    findings = look_into(inbox, empty, absent)
    assert findings.problems == [f"inbox {absent}: there is no such folder"]
    assert findings.found == {str(inbox): 1, str(empty): 0, str(absent): 0}
    assert names(findings) == ["inbox/good"]


def test_inboxes_that_overlap_give_each_recording_once(inbox: Path) -> None:
    findings = look_into(inbox, inbox / "good", inbox)
    assert names(findings) == ["inbox/good"]
    assert findings.found == {str(inbox): 1, str(inbox / "good"): 0}


def test_a_recording_that_leads_out_of_the_roots_is_a_problem_and_stops_nothing(
    inbox: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make_session(tmp_path_factory.mktemp("outside") / "far")
    outside = next(tmp_path_factory.getbasetemp().glob("outside*/far"))
    (inbox / "a-link").symlink_to(outside)
    age(inbox)
    findings = look_into(inbox)
    assert names(findings) == ["inbox/good"]
    (problem,) = findings.problems
    assert "lies under none of the roots" in problem
