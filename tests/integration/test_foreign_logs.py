"""Recordings by other people's recorders become datasets whose alignment is known."""

from __future__ import annotations

import numpy as np
import pytest

from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.dataset import open_dataset
from playmill.inputs import KINDS
from playmill.video_index import index_video
from tests.conftest import SHARED

OWA = SHARED / "recordings" / "owa"


@pytest.mark.needs_shared
def test_a_recording_of_owamcap_is_published_on_its_subtitle_clock(tmp_path) -> None:
    data = pipeline.run(OWA / "0.3.2.mkv", tmp_path, PipelineConfig(encoder="mean_pixel"))
    marks = index_video(OWA / "0.3.2.mkv").clock_marks
    with open_dataset(data) as dataset:
        assert len(dataset) == 49
        pts_us = dataset.pts * 1_000_000 * dataset.time_base
        clock_us = np.interp(pts_us.astype(float), marks[:, 0], marks[:, 1] - marks[0, 1])
        inside = (pts_us >= marks[0, 0]) & (pts_us <= marks[-1, 0])
        apart_us = dataset.timestamps_us - marks[0, 1] - clock_us
        assert np.abs(apart_us[inside]).max() < 20_000
        assert inside.sum() > 30
        assert [text for text in dataset.warnings if "one frame late" in text]
        kinds = dataset.array("/inputs/kind")
        events = np.isin(kinds, [KINDS.index(k) for k in ("press", "release", "position")])
        assert events.sum() == 602
        # The picture on screen is the last before an event, however long ago it changed; before
        # the first there is none, and three snapshots and titles were taken then.
        outside = dataset.array("/sync/frame") < 0
        assert np.flatnonzero(outside).tolist() == [0, 1, 2]
        assert set(kinds[outside]) == {KINDS.index("other")}
        assert dataset.key_names == ("162", "32", "67", "69", "83", "84", "88")
        assert dataset.actions("keys")[:, 0].any()
        assert dataset.actions("key_presses").sum() == 13
        assert dataset.actions("mouse").sum(axis=0).tolist() == [995.0, 539.0]
