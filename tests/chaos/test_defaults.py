"""With the settings that a deployment has by default, a dead worker is noticed within a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.settings import Settings
from tests.chaos.mill import Mill, make_recordings, undisturbed

NAME = "extract:batch-written"
DEFAULTS = Settings.__dataclass_fields__
NOTICED_S = 60.0


@pytest.mark.timeout(200)
def test_a_killed_worker_is_noticed_within_a_minute(tmp_path: Path) -> None:
    (recording,) = make_recordings(tmp_path / "in", 1, seconds=4)
    expected = undisturbed(recording, tmp_path / "serial")
    failpoint = f"{NAME}:kill9:1"
    lease_s, reconcile_s = DEFAULTS["lease_s"].default, DEFAULTS["reconcile_s"].default
    with Mill(
        tmp_path / "mill", lease_s=lease_s, reconcile_s=reconcile_s, failpoints=[failpoint]
    ) as mill:
        (mark,) = mill.ready(failpoint, 1)
        job = mill.submit(recording)
        mill.wait([job], timeout_s=150)
        assert mill.dataset(job).read_bytes() == expected
        tries = [attempt for attempt in mill.tries(job) if attempt["step"].isdecimal()]
        # One chunk was in hand, and that alone is computed again.
        assert len(tries) == 4 + 1
        killed_s = mark.stat().st_mtime
        again = next(float(attempt["started_s"]) for attempt in tries[::-1])
        print(f"running again {again - killed_s:.0f} s after the kill (defaults)")
        assert again - killed_s < NOTICED_S
