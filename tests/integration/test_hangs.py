"""A task that hangs is killed at its limit, whichever it is, and done again by another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import app as app_module
from tasks import broker, limits
from tasks.advance import advance
from tests.chaos.mill import Job, Mill, make_recordings, undisturbed

LIMIT_S = 8.0
"""More than a busy machine takes for what does not hang."""
HANGS = ("ingest:before-manifest", "consolidate:before-publication")


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mill]:
    """A mill without beat, whose workers hang once where they are told to."""
    monkeypatch.setattr(limits, "BASE_S", limits.BASE_S)  # each test sets its own
    before = list(app_module._chosen)
    hangs = [f"{name}:sleep=1000:1" for name in HANGS]
    with (
        Mill(tmp_path / "mill", num_gpu=1, num_cpu=1, failpoints=hangs) as mill,
        mill.without("beat"),
    ):
        # The connection is remembered; it is that of another test's Redis.
        broker.client.cache_clear()
        app_module.use(mill.settings)
        app_module.app.conf.update(app_module.configuration(mill.settings.broker_url))
        yield mill
    broker.client.cache_clear()
    app_module._chosen[:] = before


def wait(mill: Mill, job: Job, mark: Path) -> None:
    """Do beat's work until a job has ended, with a limit that can be waited for while it hangs."""
    usual_s = limits.BASE_S

    def ended() -> bool:
        limits.BASE_S = usual_s if mark.exists() else LIMIT_S
        advance(mill.store, [job.job_id])
        return mill.ending(job) is not None

    mill.wait_for(ended, timeout_s=90)


@pytest.mark.timeout(300)
def test_a_hung_ingest_and_a_hung_consolidation_are_killed_and_done_again(
    mill: Mill, tmp_path: Path
) -> None:
    (recording,) = make_recordings(tmp_path / "in", 1)
    expected = undisturbed(recording, tmp_path / "serial")
    # When planning hangs
    (mark,) = mill.ready(f"{HANGS[0]}:sleep=1000:1", 1)
    job = mill.submit(recording)
    wait(mill, job, mark)
    # Then it was killed and tried again
    assert mark.exists()
    assert [attempt["step"] for attempt in mill.tries(job)].count("ingest") == 2
    assert mill.dataset(job).read_bytes() == expected
    # When the dataset is lost, and publishing it again hangs
    mill.dataset(job).unlink()
    (mark,) = mill.ready(f"{HANGS[1]}:sleep=1000:1", 1)
    mill.submit(recording)
    wait(mill, job, mark)
    assert mark.exists()
    assert [attempt["step"] for attempt in mill.tries(job)].count("consolidate") == 2
    assert mill.dataset(job).read_bytes() == expected
    assert "hard time limit" in (mill.folder / "cpu0.log").read_text().lower()
