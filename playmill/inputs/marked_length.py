"""Whether a video is as long as its recorder's log says. Knows no log format."""

from __future__ import annotations

from playmill.inputs.reader import VideoTimes

TOLERANCE_US, TOLERANCE_SHARE = 1_000_000, 50
"""A second, or a 50th of the length, whichever is more."""


def length_warnings(video: VideoTimes, start_us: int, stop_us: int | None) -> tuple[str, ...]:
    """Return a sentence if the video's length is not that from `start_us` to `stop_us`.

    Args:
        stop_us: when the recorder stopped the video; None: it does not say.
    """
    if stop_us is None or not len(video.pts):
        return ()
    said_us, found_us = stop_us - start_us, int(video.pts_us()[-1])
    if abs(said_us - found_us) <= max(TOLERANCE_US, abs(said_us) // TOLERANCE_SHARE):
        return ()
    return (
        f"the log says that the video is {said_us / 1e6:.3f} s long, and it is"
        f" {found_us / 1e6:.3f} s: it was cut, or its frame rate is wrong",
    )
