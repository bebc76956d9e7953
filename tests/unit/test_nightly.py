"""Nightly runs: one for each nominal time, whatever is killed; every recording once; a report."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from playmill.config import PipelineConfig
from playmill.errors import UsageError
from playmill.jobs import Request
from playmill.nights import nightly as nights
from playmill.nights.crontab import Crontab
from playmill.nights.inbox import Findings
from playmill.nights.report import NightReport
from playmill.roots import Roots
from playmill.store import Store
from playmill.store.identity import begin as begin_store
from tasks import app, broker, presence
from tasks import nightly as task
from tasks.settings import Settings
from tests.unit.job_samples import make_manifest, make_request, make_session

DAY_S = 86_400
MONDAY_S = int(datetime(2026, 11, 16, tzinfo=UTC).timestamp())
TWO_S = 2 * 3600
CRONTAB = Crontab.parse("0 2 * * *", ZoneInfo("UTC"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    """Settings with one inbox, and a run at two each night."""
    (tmp_path / "inbox").mkdir()
    return Settings(
        broker_url="redis://nowhere/0",
        store=tmp_path / "store",
        datasets=tmp_path / "datasets",
        roots=Roots({"r": tmp_path}),
        inbox=(tmp_path / "inbox",),
        device="cpu",
        nightly="0 2 * * *",
    )


def add_recording(inbox: Path, name: str, *, changed_s: float) -> None:
    """Write a recording that was last changed then."""
    make_session(inbox / name)
    touch(inbox / name, changed_s)


def touch(folder: Path, when_s: float) -> None:
    """Give a recording's files and its folder a time of change."""
    for path in (*folder.iterdir(), folder):
        os.utime(path, (when_s, when_s))


def publish(store: Store, request: Request, *, frames: int = 300, when_s: float = 0.0) -> None:
    """End a job as a consolidation does."""
    marker = {
        "dataset": f"session_{request.session_id}/data.h5",
        "session_id": request.session_id,
        "frames": frames,
        "published_s": when_s,
        "warnings": ["the log is short"],
    }
    store.end(request.job_id, "published", marker)


def report_of(datasets: Path, name: str) -> NightReport:
    """Read a report back, and see that its text lies beside it."""
    base = datasets / "reports" / f"nightly-{name}"
    report = NightReport.from_json(json.loads(base.with_suffix(".json").read_text()))
    assert base.with_suffix(".txt").read_text() == report.text()
    return report


def claims(store: Store) -> list[str]:
    """Return the nominal times that are claimed."""
    return sorted(path.stem for path in (store.root / "nightly").glob("????-??-??T??????Z.json"))


# When a run is due


def test_a_schedule_that_was_just_set_up_runs_nothing_for_the_past(store: Store) -> None:
    assert nights.due(store, CRONTAB, now_s=MONDAY_S + 10 * 3600) is None
    assert nights.due(store, CRONTAB, now_s=MONDAY_S + DAY_S + TWO_S - 1) is None
    assert nights.due(store, CRONTAB, now_s=MONDAY_S + DAY_S + TWO_S) == MONDAY_S + DAY_S + TWO_S


def test_a_tick_after_the_run_has_begun_does_not_look_into_the_inbox_again(
    store: Store, chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = task.look
    monkeypatch.setattr(task, "look", lambda *v, **k: (looks.append(1), look(*v, **k))[1])
    for minute in range(10):
        task.tick(store, chosen, now_s=MONDAY_S + TWO_S - 120 + 60 * minute)
    assert len(looks) == 1


def test_a_week_without_power_is_made_up_for_by_one_run(store: Store, chosen: Settings) -> None:
    task.tick(store, chosen, now_s=MONDAY_S)
    for hour in (9.5, 10, 11):
        task.tick(store, chosen, now_s=MONDAY_S + 7 * DAY_S + hour * 3600)
    assert claims(store) == ["2026-11-23T020000Z"]
    task.tick(store, chosen, now_s=MONDAY_S + 8 * DAY_S + TWO_S)
    assert claims(store) == ["2026-11-23T020000Z", "2026-11-24T020000Z"]


def test_another_schedule_does_not_begin_with_what_it_would_have_run(store: Store) -> None:
    nights.due(store, CRONTAB, now_s=MONDAY_S)
    other = Crontab.parse("0 4 * * *", ZoneInfo("UTC"))
    assert nights.due(store, other, now_s=MONDAY_S + 10 * 3600) is None
    # And the first one is still known, so that two beats during a change hinder nobody.
    assert nights.due(store, CRONTAB, now_s=MONDAY_S + 10 * 3600) == MONDAY_S + TWO_S


def test_without_a_schedule_a_tick_runs_nothing(store: Store, chosen: Settings) -> None:
    for day in range(3):
        task.tick(store, replace(chosen, nightly=None), now_s=MONDAY_S + day * DAY_S)
    assert not store.root.exists()


def test_ticks_at_the_same_moment_give_one_run(store: Store, chosen: Settings) -> None:
    for number in range(5):
        add_recording(chosen.inbox[0], f"rec-{number}", changed_s=MONDAY_S)
    task.tick(store, chosen, now_s=MONDAY_S)

    def one(_: int) -> None:
        task.tick(store, chosen, now_s=MONDAY_S + TWO_S)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert claims(store) == ["2026-11-16T020000Z"]
    (night,) = nights.open_nights(store)
    assert {request.job_id for request in night.requests} == set(store.job_ids())
    assert len(night.requests) == 5


# What is submitted, and what is not


def test_what_failed_or_was_cancelled_is_not_tried_again_until_it_changes(
    store: Store, chosen: Settings
) -> None:
    inbox = chosen.inbox[0]
    for name in ("failed", "cancelled", "open"):
        add_recording(inbox, name, changed_s=MONDAY_S)
    first = task.begin(store, chosen, nominal_s=MONDAY_S, now_s=MONDAY_S + 3600)
    by_name = {request.session_id: request.job_id for request in first.requests}
    store.end(by_name["failed"], "failed", {"reason": "broken", "failed_s": 1.0})
    store.end(by_name["cancelled"], "cancelled", {"reason": "by hand"})

    second = task.begin(store, chosen, nominal_s=MONDAY_S + DAY_S, now_s=MONDAY_S + DAY_S)
    assert (second.requests, second.known) == ((), 3)
    assert store.ending(by_name["failed"], "failed") is not None

    for name in ("failed", "cancelled"):
        touch(inbox / name, MONDAY_S + DAY_S)
    third = task.begin(store, chosen, nominal_s=MONDAY_S + 2 * DAY_S, now_s=MONDAY_S + 2 * DAY_S)
    assert sorted(str(request.session_id) for request in third.requests) == ["cancelled", "failed"]


def test_a_recording_that_was_submitted_by_hand_is_known_at_night(
    store: Store, chosen: Settings
) -> None:
    from playmill.command.options import read_options

    add_recording(chosen.inbox[0], "rec", changed_s=MONDAY_S)
    by_hand = read_options(device="cpu").config
    assert task.read_config(chosen, store) == by_hand
    assert task.read_config(replace(chosen, device="cuda"), store) == (
        read_options(device="cuda").config
    )


def test_without_an_inbox_nothing_can_be_run(store: Store, chosen: Settings) -> None:
    with pytest.raises(UsageError, match="PLAYMILL_INBOX is not set"):
        task.begin(store, replace(chosen, inbox=(), nightly=None), nominal_s=1, now_s=1.0)
    assert not claims(store)


def test_a_second_claim_of_one_time_gives_the_first_run(store: Store) -> None:
    findings = Findings(requests=[make_request("one")], found={"/in": 1})
    first = nights.Night.of(findings, nominal_s=MONDAY_S, started_s=1.0)
    assert nights.claim(store, first) == first
    later = nights.Night.of(Findings(), nominal_s=MONDAY_S, started_s=2.0)
    assert nights.claim(store, later) == first


def test_a_claim_that_cannot_be_read_stops_no_other(
    store: Store, chosen: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    task.tick(store, chosen, now_s=MONDAY_S)
    (store.root / "nightly" / "2026-11-01T020000Z.json").write_text('{"version": 2}')
    task.tick(store, chosen, now_s=MONDAY_S + TWO_S)
    assert "nightly run 2026-11-01T020000Z cannot be read" in caplog.text
    assert "2026-11-16T020000Z" in claims(store)


# The configuration


def test_a_file_says_what_nightly_runs_do_differently(
    store: Store, chosen: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "night.json"
    path.write_text('{"encoder": "mean_pixel", "image_size": [64, 96]}')
    config = task.read_config(replace(chosen, nightly_config=path), store)
    assert config == PipelineConfig(encoder="mean_pixel", image_size=(64, 96), batch_size=8)
    path.write_text('{"device_class": "cuda"}')
    config = task.read_config(replace(chosen, nightly_config=path), store)
    assert (config.device_class, config.batch_size) == ("cuda", 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "it holds no JSON object"),
        ('{"encode": "x"}', "unknown configuration values: encode"),
        ('{"encoder": "no_such"}', "no_such"),
        ('{"encoder": 3}', "night.json: "),
        ('{"batch_size": "8"}', "night.json: "),
        ('{"policy": "random"}', "unknown policy 'random'"),
        ('{"image_size": 64}', "night.json: "),
        (json.dumps({"weights_digest": "0" * 64}), "no weights 000"),
    ],
)
def test_a_configuration_that_cannot_be_used_names_its_file(
    store: Store, chosen: Settings, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "night.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"PLAYMILL_NIGHTLY_CONFIG: .*night\.json") as raised:
        task.read_config(replace(chosen, nightly_config=path), store)
    assert message in str(raised.value)


# The report


def begin_with(store: Store, *requests: Request, **changed: object) -> nights.Night:
    """Claim and submit a run with these requests."""
    findings = Findings(requests=list(requests), found={"/in": len(requests)})
    night = nights.Night.of(findings, nominal_s=MONDAY_S, started_s=MONDAY_S + 5.0)
    night = nights.claim(store, replace(night, **changed))
    nights.submit(store, night)
    return night


def test_the_report_comes_when_the_last_job_has_ended_and_says_it_all(
    store: Store, tmp_path: Path
) -> None:
    good, bad, stopped = (make_request(name) for name in ("good", "bad\nname", "stopped"))
    night = begin_with(
        store,
        good,
        bad,
        stopped,
        skipped=(("root:late", "it is being written"),),
        known=7,
        lone_logs=(("/in/events.csv", "put its video beside it"),),
    )
    store.put_manifest(good.job_id, make_manifest(chunks=3, num_frames=100))
    publish(store, good, frames=299, when_s=MONDAY_S + 105.0)
    store.end(bad.job_id, "failed", {"reason": "no video in it", "failed_s": MONDAY_S + 20.0})
    finish = lambda now_s: nights.finish(store, night, datasets=tmp_path, now_s=now_s)  # noqa: E731
    assert finish(MONDAY_S + 150.0) is None
    store.end(stopped.job_id, "cancelled", {"reason": "cancelled by hand"})

    report = finish(MONDAY_S + 200.0)
    assert report is not None
    assert report == report_of(tmp_path, "2026-11-16T000000Z")
    value = report.to_json()
    assert value["nominal"] == "2026-11-16T00:00:00Z"
    assert {name: value[name] for name in ("new", "submitted", "known", "frames")} == {
        "new": 4,
        "submitted": 3,
        "known": 7,
        "frames": 299,
    }
    assert (value["published"], value["failed"], value["cancelled"]) == (1, 1, 1)
    assert value["hours"] == round(10 / 3600, 4)  # 300 frames at 30 frames/s
    assert value["frames_per_s"] == 2.99
    assert report.troubled
    text = report.text()
    assert "4 new or changed, 3 submitted: 1 published, 1 failed, 1 cancelled" in text
    assert r"failed: root:bad\nname: no video in it" in text
    assert "cancelled: root:stopped: cancelled by hand" in text
    assert "not taken tonight: root:late: it is being written" in text
    assert "  warning: the log is short" in text
    assert "no recording: /in/events.csv: put its video beside it" in text
    # And it is written once: what happens to its jobs later does not change it.
    store.forget_attempts(bad.job_id)
    assert list(nights.open_nights(store)) == []


def test_a_night_with_nothing_new_has_a_report_and_no_trouble(store: Store, tmp_path: Path) -> None:
    night = begin_with(store)
    report = nights.finish(store, night, datasets=tmp_path, now_s=MONDAY_S + 6.0)
    assert report is not None
    assert (report.troubled, report.frames, report.frames_per_s) == (False, 0, None)
    assert "inbox /in: no recording in it" in report.text()


def test_what_nobody_can_do_is_said_before_the_night_ends(
    store: Store,
    chosen: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(presence, "listeners", dict)
    monkeypatch.setattr(broker, "running_or_none", frozenset)
    monkeypatch.setattr(task, "_reported_s", {})
    done, waits = make_request("done"), make_request("waits")
    night = begin_with(store, done, waits)
    publish(store, done)
    base = chosen.datasets / "reports" / f"nightly-{night.name}"
    so_far = base.with_suffix(".so-far.json"), base.with_suffix(".so-far.txt")
    # Given a night that has only just begun, nothing is said
    task.go_on(store, chosen, now_s=night.started_s + task.SO_FAR_S - 1)
    assert not any(path.exists() for path in so_far)
    # When it still goes on, there is a report of it, and the log says why
    task.go_on(store, chosen, now_s=night.started_s + task.SO_FAR_S)
    report = NightReport.from_json(json.loads(so_far[0].read_text()))
    assert so_far[1].read_text() == report.text()
    assert report.troubled
    assert [(row.state, row.error is None) for row in report.jobs] == [
        ("published", True),
        ("open", False),
    ]
    assert "open: root:waits: no worker of the cpu queue listens; start one" in report.text()
    assert f"nightly run {night.name}: 1 recording waits: no worker of the cpu" in caplog.text
    # And not again at once
    so_far[0].unlink()
    task.go_on(store, chosen, now_s=night.started_s + task.SO_FAR_S + 20)
    assert not so_far[0].exists()
    # When all have ended, the report of the night takes its place
    publish(store, waits)
    task.go_on(store, chosen, now_s=night.started_s + task.SO_FAR_S + 40)
    assert report_of(chosen.datasets, night.name).rows("open") == []
    assert not any(path.exists() for path in so_far)


def test_no_report_is_written_into_another_folder(store: Store, chosen: Settings) -> None:
    begin_store(store.root, chosen.datasets)
    begin_with(store)
    chosen.datasets.rename(chosen.datasets.with_name("elsewhere"))
    with pytest.raises(UsageError, match="Is the share mounted"):
        task.tick(store, chosen, now_s=MONDAY_S + 60.0)
    assert not chosen.datasets.exists()


def test_a_missing_inbox_is_trouble(store: Store, chosen: Settings) -> None:
    chosen.inbox[0].rmdir()
    night = task.begin(store, chosen, nominal_s=MONDAY_S, now_s=float(MONDAY_S))
    report = task.finish(store, night, datasets=chosen.datasets, now_s=MONDAY_S + 1.0)
    assert report is not None
    assert report.troubled
    assert "problem: inbox" in report.text()


def test_a_job_that_was_deleted_from_the_store_ends_the_wait(store: Store, tmp_path: Path) -> None:
    request = make_request("gone")
    night = begin_with(store, request)
    (store.job_folder(request.job_id) / "request.json").unlink()
    nights.submit(store, night)
    assert not nights.is_known(store, request.job_id)
    report = nights.finish(store, night, datasets=tmp_path, now_s=MONDAY_S + 6.0)
    assert report is not None
    assert [row.state for row in report.jobs] == ["removed"]


def test_a_report_that_was_half_written_is_completed_unchanged(
    store: Store, tmp_path: Path
) -> None:
    night = begin_with(store)
    nights.finish(store, night, datasets=tmp_path, now_s=MONDAY_S + 6.0)
    (tmp_path / "reports" / "nightly-2026-11-16T000000Z.txt").unlink()
    (store.root / "nightly" / "2026-11-16T000000Z.reported.json").unlink()
    again = nights.finish(store, night, datasets=tmp_path, now_s=MONDAY_S + 99.0)
    assert again == report_of(tmp_path, "2026-11-16T000000Z")
    assert again.ended_s == MONDAY_S + 6.0


# A week in simulated time


class Killed(BaseException):
    """The process that ticked has died."""


class Week:
    """A week in which beats, Redis, workers and recorders come and go, by a fake clock.

    Beat, Redis and the worker are up or down; a tick needs all three. A tick dies now and then, at
    any write. Another process works on what was submitted. Recordings arrive in pieces.
    """

    STEP_S = 900

    def __init__(self, chosen: Settings, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chosen, self.store = chosen, Store(chosen.store)
        self.random = random.Random(seed)
        self.now_s = float(MONDAY_S)
        self.submitted: Counter[str] = Counter()
        self.ticked: list[float] = []
        """When a tick went through, or died no sooner than after its claim."""
        self.down_until = {"beat": 0.0, "beat 2": 0.0, "redis": 0.0, "worker": 0.0}
        self.arriving: dict[str, float] = {}
        self.versions: dict[str, float] = {}
        """Time of the last change of each recording."""
        self.writes_left: int | None = None
        self._watch(monkeypatch)

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count the submissions, and let a tick die before or after one of its writes."""

        def mortal(write: Callable[..., object]) -> Callable[..., object]:
            def wrapper(*values: object) -> object:
                before = self.random.random() < 0.5
                if before:
                    self._die_at_last()
                result = write(*values)
                if not before:
                    self._die_at_last()
                return result

            return wrapper

        submit = Store.submit

        def counted(store: Store, request: Request) -> None:
            submit(store, request)
            self.submitted[request.job_id] += 1

        monkeypatch.setattr(app, "_chosen", [self.chosen])
        monkeypatch.setattr(Store, "submit", mortal(counted))
        monkeypatch.setattr(nights, "put_if_absent", mortal(nights.put_if_absent))
        monkeypatch.setattr(NightReport, "write_text", mortal(NightReport.write_text))

    def _die_at_last(self) -> None:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise Killed

    def run(self, days: int) -> None:
        """Let time pass; then let everything come to rest."""
        for _ in range(days * DAY_S // self.STEP_S):
            self.now_s += self.STEP_S
            self._break_something()
            self._record_something()
            for beat in ("beat", "beat 2"):
                if all(self.down_until[name] <= self.now_s for name in (beat, "redis", "worker")):
                    self._tick(mortal=self.random.random() < 0.2)
            self._work(share=0.1)
        self._tick(mortal=False)
        self._work(share=1.0)
        self._tick(mortal=False)

    def _break_something(self) -> None:
        for name in self.down_until:
            if self.random.random() < 0.01:
                self.down_until[name] = self.now_s + self.random.choice((1, 6, 20, 40)) * 3600

    def _record_something(self) -> None:
        inbox = self.chosen.inbox[0]
        if self.random.random() < 0.05:
            name = f"rec-{len(self.versions) + len(self.arriving):03d}"
            make_session(inbox / name)
            (inbox / name / "video.mp4.part").touch()
            self.arriving[name] = self.now_s + self.random.randrange(4) * 3600
        for name, done_s in list(self.arriving.items()):
            touch(inbox / name, self.now_s)
            if done_s <= self.now_s:
                (inbox / name / "video.mp4.part").unlink()
                touch(inbox / name, self.now_s)
                del self.arriving[name]
                self.versions[name] = self.now_s
        if self.versions and self.random.random() < 0.01:
            name = self.random.choice(list(self.versions))
            touch(inbox / name, self.now_s)
            self.versions[name] = self.now_s

    def _tick(self, *, mortal: bool) -> None:
        self.writes_left = self.random.randrange(6) if mortal else None
        before = len(claims(self.store))
        try:
            task.tick(self.store, self.chosen, now_s=self.now_s)
        except Killed:
            if len(claims(self.store)) == before:
                return
        finally:
            self.writes_left = None
        self.ticked.append(self.now_s)

    def _work(self, *, share: float) -> None:
        for job_id in list(self.store.job_ids()):
            open_job = not any(
                self.store.ending(job_id, name) for name in ("published", "failed", "cancelled")
            )
            if open_job and self.random.random() < share:
                request = self.store.request(job_id)
                if self.random.random() < 0.2:
                    marker = {"reason": "broken", "failed_s": self.now_s}
                    self.store.end(job_id, "failed", marker)
                else:
                    publish(self.store, request, when_s=self.now_s)

    def nominal_times(self) -> Iterator[int]:
        """Yield the nominal times of the schedule, to the end of the week."""
        nominal_s = MONDAY_S + TWO_S
        while nominal_s <= self.now_s:
            yield nominal_s
            nominal_s += DAY_S


@pytest.mark.parametrize("seed", range(6))
def test_a_week_in_which_everything_is_killed_loses_no_night_and_no_recording(
    chosen: Settings, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    week = Week(chosen, seed, monkeypatch)
    nights.note_schedule(week.store, CRONTAB, now_s=week.now_s)
    week.run(days=7)

    # One run for each nominal time that a tick came after, before the next; none for the others.
    expected = [
        datetime.fromtimestamp(nominal_s, UTC).strftime("%Y-%m-%dT%H%M%SZ")
        for nominal_s in week.nominal_times()
        if any(nominal_s <= when_s < nominal_s + DAY_S for when_s in week.ticked)
    ]
    assert claims(week.store) == expected
    assert expected

    # Nothing was submitted twice, and everything that a run was to submit was.
    assert set(week.submitted.values()) <= {1}
    reports = [report_of(chosen.datasets, name) for name in expected]
    reported = Counter(row.job_id for report in reports for row in report.jobs)
    assert reported == week.submitted
    assert set(week.submitted) == set(week.store.job_ids())

    # Every version of a recording that had settled when the last run looked has its job.
    last = max(report.started_s for report in reports)
    settled = {name for name, when_s in week.versions.items() if when_s <= last - chosen.settle_s}
    assert settled
    newest = {
        (request.recording.path, max(source.mtime_ns for source in request.sources))
        for request in map(week.store.request, week.store.job_ids())
    }
    assert {(f"inbox/{name}", int(week.versions[name]) * 10**9) for name in settled} <= newest

    # No run is left without its report, and the reports agree with the store.
    assert list(nights.open_nights(week.store)) == []
    for report in reports:
        for row in report.jobs:
            assert week.store.ending(row.job_id, row.state) is not None
        assert len(report.jobs) == sum(len(report.rows(s)) for s in ("published", "failed"))


# Beat
