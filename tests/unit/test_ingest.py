"""ingest(): dying in the middle of it costs its job no tries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playmill import failpoints
from playmill.config import PipelineConfig
from playmill.jobs import MAX_ATTEMPTS, Step
from playmill.roots import Roots
from playmill.store import Store
from playmill.testing import make_recording
from tasks import app as app_module
from tasks import ingest as module
from tasks.fit import Misfit
from tasks.submit import make_request, submit
from tests.unit.app_samples import deployed

CONFIG = PipelineConfig(encoder="mean_pixel")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose steps are done right away, without a queue."""
    with deployed(tmp_path) as store:
        monkeypatch.setattr(module, "attempt", lambda step, work, **_: work(store, "1-x"))
        yield store


@pytest.mark.parametrize("name", ["ingest:before-manifest", "ingest:after-manifest"])
def test_a_death_beside_the_manifest_does_not_cost_the_job_its_tries(
    store: Store, tmp_path: Path, name: str
) -> None:
    # Given parts that an earlier job has tried in vain as often as one may
    recording = make_recording(tmp_path / "in").folder
    first = make_request(recording, CONFIG, Roots.whole_machine())
    submit(store, first, datasets=tmp_path / "datasets")
    module.ingest(first.job_id)
    plan = store.plan(first.job_id)
    assert plan is not None
    step = Step(verb="extract", job_id="", chunk_index=0, parts_key=plan.parts_key)
    for _ in range(MAX_ATTEMPTS):
        assert store.attempts(step).begin(who="me")
    # When whoever plans another job for the same video dies just before or after it has done so
    second = make_request(
        recording, PipelineConfig(encoder="mean_pixel", policy="nearest"), Roots.whole_machine()
    )
    submit(store, second, datasets=tmp_path / "datasets")

    def die() -> None:
        raise KeyboardInterrupt

    failpoints.arm(name, die)
    with pytest.raises(KeyboardInterrupt):
        module.ingest(second.job_id)
    failpoints.disarm()
    # Then that job has all its tries, now or once it is planned again
    assert store.facts(second.job_id).attempts == {}
    module.ingest(second.job_id)
    assert store.facts(second.job_id).plan is not None
    assert store.facts(second.job_id).attempts == {}
    # And planning it once more, as a second message does, forgets nothing.
    assert store.attempts(step).begin(who="me")
    module.ingest(second.job_id)
    assert store.facts(second.job_id).attempts[step.name].begun == 1


@pytest.mark.parametrize("state", ["absent", "empty"])
def test_a_root_that_is_not_mounted_is_this_workers_fault(
    store: Store, tmp_path: Path, state: str
) -> None:
    mount = tmp_path / "mount"
    roots = Roots({"rec": mount})
    recording = make_recording(mount / "in").folder
    request = make_request(recording, CONFIG, roots)
    app_module.use(replace(app_module.settings(), roots=roots))
    assert module.recording_of(request).path == recording
    shutil.rmtree(mount)
    if state == "empty":
        mount.mkdir()
    with pytest.raises(Misfit, match=rf"root 'rec': {mount}.*is the share mounted\?"):
        module.recording_of(request)


def test_what_is_urgent_stays_so_until_it_has_ended(store: Store, tmp_path: Path) -> None:
    recording = make_recording(tmp_path / "in").folder

    def submitted(*, urgent: bool) -> bool:
        request = make_request(recording, CONFIG, Roots.whole_machine(), urgent=urgent)
        submit(store, request, datasets=tmp_path / "datasets")
        return store.needs(request.job_id).urgent

    assert [submitted(urgent=urgent) for urgent in (False, True, False)] == [False, True, True]
    (job_id,) = store.job_ids()
    store.end(job_id, "failed", {"reason": "x"})
    assert not submitted(urgent=False)
