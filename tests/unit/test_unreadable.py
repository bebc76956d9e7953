"""A job that cannot be read is named with the reason, and stops none of the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from playmill.errors import JobUnreadable, UsageError
from playmill.jobs import JobFacts
from playmill.markers import read_json, replace
from playmill.nights import nightly as nights
from playmill.nights.inbox import Findings
from playmill.store import Store
from playmill.store.identity import begin
from tasks import app as app_module
from tasks.advance import go_on, open_jobs
from tasks.collect import ABANDONED_S, find_garbage
from tasks.submit import submit
from tests.unit.app_samples import deployed
from tests.unit.job_samples import make_commit, make_manifest, make_request
from workers import mill as mill_module
from workers.commands import connecting, looking, mending, sending, waiting
from workers.mill import LocalMill
from workers.outcome import outcomes
from workers.processes import Process
from workers.unreadable import Unreadable

GOOD, BAD = make_request("good", submitted_ns=1), make_request("bad", submitted_ns=2)
REASON = "cannot be read: "


def no_json(folder: Path) -> None:
    (folder / "request.json").write_text("{")


def no_request(folder: Path) -> None:
    replace(folder / "request.json", {"version": 1})


def another_form(folder: Path) -> None:
    value = read_json(folder / "request.json")
    assert value is not None
    replace(folder / "request.json", value | {"config": 3})


def no_file(folder: Path) -> None:
    (folder / "request.json").unlink()
    (folder / "request.json").mkdir()


def no_manifest(folder: Path) -> None:
    replace(folder / "manifest.v2.json", {})


DAMAGES = pytest.mark.parametrize(
    "damage", [no_json, no_request, another_form, no_file, no_manifest]
)
Damage = Callable[[Path], None]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store of two jobs, that the commands see; no Redis answers."""
    with deployed(tmp_path) as store:
        for request in (GOOD, BAD):
            store.submit(request)
        settings = app_module.settings()
        for module in (connecting, looking, mending, sending):
            monkeypatch.setattr(module, "connect", lambda **_: (settings, store), raising=False)
        for module in (looking, waiting):
            monkeypatch.setattr(module, "WAIT_S", 0.01)
            monkeypatch.setattr(module, "Unreadable", partial(Unreadable, give_up_s=0.0))
        monkeypatch.setattr(connecting.broker, "running_or_none", frozenset)
        yield store


def status_of(run: Callable[[], Any]) -> int:
    """Return the exit status of a command."""
    try:
        run()
    except typer.Exit as end:
        return end.exit_code
    return 0


@DAMAGES
def test_status_lists_it_with_the_reason(
    store: Store, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    damage(store.job_folder(BAD.job_id))
    assert status_of(lambda: looking.status(None, as_json=True)) == 1
    rows = {row["job_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[GOOD.job_id]["state"] == "queued"
    assert rows[BAD.job_id]["state"] is None
    assert REASON in rows[BAD.job_id]["error"]
    assert rows[GOOD.job_id].keys() == rows[BAD.job_id].keys()
    assert status_of(lambda: looking.status(None)) == 1
    assert f"{BAD.job_id[:12]}  unreadable" in capsys.readouterr().out
    assert status_of(lambda: looking.status([GOOD.job_id])) == 0


def test_status_refuses_another_datasets_folder_than_the_jobs_are_of(
    store: Store, tmp_path: Path
) -> None:
    begin(store.root, tmp_path / "others")
    with pytest.raises(UsageError, match=r"datasets has no \.playmill-id in it"):
        looking.status(None)


def test_what_becomes_of_jobs_is_said(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "advance", lambda *_, **__: set())
    for command, said in (
        (mending.cancel, "is cancelled"),
        (mending.cancel, "has ended already"),
        (mending.retry, "goes on"),
    ):
        command([GOOD.job_id[:6]])
        assert capsys.readouterr().out == f"{GOOD.job_id[:12]}  {said}\n"


@DAMAGES
def test_watching_ends_when_the_others_have_ended(
    store: Store, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    damage(store.job_folder(BAD.job_id))
    store.end(GOOD.job_id, "failed", {"reason": "no video", "failed_s": 1.0})
    assert status_of(looking.watch) == 1
    assert capsys.readouterr().err.count(REASON) == 1


@DAMAGES
def test_others_are_cancelled_beside_it(
    store: Store, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    damage(store.job_folder(BAD.job_id))
    status_of(lambda: mending.cancel([BAD.job_id, GOOD.job_id], drop_parts=True))
    assert not store.is_open(GOOD.job_id)
    assert not store.is_open(BAD.job_id)
    assert f"{GOOD.job_id[:12]}  " in capsys.readouterr().out


def test_while_one_cannot_be_read_only_what_a_dataset_holds_is_garbage(
    store: Store, tmp_path: Path
) -> None:
    manifest = make_manifest()
    store.put_manifest(GOOD.job_id, manifest)
    store.put_manifest(BAD.job_id, make_manifest(video_digest="another"))
    store.end(GOOD.job_id, "cancelled", {"reason": "by hand"})
    assert store.parts(manifest.parts_key).commit(make_commit(0))
    unread: list[JobUnreadable] = []
    find = partial(
        find_garbage,
        store,
        tmp_path / "datasets",
        now_s=2 * ABANDONED_S,
        tell_unreadable=unread.append,
    )
    assert [garbage.parts_key for garbage in find()] == [manifest.parts_key]
    no_manifest(store.job_folder(BAD.job_id))
    assert list(find()) == []
    assert [error.job_id for error in unread] == [BAD.job_id]


@DAMAGES
def test_a_local_mill_gives_it_up(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    damage(store.job_folder(BAD.job_id))

    def advance(store: Store, job_ids: list[str], *, tell: Any, tell_unreadable: Any) -> None:
        store.end(GOOD.job_id, "failed", {"reason": "no video", "failed_s": 1.0})
        tell(store.facts(GOOD.job_id))

    monkeypatch.setattr(mill_module, "advance", advance)
    monkeypatch.setattr(mill_module, "POLL_S", 0.01)
    monkeypatch.setattr(Process, "revive", lambda *_, **__: None)
    said: list[str] = []
    states: list[JobFacts] = []
    with LocalMill(tmp_path / "local", num_workers=1, device="cpu") as mill:
        monkeypatch.setattr(mill, "start", lambda: None)
        mill.store = store  # type: ignore[misc]
        mill.run(
            [GOOD.job_id, BAD.job_id],
            report=states.extend,
            unreadable=Unreadable(said.append, give_up_s=0.05),
        )
    assert len(said) == 1
    assert REASON in said[0]
    assert states[-1].failed == "no video"


def test_a_job_that_can_be_read_again_is_waited_for(store: Store) -> None:
    said: list[str] = []
    unreadable = Unreadable(said.append, give_up_s=0.0)
    unreadable.note(JobUnreadable(BAD.job_id, "away"))
    assert unreadable.still_open([BAD.job_id], []) == []
    facts = store.facts(BAD.job_id)
    assert unreadable.still_open([BAD.job_id], [facts]) == [BAD.job_id]
    assert not unreadable


@DAMAGES
def test_a_wait_gives_it_up(store: Store, monkeypatch: pytest.MonkeyPatch, damage: Damage) -> None:
    damage(store.job_folder(BAD.job_id))
    store.end(GOOD.job_id, "failed", {"reason": "no video", "failed_s": 1.0})
    monkeypatch.setattr("tasks.broker.look", connecting.broker.Snapshot)
    settings = app_module.settings()
    waiting.wait_for(store, settings, [GOOD.job_id, BAD.job_id], waiting.Console(stderr=True))
    rows = outcomes(store, [GOOD.job_id, BAD.job_id], settings)
    assert (
        status_of(lambda: waiting.finish_with(rows, as_json=True, console=waiting.Console())) == 1
    )


def bad_ending(folder: Path) -> None:
    replace(folder / "published.json", {})


@pytest.mark.parametrize("damage", [no_json, no_request, another_form, no_manifest, bad_ending])
def test_submitting_it_again_mends_it(store: Store, tmp_path: Path, damage: Damage) -> None:
    damage(store.job_folder(BAD.job_id))
    submit(store, BAD, datasets=tmp_path / "datasets")
    assert store.request(BAD.job_id) == BAD
    facts = store.facts(BAD.job_id)
    assert (facts.plan, facts.published) == (None, False)


@DAMAGES
def test_a_task_ends_well_whose_job_became_unreadable(
    store: Store, caplog: pytest.LogCaptureFixture, damage: Damage
) -> None:
    damage(store.job_folder(BAD.job_id))
    assert set(open_jobs(store)) == {GOOD.job_id, BAD.job_id}
    go_on(store, BAD.job_id)
    assert REASON in caplog.text


def test_a_night_that_is_not_over_in_time_is_told_and_counts_as_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Findings(found={"/in": 1}, requests=[GOOD])
    night = nights.claim(store, nights.Night.of(found, nominal_s=0, started_s=0.0))
    nights.submit(store, night)
    monkeypatch.setattr(sending, "go_on", lambda *_, **__: None)
    monkeypatch.setattr(sending, "begin", lambda *_, **__: night)
    monkeypatch.setattr(connecting.broker, "look", connecting.broker.Snapshot)
    monkeypatch.setattr(connecting.broker, "send", lambda *_, **__: None)
    monkeypatch.setattr(connecting.presence, "listeners", dict)
    run = partial(sending.nightly, once=True, within=0.0, as_json=True)
    assert status_of(run) == 1
    (row,) = json.loads(capsys.readouterr().out)["jobs"]
    assert row["state"] == "open"
    assert "no worker of the cpu queue listens" in row["error"]
    # What has ended by then is as ever.
    store.end(GOOD.job_id, "cancelled", {"reason": "by hand"})
    assert status_of(run) == 0
    assert json.loads(capsys.readouterr().out)["cancelled"] == 1


def test_a_nightly_report_names_it(store: Store, tmp_path: Path) -> None:
    found = Findings(found={"/in": 2}, requests=[GOOD, BAD])
    night = nights.claim(store, nights.Night.of(found, nominal_s=0, started_s=0.0))
    nights.submit(store, night)
    store.end(GOOD.job_id, "failed", {"reason": "no video", "failed_s": 1.0})
    (store.job_folder(BAD.job_id) / "published.json").write_text("{")
    report = nights.finish(store, night, datasets=tmp_path / "datasets", now_s=9.0)
    assert report is not None
    assert report.troubled
    assert [row.state for row in report.jobs] == ["failed", "unreadable"]
    assert "1 unreadable" in report.text()
    assert f"unreadable: root:bad: job {BAD.job_id[:12]} {REASON}" in report.text()
