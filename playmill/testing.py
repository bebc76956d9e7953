"""Make small recordings for tests: real files, with the frame's number drawn into its pixels.

Shipped, so that tests of other projects can use it. Writing videos needs `av`, imported late.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PTS_ZERO_US = 1_700_000_000_000_000
"""Unix microseconds of pts 0 of the recordings made here."""
ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "mpeg4": "mpeg4",
    "mjpeg": "mjpeg",
    "png": "png",
    "ffv1": "ffv1",
}
"""Codecs that `make_video` knows, and the encoder of each."""

_BITS = 16
_COLUMNS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeRecording:
    """A recording that `make_recording` wrote."""

    folder: Path
    """Holds session.json, the log and the video."""
    video: Path
    """The video file, or the folder of stills."""
    log: Path
    """The input log."""
    numbers: tuple[int, ...]
    """The number drawn into each frame, in presentation order."""
    pts: tuple[int, ...]
    """Ticks of `time_base`, as given to the encoder; Matroska rounds them to milliseconds."""
    time_base: Fraction
    """Seconds per tick, as given to the encoder."""
    events: tuple[dict[str, Any], ...]
    """The log's distinct events, by time."""


def draw_frame(number: int, *, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Draw `number` (below 65536) as 16 black or white fields, above a moving pattern.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    red = (columns * 3 + number * 5) % 256
    green = (rows * 5 + number * 3) % 256
    blue = np.full_like(red, number * 7 % 256)
    image = np.stack((red, green, blue), axis=-1).astype(np.uint8)
    for bit in range(_BITS):
        image[_field(bit, width, height)] = 235 if number >> bit & 1 else 20
    return image


def read_number(image: NDArray[np.uint8]) -> int:
    """Read the number that `draw_frame` drew, from an (H, W, 3) or (H, W) picture."""
    height, width = image.shape[:2]
    fields = (image[_field(bit, width, height)].mean() > 127 for bit in range(_BITS))
    return sum(1 << bit for bit, white in enumerate(fields) if white)


def _field(bit: int, width: int, height: int) -> tuple[slice, slice]:
    row, column = divmod(bit, _COLUMNS)
    top, left = row * height // 4, column * width // _COLUMNS
    return slice(top, top + height // 4), slice(left, left + width // _COLUMNS)


def make_video(
    path: Path,
    *,
    numbers: Sequence[int],
    pts: Sequence[int],
    time_base: Fraction,
    fps: int = 30,
    gop: int = 15,
    codec: str = "h264",
    size: tuple[int, int] = (64, 48),
    bframes: int = 2,
    open_gop: bool = False,
    audio_first: bool = False,
    pixel_format: str | None = None,
    codec_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    container_format: str | None = None,
) -> None:
    """Write a video whose frame i shows `numbers[i]` at `pts[i]`.

    Args:
        path: its suffix names the container, unless `container_format` does.
        size: (width, height) in pixels.
        container_options: of the muxer, {"movflags": "frag_keyframe+empty_moov"}.
    """
    import av

    width, height = size
    options = _encoder_options(codec, gop, bframes, open_gop) | dict(codec_options or {})
    with av.open(
        path, "w", format=container_format, options=dict(container_options or {})
    ) as container:
        audio: Any = container.add_stream("aac", rate=48000) if audio_first else None
        # Any: which kind of stream it is follows from the encoder's name.
        stream: Any = container.add_stream(ENCODERS.get(codec, codec), rate=fps, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format or "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        if audio is not None:
            container.mux(audio.encode(_silence()))
        for number, time in zip(numbers, pts, strict=True):
            image = draw_frame(number, width=width, height=height)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        for last in (stream, audio):
            if last is not None:
                container.mux(last.encode(None))


def _silence() -> Any:
    import av

    samples = np.zeros((1, 1024 * 2), np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    return frame


def _encoder_options(codec: str, gop: int, bframes: int, open_gop: bool) -> dict[str, str]:
    options = {"g": str(gop)}
    shared = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}:open-gop={open_gop:d}"
    if codec == "h264":
        options |= {"preset": "veryfast", "bf": str(bframes), "x264-params": shared}
    elif codec == "hevc":
        options |= {"preset": "ultrafast", "x265-params": f"{shared}:log-level=none"}
    elif codec == "av1":
        options |= {"preset": "12", "svtav1-params": f"irefresh-type={1 if open_gop else 2}"}
    elif codec == "vp9":
        options |= {"deadline": "realtime", "cpu-used": "8"}
    elif codec == "mpeg4":
        options |= {"bf": str(bframes), "qscale": "3"}
    return options


def make_stills(
    folder: Path,
    *,
    numbers: Sequence[int],
    times_us: Sequence[int],
    size: tuple[int, int] = (64, 48),
) -> None:
    """Write a folder of `<time in microseconds>.png`, RGB."""
    import av

    folder.mkdir(parents=True, exist_ok=True)
    for number, time_us in zip(numbers, times_us, strict=True):
        image = draw_frame(number, width=size[0], height=size[1])
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.save(folder / f"{time_us}.png")


def make_recording(
    folder: Path,
    *,
    session_id: str | None = None,
    seconds: float = 2,
    fps: int = 30,
    gop: int = 15,
    codec: str = "h264",
    container: str = "mp4",
    size: tuple[int, int] = (64, 48),
    drop: Collection[int] = (),
    start_pts: int = 0,
    time_base: Fraction = Fraction(1, 90000),
    vfr: bool = False,
    stills: bool = False,
    bframes: int = 2,
    open_gop: bool = False,
    audio_first: bool = False,
) -> MadeRecording:
    """Write a gameplay-session/1 folder: session.json, inputs.jsonl and a video or stills.

    Args:
        folder: made if it is not there.
        session_id: the folder's name by default.
        drop: numbers of frames that the recorder lost.
        start_pts: ticks; pts of frame 0.
        vfr: frames come more or less late, as a screen recorder's do.
        stills: write a folder of pictures in place of a video.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [number for number in range(round(seconds * fps)) if number not in set(drop)]
    ticks = Fraction(1, fps) / time_base
    late = [Fraction(number * 7919 % 5, 20) if vfr else Fraction(0) for number in numbers]
    pts = [start_pts + int((n + by) * ticks) for n, by in zip(numbers, late, strict=True)]
    times_us = [PTS_ZERO_US + round(time * time_base * 1_000_000) for time in pts]
    video: dict[str, Any] = {"width": size[0], "height": size[1], "fps": fps}
    if stills:
        place = folder / "frames"
        make_stills(place, numbers=numbers, times_us=times_us, size=size)
        video |= {"dir": place.name, "format": "png", "naming": "<t_us>.png"}
        pts, time_base = times_us, Fraction(1, 1_000_000)
    else:
        place = folder / f"video.{container}"
        make_video(
            place,
            numbers=numbers,
            pts=pts,
            time_base=time_base,
            fps=fps,
            gop=gop,
            codec=codec,
            size=size,
            bframes=bframes,
            open_gop=open_gop,
            audio_first=audio_first,
        )
        video |= {"file": place.name, "codec": codec, "pts_zero_us": PTS_ZERO_US}
    video["frame_rate_mode"] = "variable" if vfr else "constant"
    events = make_events(times_us)
    log = folder / "inputs.jsonl"
    log.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    _write_session(folder, session_id or folder.name, video, times_us)
    return MadeRecording(
        folder=folder,
        video=place,
        log=log,
        numbers=tuple(numbers),
        pts=tuple(pts),
        time_base=time_base,
        events=tuple(events),
    )


def make_events(times_us: Sequence[int]) -> list[dict[str, Any]]:
    """Make the events of a little game: keys, auto-repeat, clicks, moves, a turn of the wheel.

    Args:
        times_us: the frames' times. No event lies within 1 ms of one.
    """
    events: list[dict[str, Any]] = [{"t": times_us[0] - 4000, "type": "key_down", "key": "shift"}]
    for i, time_us in enumerate(times_us):
        held = "wasd"[i // 8 % 4]
        kind = {0: "key_down", 2: "key_down", 6: "key_up"}.get(i % 8)
        if kind is not None:
            events.append({"t": time_us + 2000, "type": kind, "key": held})
        events.append({"t": time_us + 3000, "type": "mouse_move", "dx": i % 7 - 3, "dy": i % 3 - 1})
        if i % 10 in (3, 4):
            click = "mouse_down" if i % 10 == 3 else "mouse_up"
            events.append({"t": time_us + 4000, "type": click, "button": "left"})
        if i % 15 == 9:
            events.append({"t": time_us + 5000, "type": "mouse_wheel", "delta": 1})
    return sorted(events, key=lambda event: int(event["t"]))


def _write_session(
    folder: Path, session_id: str, video: dict[str, Any], times_us: Sequence[int]
) -> None:
    session = {
        "schema": "gameplay-session/1",
        "session_id": session_id,
        "game": "counting",
        "player": "playmill.testing",
        "start_time_us": times_us[0] - 10_000,
        "end_time_us": times_us[-1] + 10_000,
        "controls": {"w": "forward", "a": "left", "s": "back", "d": "right", "shift": "run"},
        "inputs": {"file": "inputs.jsonl", "format": "jsonl", "time_unit": "us", "clock": "unix"},
        "video": video,
    }
    text = json.dumps(session, indent=2) + "\n"
    (folder / "session.json").write_text(text, encoding="utf-8")
