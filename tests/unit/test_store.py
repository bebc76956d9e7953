"""The store: put once, whole at every moment, counted rightly, whoever else is at it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playmill import markers
from playmill.errors import PartError, SourceChanged
from playmill.jobs import MAX_ATTEMPTS, Attempts, Needs, Request, Step
from playmill.markers import put_if_absent, read_json
from playmill.store import Store
from tests.unit.job_samples import make_commit, make_manifest, make_request

PROJECT = Path(__file__).resolve().parents[2]
KEY = make_manifest().parts_key
EXTRACT = Step(verb="extract", job_id="a" * 64, chunk_index=1, parts_key=KEY)
INGEST = Step(verb="ingest", job_id="a" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def names_in(folder: Path) -> list[str]:
    """Return the names of all files under a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# Put once


def test_a_marker_is_put_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "marker.json"
    assert put_if_absent(path, {"who": "first"})
    assert not put_if_absent(path, {"who": "second"})
    assert read_json(path) == {"who": "first"}
    assert names_in(tmp_path) == ["marker.json"]


RACE = """
import sys, time
from pathlib import Path
from playmill.markers import put_if_absent
folder, who = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready-{who}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
print([n for n in range(40) if put_if_absent(folder / "markers" / f"{n}.json", {"who": who})])
"""


def test_of_many_processes_exactly_one_puts_a_marker(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), str(who)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(3)
    ]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready-*"))) < len(racers) and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    won = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sorted(number for numbers in won for number in numbers) == list(range(40))
    for who, numbers in enumerate(won):
        for number in numbers:
            assert read_json(tmp_path / "markers" / f"{number}.json") == {"who": str(who)}
    assert len(names_in(tmp_path / "markers")) == 40


def test_a_link_that_was_made_though_refused_counts_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_link = markers.os.link

    def link_twice(source: Path, target: Path) -> None:
        # What a network file system does when the first answer is lost.
        real_link(source, target)
        real_link(source, target)

    monkeypatch.setattr(markers.os, "link", link_twice)
    assert put_if_absent(tmp_path / "marker.json", {})


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(markers.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        put_if_absent(tmp_path / "marker.json", {"a": 1})
    with pytest.raises(OSError, match="No space left"):
        markers.replace(tmp_path / "marker.json", {"a": 1})
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("text", ["[]", "", "{}", '{"pts": [1, 2]}', "{"])
def test_what_has_no_checksum_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is damaged: it does not begin with a checksum"):
        read_json(tmp_path / "x.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*x\.json'"),
        markers.temporary_beside(tmp_path / "x.json"),
        Path("/dev/full").open("wb", buffering=0) as stream,
    ):
        stream.write(b"x")


@pytest.mark.parametrize("value", [{}, {"pts": [1, 2, 30], "flags": []}], ids=["empty", "commit"])
def test_no_bit_of_a_marker_can_change_unseen(tmp_path: Path, value: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    put_if_absent(path, value)
    data = path.read_bytes()
    assert read_json(path) == value
    assert json.loads(data).keys() == {"crc32", *value}
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"x\.json is damaged"):
            read_json(path)


# Ids


@pytest.mark.parametrize(
    "text", ["", "a", "A" * 64, "../" + "a" * 61, "g" * 64, "a" * 65, "é" * 64]
)
def test_what_is_no_id_reaches_no_file(store: Store, text: str) -> None:
    with pytest.raises(ValueError, match="is no job id"):
        store.job_folder(text)
    with pytest.raises(ValueError, match="is no parts key"):
        store.parts(text).committed()
    with pytest.raises(ValueError, match="is no digest of weights"):
        store.weights(text)


def test_only_jobs_are_listed(store: Store) -> None:
    assert list(store.job_ids()) == []
    store.submit(make_request())
    for name in ("x", "z" * 64):
        (store.root / "jobs" / name).mkdir()
    assert list(store.job_ids()) == [make_request().job_id]


# Jobs


def test_a_request_is_stored_and_replaced_by_a_later_one(store: Store) -> None:
    store.submit(make_request(submitted_ns=1))
    store.submit(make_request(submitted_ns=2))
    assert store.request(make_request().job_id).submitted_ns == 2


def test_urgency_is_in_the_request_and_in_no_id(store: Store) -> None:
    request = make_request()
    store.submit(request)
    assert not store.needs(request.job_id).urgent
    urgent = replace(request, urgent=True)
    assert Request.from_json(urgent.to_json()) == urgent
    store.submit(urgent)
    assert store.needs(request.job_id).urgent
    assert store.facts(request.job_id).needs.urgent
    # And what a version without it has written is in no hurry.
    old = {name: value for name, value in urgent.to_json().items() if name != "urgent"}
    assert Request.from_json(old) == request
    assert store.needs("b" * 64) == Needs()


def test_an_unknown_job_is_an_error(store: Store) -> None:
    with pytest.raises(FileNotFoundError, match="no job aaaa"):
        store.request("a" * 64)
    assert store.manifest("a" * 64) is None


def test_a_manifest_is_stored_once(store: Store) -> None:
    store.put_manifest("a" * 64, make_manifest())
    store.put_manifest("a" * 64, make_manifest(session_id="other"))
    assert store.manifest("a" * 64) == make_manifest()


def test_a_manifest_that_was_made_anew_is_read_anew(store: Store) -> None:
    for session_id in ("one", "two"):
        store.put_manifest("a" * 64, make_manifest(session_id=session_id))
        manifest = store.manifest("a" * 64)
        assert manifest is not None
        assert manifest.session_id == session_id
        (store.job_folder("a" * 64) / "manifest.v2.json").unlink()
    assert store.manifest("a" * 64) is None


def test_a_job_ends_once_in_each_way(store: Store) -> None:
    assert store.end("a" * 64, "failed", {"reason": "one"})
    assert not store.end("a" * 64, "failed", {"reason": "two"})
    assert store.facts("a" * 64).failed == "one"


def test_a_submission_makes_a_failed_job_new(store: Store) -> None:
    request = make_request()
    store.submit(request)
    store.put_manifest(request.job_id, make_manifest())
    for step in (replace(INGEST, job_id=request.job_id), EXTRACT):
        assert store.attempts(step).begin(who="me")
    store.end(request.job_id, "failed", {"reason": "x"})
    store.end(request.job_id, "cancelled", {"reason": "y"})
    store.submit(request)
    facts = store.facts(request.job_id)
    assert (facts.failed, facts.cancelled, facts.attempts) == (None, False, {})
    assert facts.plan is not None


def test_a_session_knows_its_newest_owner(store: Store) -> None:
    assert store.session_owner("session_x") is None
    assert store.claim_session("session_x", make_request(submitted_ns=5))
    assert not store.claim_session("session_x", make_request(submitted_ns=4))
    owner = store.session_owner("session_x")
    assert owner == {
        "job_id": make_request().job_id,
        "recording": "root:session",
        "submitted_ns": 5,
    }


# Commits


def test_the_first_commit_wins(store: Store) -> None:
    first, second = make_commit(1), make_commit(1, attempt="2-00000000")
    assert store.parts(KEY).commit(first)
    assert not store.parts(KEY).commit(second)
    assert store.parts(KEY).read_commit(1) == first
    assert store.parts(KEY).read_commit(2) is None


def test_commits_are_listed_by_their_markers_alone(store: Store) -> None:
    assert store.parts(KEY).committed() == frozenset()
    for index in (0, 7, 1_234_567):
        store.parts(KEY).commit(make_commit(index, []))
    (store.root / "parts" / KEY / "commits" / ".000009.json.abc").touch()
    (store.root / "parts" / KEY / "commits" / "Thumbs.db").touch()
    assert store.parts(KEY).committed() == {0, 7, 1_234_567}


def test_a_damaged_part_is_dropped_with_its_marker(store: Store) -> None:
    commit = make_commit(1)
    part = store.parts(KEY).part(1, commit.attempt)
    part.mkdir(parents=True)
    store.parts(KEY).commit(commit)
    store.parts(KEY).drop_commit(commit)
    assert store.parts(KEY).committed() == frozenset()
    assert not part.exists()


def test_a_marker_that_another_attempt_has_put_since_stays(store: Store) -> None:
    damaged, mended = make_commit(1), make_commit(1, attempt="2-00000000")
    part = store.parts(KEY).part(1, mended.attempt)
    part.mkdir(parents=True)
    store.parts(KEY).commit(mended)
    store.parts(KEY).drop_commit(damaged)
    assert store.parts(KEY).read_commit(1) == mended
    assert part.exists()


# Attempts


@pytest.mark.parametrize("step", [INGEST, EXTRACT], ids=["ingest", "extract"])
def test_a_step_has_so_many_attempts_and_no_more(store: Store, step: Step) -> None:
    names = [store.attempts(step).begin(who="me") for _ in range(MAX_ATTEMPTS + 1)]
    assert names[-1] is None
    numbers = [name.partition("-")[0] for name in names[:-1] if name]
    assert numbers == [str(number) for number in range(1, MAX_ATTEMPTS + 1)]


def attempts(store: Store, step: Step, *, job_id: str = "a" * 64) -> Attempts | None:
    """Return what the job knows of a step."""
    store.put_manifest(job_id, make_manifest())
    return store.facts(job_id).attempts.get(step.name)


def test_an_attempt_that_is_not_heard_of_has_no_reason(store: Store) -> None:
    store.attempts(EXTRACT).begin(who="me")
    assert attempts(store, EXTRACT) == Attempts(begun=1)


def begin_last(store: Store) -> str:
    """Begin attempts until there are no more; return the last one's name."""
    names = [store.attempts(EXTRACT).begin(who="me") for _ in range(MAX_ATTEMPTS)]
    assert names[-1]
    return names[-1]


def test_the_last_attempt_was_seen_when_it_began(store: Store) -> None:
    begin_last(store)
    known = attempts(store, EXTRACT)
    assert known is not None
    assert (known.begun, known.error) == (MAX_ATTEMPTS, None)
    assert abs(known.seen_s - time.time()) < 60


def test_a_sign_of_life_is_seen(store: Store) -> None:
    name = begin_last(store)
    begun = store.root / "parts" / KEY / "attempts" / f"000001.{MAX_ATTEMPTS}.json"
    markers.os.utime(begun, (5, 5))
    before = attempts(store, EXTRACT)
    assert before is not None
    assert before.seen_s == 5
    store.attempts(EXTRACT).touch(name)
    after = attempts(store, EXTRACT)
    assert after is not None
    assert after.seen_s > 5


def test_a_failure_is_known_until_the_next_attempt(store: Store) -> None:
    for number in (1, 2):
        name = store.attempts(EXTRACT).begin(who="me")
        assert name
        store.attempts(EXTRACT).fail(name, OSError(28, "full"), hopeless=False)
        known = attempts(store, EXTRACT)
        assert known is not None
        assert (known.begun, known.error) == (number, "OSError: [Errno 28] full")
    store.attempts(EXTRACT).begin(who="me")
    known = attempts(store, EXTRACT)
    assert known is not None
    assert (known.begun, known.error, known.failed_at_s) == (3, None, 0.0)


def test_our_own_errors_speak_for_themselves(store: Store) -> None:
    name = store.attempts(INGEST).begin(who="me")
    assert name
    store.attempts(INGEST).fail(name, PartError("a", "is damaged"), hopeless=True)
    known = attempts(store, INGEST)
    assert known is not None
    assert (known.error, known.hopeless) == ("a: is damaged", True)


def test_what_is_hopeless_for_one_job_is_not_so_for_another_on_the_same_video(store: Store) -> None:
    name = store.attempts(EXTRACT).begin(who="me")
    assert name
    error = SourceChanged("a", "", "another file", "the same", "Submit again.")
    store.attempts(EXTRACT).fail(name, error, hopeless=True)
    own, other = attempts(store, EXTRACT), attempts(store, EXTRACT, job_id="b" * 64)
    assert own is not None
    assert other is not None
    assert (own.hopeless, other.hopeless) == (True, False)
    assert own.begun == other.begun == 1


def test_a_failure_of_forgotten_times_is_not_that_of_a_new_attempt(store: Store) -> None:
    old = store.attempts(INGEST).begin(who="me")
    assert old
    store.forget_attempts(INGEST.job_id)
    store.attempts(INGEST).begin(who="me")
    store.attempts(INGEST).fail(old, OSError("old"), hopeless=True)
    known = attempts(store, INGEST)
    assert known is not None
    assert (known.begun, known.error, known.hopeless) == (1, None, False)


def test_leases_and_messages_make_steps_busy(store: Store) -> None:
    facts = store.facts("a" * 64, running=frozenset({"x"}), waiting=frozenset({"y"}))
    assert (facts.busy, facts.running) == ({"x", "y"}, {"x"})


# Weights


@pytest.mark.parametrize("name", ["w.safetensors", "w", "ünï cödé.pth"])
def test_weights_are_kept_by_their_digest(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"weights")
    digest = store.add_weights(tmp_path / name)
    assert digest == store.add_weights(tmp_path / name) == hashlib.sha256(b"weights").hexdigest()
    kept = store.weights(digest)
    assert kept is not None
    assert kept.read_bytes() == b"weights"
    assert kept.suffix == Path(name).suffix
    assert names_in(store.root / "weights") == [kept.name]


def test_unknown_weights_are_an_error_and_no_weights_are_none(store: Store) -> None:
    assert store.weights(None) is None
    with pytest.raises(FileNotFoundError, match=r"no weights aaaa.*; submit the job again"):
        store.weights("a" * 64)
