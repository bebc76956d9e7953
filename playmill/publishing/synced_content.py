"""Turn frames in the one-item form (`SyncedData`) into the content of a dataset. Knows no file."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from playmill import __version__, schema, synchronizer
from playmill.alignment import actions
from playmill.errors import DatasetError
from playmill.inputs.events import DEVICES, KINDS, InputEvents, pack_lines
from playmill.publishing.content import DatasetContent, FeatureBlocks

if TYPE_CHECKING:
    from playmill.synchronizer import Alignment, SyncedData

FEATURE_KEY = "features"
"""Key of the features of frames in the one-item form, whose encoder is not known."""

_NATIVE = {
    "key_down": ("keyboard", "press", "key"),
    "key_up": ("keyboard", "release", "key"),
    "mouse_down": ("mouse", "press", "button"),
    "mouse_up": ("mouse", "release", "button"),
    "mouse_move": ("mouse", "move", ""),
    "mouse_wheel": ("mouse", "scroll", ""),
}
"""Input `type` of gameplay-session/1 -> device, kind, and the field that holds the name."""
_OTHER = ("other", "other", "")


def from_synced_data(
    session_id: str, metadata: Mapping[str, Any], items: Sequence[SyncedData]
) -> tuple[DatasetContent, FeatureBlocks]:
    """Build a dataset's content from frames given one by one, in any order.

    Events have the time in `input_timestamps`, or that of their frame. They stay with the frames
    that they came with: where the policy in the frames' metadata would put them elsewhere, events
    are stored at their frame's time under policy "following", and a warning says so.

    Raises:
        DatasetError: no frames, two at one time, or features that are missing or differ in length.
    """
    frames = sorted(items, key=operator.attrgetter("timestamp"))
    frame_us = _times(session_id, frames)
    matrix = _matrix(session_id, frames)
    events, alignment, warnings = _align(frame_us, frames)
    frame_ids = [frame.frame_id for frame in frames]
    video_digest = _digest(frame_us.tobytes(), _json(frame_ids))
    raw = (events.raw, events.raw_offsets, events.timestamp_us, alignment.frame)
    sync = _json([alignment.policy, alignment.window_us, alignment.latency_us])
    key = _digest(video_digest, session_id, _json(metadata), sync, matrix, *raw)
    content = DatasetContent(
        session_id=session_id,
        dataset_key=key,
        clock="unix_us",
        metadata=json.loads(_json(metadata)),
        provenance={
            "playmill": __version__,
            "video": {"name": "frames given one by one", "digest": video_digest},
            "frame_ids": frame_ids,
        },
        warnings=warnings,
        pts=frame_us,
        time_base=Fraction(1, 1_000_000),
        pts_zero_us=0,
        timestamp_us=frame_us,
        flags=np.zeros(len(frame_us), np.uint8),
        motion=None,
        events=events,
        alignment=alignment,
        actions=actions.build(frame_us, events, alignment),
    )
    attrs = dict.fromkeys(schema.FEATURE_ATTRS, "unknown")
    return content, FeatureBlocks(
        key=FEATURE_KEY, dim=matrix.shape[1], attrs=attrs, blocks=[matrix]
    )


def _times(session_id: str, frames: Sequence[SyncedData]) -> NDArray[np.int64]:
    if not frames:
        raise DatasetError(session_id, "no frames were saved; a dataset needs at least one")
    frame_us = np.array([operator.index(frame.timestamp) for frame in frames], np.int64)
    same = np.flatnonzero(np.diff(frame_us) == 0)
    if len(same):
        first, second = frames[same[0]].frame_id, frames[same[0] + 1].frame_id
        raise DatasetError(
            session_id, f"frames {first!r} and {second!r} have one time, {frame_us[same[0]]} us"
        )
    return frame_us


def _matrix(session_id: str, frames: Sequence[SyncedData]) -> NDArray[np.float16]:
    """Return the features of all frames: (N, D) float16."""
    rows = []
    for frame in frames:
        features: Any = frame.frame_features
        if features is None:
            raise DatasetError(session_id, f"frame {frame.frame_id!r} has no features")
        if hasattr(features, "detach"):  # a torch tensor, perhaps on a GPU
            features = features.detach().float().cpu()
        rows.append(np.asarray(features, np.float16).reshape(-1))
        if len(rows[-1]) != len(rows[0]):
            found = f"frame {frame.frame_id!r} has {len(rows[-1])} features"
            raise DatasetError(session_id, f"{found}; the first frame has {len(rows[0])}")
    return np.stack(rows)


def _align(
    frame_us: NDArray[np.int64], frames: Sequence[SyncedData]
) -> tuple[InputEvents, Alignment, list[str]]:
    """Return the events, and an alignment that keeps each with its frame."""
    pairs = [(place, item) for place, frame in enumerate(frames) for item in frame.inputs]
    owner = np.array([place for place, _ in pairs], np.int64)
    inputs = [item for _, item in pairs]
    given = [time for frame in frames for time in frame.input_timestamps]
    if len(given) == len(inputs):
        event_us = np.array(given, np.int64)
        order = np.argsort(event_us, kind="stable")
        alignment = _stated(frame_us, event_us[order], frames[0].metadata)
        if alignment is not None and np.array_equal(alignment.frame, owner[order]):
            return _events(event_us[order], [inputs[i] for i in order]), alignment, []
    event_us = frame_us[owner]
    alignment = synchronizer.align(
        frame_us, event_us, policy="following", window_us=None, latency_us=0
    )
    warning = (
        "inputs have the time of the frame that they were given with: they came without times, or"
        " with times that another policy would give to other frames"
    )
    return _events(event_us, inputs), alignment, [warning] if inputs else []


def _stated(
    frame_us: NDArray[np.int64], event_us: NDArray[np.int64], metadata: Mapping[str, Any]
) -> Alignment | None:
    """Align by the rule that `metadata` states; None: it states none that makes sense."""
    window_ms = metadata.get("sync_window_ms", 100)
    try:
        return synchronizer.align(
            frame_us,
            event_us,
            policy=metadata.get("policy", "window"),
            window_us=None if window_ms is None else round(window_ms * 1000),
            latency_us=round(metadata.get("latency_ms", 0) * 1000),
        )
    except (TypeError, ValueError):
        return None


def _events(event_us: NDArray[np.int64], inputs: Sequence[Mapping[str, Any]]) -> InputEvents:
    """Return `inputs` as arrays. What is no event of gameplay-session/1 is "other"."""
    parsed = [_parse(item) for item in inputs]
    names = sorted({(code, device) for device, _, code, _ in parsed if code is not None})
    index = {name: place for place, name in enumerate(names)}
    raw, raw_offsets = pack_lines([_json(item).encode() for item in inputs])
    values = [value for _, _, _, value in parsed]
    codes = [-1 if code is None else index[code, device] for device, _, code, _ in parsed]
    return InputEvents(
        timestamp_us=event_us,
        device=np.array([device for device, _, _, _ in parsed], np.uint8),
        kind=np.array([kind for _, kind, _, _ in parsed], np.uint8),
        code=np.array(codes, np.int32),
        codes=tuple(code for code, _ in names),
        code_device=np.array([device for _, device in names], np.uint8),
        value=np.array(values, np.float32).reshape(-1, 2),
        raw=raw,
        raw_offsets=raw_offsets,
    )


def _parse(item: Mapping[str, Any]) -> tuple[int, int, str | None, tuple[float, float]]:
    """Return device, kind, code and value of one input."""
    device, kind, name = _NATIVE.get(str(item.get("type")), _OTHER)
    code = item.get(name) if name else None
    try:
        value = (float(item.get("dx", 0)), float(item.get("dy", item.get("delta", 0))))
    except (TypeError, ValueError):
        device, kind, code, value = *_OTHER[:2], None, (0.0, 0.0)
    if name and not (isinstance(code, str) and code and "\0" not in code):
        device, kind, code = *_OTHER[:2], None
    if kind not in ("move", "scroll"):
        value = (0.0, 0.0)
    return DEVICES.index(device), KINDS.index(kind), code, value


def _json(value: object) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)


def _digest(*values: str | bytes | NDArray[Any]) -> str:
    """Return the sha256 of `values`, each preceded by its length."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogatepass")
        else:
            data = value if isinstance(value, bytes) else value.tobytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
