"""Places the video of an OWAMcap recording on its log's clock.

Frame time is anchor + pts. The anchor is that of the wall clock in the video's subtitle track, or
else of the frames' stamps in the log (`utc_ns`, which known recorders take one frame late). A stamp
is never a frame's time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.clock_fit import ClockFit, fit_clock
from playmill.alignment.frame_stamps import StampCheck, fit_stamps
from playmill.errors import ClockError
from playmill.inputs.lines import Rejected, Rejects, parse_object
from playmill.inputs.mcap_messages import messages
from playmill.inputs.reader import Anchor, LogFiles, VideoTimes
from playmill.phrases import NOTE, plural

TOPIC = "screen"
ROUNDING_US = 1_000
"""Containers round times to as much as a millisecond."""
DISAGREEMENT_US = 50_000
"""Subtitle clock and stamps agree to a tenth of it in every recording measured."""


@dataclass(kw_only=True, slots=True)
class _Stamps:
    """The log's stamps of frames, in microseconds, rounded down."""

    pts_us: array[int] = field(default_factory=lambda: array("q"))
    utc_us: array[int] = field(default_factory=lambda: array("q"))
    named: array[int] = field(default_factory=lambda: array("b"))
    """1: of the video by its name."""
    broken: int = 0

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (S,) pts and (S,) stamps by pts, of the video if any name it, else of any."""
        chosen = np.frombuffer(self.named, np.int8) > 0
        if not chosen.any():
            chosen = np.ones(len(self.named), bool)
        pts_us = np.frombuffer(self.pts_us, np.int64)[chosen]
        order = np.argsort(pts_us, kind="stable")
        return pts_us[order], np.frombuffer(self.utc_us, np.int64)[chosen][order]


def subtitle_clock(video: VideoTimes) -> tuple[int, ClockFit | None]:
    """Return where pts 0 lies by the wall clock in the subtitle track, and its fit if there is one.

    Args:
        video: it has clock marks.
    """
    container_us, wall_us = video.clock_marks[:, 0], video.clock_marks[:, 1]
    fit = fit_clock(container_us, wall_us, source="subtitle track")
    return fit.offset_us if fit else int(np.median(wall_us - container_us)), fit


def clock_of(files: LogFiles, video: VideoTimes) -> Anchor | None:
    """Return where pts 0 lies on the log's clock; None: neither video nor log say.

    Raises:
        ClockError: the log's stamps are those of another video.
    """
    stamps = _read_stamps(files)
    pts_us, utc_us = stamps.arrays()
    warnings = []
    if stamps.broken:
        warnings.append(
            f"{plural(stamps.broken, 'message')} about frames cannot be read and are left out;"
            " the others place the video"
        )
    known = _known(pts_us, video)
    if len(known) and not known.all():
        strange = int(np.count_nonzero(~known))
        warnings.append(
            f"{strange} of {plural(len(known), 'frame stamp')} are of no frame of the video and are"
            " left out; if these are many, see that the video is whole and belongs to this log"
        )
    check, fit = fit_stamps(utc_us[known], pts_us[known], source="frame stamps")
    finding, stamped_us = _stamp_anchor(check)
    warnings += [finding] if finding else []
    if len(video.clock_marks):
        anchor_us, fit = subtitle_clock(video)
        if stamped_us is not None and abs(stamped_us - anchor_us) > DISAGREEMENT_US:
            apart_ms = (stamped_us - anchor_us) / 1000
            warnings.append(
                f"the frame stamps lie {apart_ms:+.1f} ms off the subtitle clock, which is used;"
                " see in `playmill report` whether presses lie where the pictures show them, and"
                " give --latency-ms if they do not"
            )
    elif len(known) and _of_another_video(known, pts_us, video):
        count = int(np.count_nonzero(known)) or "none"
        raise ClockError(
            str(files.log),
            f"topic {TOPIC}",
            f"{plural(len(known), 'frame stamp')}, {count} of a frame of {files.video.name}",
            "the log of this video",
            "Put the video beside it that was recorded with it, or give --pts-zero-us.",
        )
    elif stamped_us is not None:
        anchor_us = stamped_us
    else:
        return None
    return Anchor(
        pts_zero_us=anchor_us,
        report=_report(fit, finding),
        warnings=(*warnings, *(said for said in fit.findings if said != check.finding))
        if fit
        else tuple(warnings),
    )


def _report(fit: ClockFit | None, finding: str | None) -> dict[str, Any] | None:
    if fit is None:
        return None
    report = fit.to_json()
    if finding and finding not in report["findings"]:
        report["findings"] = [finding, *report["findings"]]
    return report


def _stamp_anchor(check: StampCheck) -> tuple[str | None, int | None]:
    """Return what is to be said of the stamps, and the time of pts 0 by them."""
    if check.late is None and check.next_us is not None:
        return (
            f"{NOTE}the frames are too even to tell whether their stamps are one frame late; they"
            " are taken to be, as this recorder's always are",
            check.next_us,
        )
    return check.finding, check.anchor_us


def _known(pts_us: NDArray[np.int64], video: VideoTimes) -> NDArray[np.bool_]:
    """Return (S,) whether the video has a frame of each pts."""
    frames = video.pts_us()
    if not len(frames):
        return np.zeros(len(pts_us), bool)
    tolerance = ROUNDING_US + int(video.time_base * 1_000_000)
    after = np.searchsorted(frames, pts_us).clip(1, max(1, len(frames) - 1))
    nearest = np.minimum(
        np.abs(frames[after - 1] - pts_us), np.abs(frames[after.clip(0, len(frames) - 1)] - pts_us)
    )
    known: NDArray[np.bool_] = nearest <= tolerance
    return known


def _of_another_video(
    known: NDArray[np.bool_], pts_us: NDArray[np.int64], video: VideoTimes
) -> bool:
    """Return whether most stamps from the video's first frame to its last are of none of them.

    A video that broke off lacks the frames of all later stamps; between any two videos, the first
    frame and a few by chance have the same pts.
    """
    first_us, last_us = video.pts_us()[[0, -1]] if len(video.pts) else (0, -1)
    between = int(np.count_nonzero((pts_us >= first_us) & (pts_us <= last_us)))
    found = int(np.count_nonzero(known))
    return not found or 2 * found < between


def _read_stamps(files: LogFiles) -> _Stamps:
    stamps = _Stamps()
    for message in messages(files.log, Rejects()):
        if message.topic == TOPIC:
            try:
                pts_us, utc_us, uri = _stamp(parse_object(message.data), message.log_ns)
            except Rejected:
                stamps.broken += 1
                continue
            stamps.pts_us.append(pts_us)
            stamps.utc_us.append(utc_us)
            stamps.named.append(PureWindowsPath(uri).name == files.video.name)
    return stamps


def _stamp(event: dict[str, Any], log_ns: int) -> tuple[int, int, str]:
    """Return pts and stamp of a frame in microseconds, and the video's name, in any generation."""
    media = event.get("media_ref")
    if media is None:
        pts_ns, uri = event.get("pts"), event.get("path")
    elif type(media) is dict:
        pts_ns, uri = media.get("pts_ns"), media.get("uri")
    else:
        raise Rejected('"media_ref" is not an object')
    utc_ns = event.get("utc_ns")
    utc_ns = log_ns if utc_ns is None else utc_ns
    if type(pts_ns) is not int or type(utc_ns) is not int or abs(pts_ns) >= 1 << 63:
        raise Rejected("no time of a frame")
    if not 0 <= utc_ns < 1 << 63:
        raise Rejected("no time of a stamp")
    return pts_ns // 1000, utc_ns // 1000, uri if type(uri) is str else ""
