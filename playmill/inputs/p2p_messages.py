"""What the messages of annotation.proto (open-p2p) say. Knows neither files nor times of frames.

Source:
    https://github.com/elefant-ai/open-p2p (video_annotation.proto, shared.proto)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from playmill.inputs.lines import Rejected
from playmill.inputs.protobuf_wire import BYTES, Message, read_varint

FRAME_ANNOTATIONS = 3 << 3 | 2
"""Tag of the field of VideoAnnotation, the file's only message, that holds them."""
TOP_LEVEL = {2: 2, 3: 2, 4: 2, 5: 2, 6: 0, 7: 2, 8: 2, 9: 2}
"""Its fields: number -> wire type."""

_USER_ACTION, _SYSTEM_ACTION, _FRAME_TIME, _INPUT_EVENTS = 1, 6, 8, 9
_KEYBOARD, _IS_KNOWN, _MOUSE, _GAME_PAD = 2, 3, 4, 5
_TIME, _SIMULATED = 6, 10
_PAD_BUTTONS = (
    "south", "north", "east", "west", "dpad_up", "dpad_down", "dpad_left", "dpad_right",
    "start", "select", "left_bumper", "right_bumper",
)  # fmt: skip
"""GamePadButtons: field i+1."""
_DISTINCT, _SHORT_BYTES = 1 << 12, 128
"""Inputs and labels that are remembered, and how long each may be: the same come again and again.
"""
_BUMPERS = {"left_trigger": "left_bumper", "right_trigger": "right_bumper"}
"""Button events call the bumpers triggers; a trigger itself is an axis."""
_MOUSE_BUTTONS = {"0": "left", "1": "right", "2": "middle"}
"""`buttons_down` has numbers where events have names."""


class Happened(NamedTuple):
    """One input: an event, or what a label sums up."""

    device: str
    """One of DEVICES."""
    kind: str
    """One of KINDS."""
    name: str = ""
    """Of a key, button or axis."""
    x: float = 0
    y: float = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A LowLevelAction: the state when a picture was taken, and what was moved since the last."""

    known: bool
    """Whether it is the state of the one that played."""
    keys: frozenset[str]
    buttons: frozenset[tuple[str, str]]
    """Device and name."""
    axes: tuple[tuple[str, float], ...]
    """Sticks and triggers of a gamepad."""
    moves: tuple[Happened, ...]
    """Mouse motion and scroll since the picture before; where the pointer was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """A FrameAnnotation."""

    user: Action | None
    """What the person did."""
    system_known: bool
    """A model played."""
    frame_ns: int
    """When the picture was taken, nanoseconds of the recorder; 0: not said."""
    events: tuple[bytes, ...]
    """InputEvent messages since the picture before."""


def read_annotation(data: bytes) -> Annotation:
    """Read a FrameAnnotation but for its events; raise Rejected."""
    message = Message(data)
    user, system = message.part(_USER_ACTION), message.message(_SYSTEM_ACTION)
    return Annotation(
        user=None if user is None else _read_action(user),
        system_known=system is not None and system.bool(_IS_KNOWN),
        frame_ns=message.uint(_FRAME_TIME),
        events=tuple(message.parts(_INPUT_EVENTS)),
    )


def glance(data: bytes) -> tuple[int, bool]:
    """Return `Annotation.frame_ns` and whether it has events; (0, False) for a broken one."""
    try:
        message = Message(data)
        return message.uint(_FRAME_TIME), _INPUT_EVENTS in message
    except Rejected:
        return 0, False


def read_event(data: bytes) -> tuple[int, bool, Happened]:
    """Read an InputEvent: its time in nanoseconds, whether a model made it, what happened.

    Raises:
        Rejected: it is broken, or none that is known.
    """
    message = Message(data)
    number = message.first_of(_EVENTS)
    part = None if number is None else message.part(number)
    if number is None or part is None:
        raise Rejected("an input event is of no known kind")
    done = _happened(number, part)
    return message.uint(_TIME), message.bool(_SIMULATED), done


def split_event(data: bytes) -> tuple[bytes, int] | None:
    """Return what happened, not yet read, and the time of an InputEvent; None: it has other fields
    or another order, and `read_event` is needed.

    The first of two such events tells what the second is, for the same few happen all the time.
    """
    if len(data) < 2 or data[0] not in _EVENT_TAGS or data[1] >= 0x80:
        return None
    stop = 2 + data[1]
    if stop >= len(data) or data[stop] != _TIME << 3:
        return None
    time_ns, end = read_varint(data, stop + 1)
    return (data[:stop], time_ns) if end == len(data) else None


def _happened(number: int, data: bytes) -> Happened:
    """Return what field `number` of an InputEvent says."""
    if len(data) <= _SHORT_BYTES:
        return _happened_before(number, data)
    return _EVENTS[number](Message(data))


@lru_cache(_DISTINCT)
def _happened_before(number: int, data: bytes) -> Happened:
    return _EVENTS[number](Message(data))


@lru_cache(_DISTINCT)
def _action_before(data: bytes) -> Action:
    return _action(Message(data))


def _read_action(data: bytes) -> Action:
    return _action_before(data) if len(data) <= _SHORT_BYTES else _action(Message(data))


def _action(message: Message) -> Action:
    keyboard, mouse = message.message(_KEYBOARD), message.message(_MOUSE)
    buttons: list[tuple[str, str]] = []
    moves: list[Happened] = []
    axes: list[tuple[str, float]] = []
    if mouse is not None:
        buttons += [("mouse", button_name(name)) for name in mouse.texts(9)]
        for number, kind in ((3, "move"), (4, "scroll"), (1, "position")):
            part = mouse.message(number)
            if part is not None:
                moves.append(_vector(part, kind))
    pad = message.message(_GAME_PAD)
    if pad is not None:
        buttons += [("gamepad", name) for name in _pad_buttons(pad)]
        axes += _pad_axes(pad)
    return Action(
        known=message.bool(_IS_KNOWN),
        keys=frozenset() if keyboard is None else frozenset(keyboard.texts(1)),
        buttons=frozenset(buttons),
        axes=tuple(axes),
        moves=tuple(moves),
    )


def button_name(name: str) -> str:
    """Return the one name of a mouse button that labels and events call otherwise.

    Labels have "0" and "7" where events have "Left" and "Unknown(7)".
    """
    number = re.fullmatch(r"unknown\((\d+)\)", name, re.IGNORECASE)
    return number[1] if number else _MOUSE_BUTTONS.get(name, name.lower())


def _pad_buttons(pad: Message) -> list[str]:
    buttons = pad.message(1)
    held = [] if buttons is None else [n for i, n in enumerate(_PAD_BUTTONS, 1) if buttons.bool(i)]
    for number, name in ((2, "left_stick"), (3, "right_stick")):
        stick = pad.message(number)
        if stick is not None and stick.bool(3):
            held.append(name)
    return held


def _pad_axes(pad: Message) -> list[tuple[str, float]]:
    axes = [("left_trigger", pad.float(4)), ("right_trigger", pad.float(5))]
    for number, name in ((2, "left_stick"), (3, "right_stick")):
        stick = pad.message(number)
        x, y = (0.0, 0.0) if stick is None else (stick.float(1), stick.float(2))
        axes += [(f"{name}_x", x), (f"{name}_y", y)]
    return axes


def _vector(part: Message, kind: str) -> Happened:
    return Happened(device="mouse", kind=kind, x=part.int32(1), y=part.int32(2))


def _switch(part: Message, device: str, name: str) -> Happened:
    return Happened(device=device, kind="press" if part.bool(2) else "release", name=_named(name))


def _named(name: str) -> str:
    if not name:
        raise Rejected("a key, button or axis has no name")
    return name


def _axis(part: Message) -> Happened:
    name = _named(part.text(1))
    return Happened(device="gamepad", kind="axis", name=name, x=part.float(2))


_EVENTS = {
    1: lambda part: _switch(part, "mouse", button_name(part.text(1))),
    2: lambda part: _switch(part, "keyboard", part.text(1)),
    3: lambda part: _vector(part, "position"),
    4: lambda part: _vector(part, "scroll"),
    5: lambda part: _vector(part, "move"),
    7: lambda part: _switch(part, "gamepad", _BUMPERS.get(part.text(1), part.text(1))),
    8: _axis,
    9: _axis,
}
"""Field of InputEvent -> what reads it."""
_EVENT_TAGS = frozenset(number << 3 | BYTES for number in _EVENTS)
