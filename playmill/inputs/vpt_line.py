"""What one line of a Video-Pre-Training log says. Knows neither the lines around it nor files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from playmill.config import MAX_TIME_US
from playmill.inputs.event_table import MAX_NAME_BYTES, check_name
from playmill.inputs.lines import Rejected, decoded, parse_json, shown
from playmill.inputs.w3c import w3c_code

MAX_COUNTS = float(1 << 24)
"""Largest |dx|, |dy|, |dwheel|, |x|, |y|: up to here every whole number is exact in float32."""
MAX_SLOTS = 1 << 24
"""Slots are numbers below it."""

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_STATE_OF_THE_GAME = ("inventory", "stats")
_TYPED_TEXT = "chars"
_KEYPAD = {
    "add": "NumpadAdd",
    "subtract": "NumpadSubtract",
    "multiply": "NumpadMultiply",
    "divide": "NumpadDivide",
    "decimal": "NumpadDecimal",
    "enter": "NumpadEnter",
    "equal": "NumpadEqual",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Switches:
    """What one line says of the keyboard's keys, or of the mouse's buttons."""

    held: frozenset[str]
    """Down at the end of the tick."""
    new: frozenset[str]
    """Went down within the tick."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """What one line says; None: nothing of that."""

    keyboard: Switches | None = None
    buttons: Switches | None = None
    """Named by their numbers."""
    move: tuple[float, float] = (0, 0)
    """dx, dy."""
    wheel: float = 0
    cursor: tuple[float, float] | None = None
    """x, y; only while a GUI is open."""
    gui: bool | None = None
    """Whether a GUI is open."""
    slot: int | None = None
    """The selected slot of the hotbar, from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line, sound or not."""

    raw: bytes
    """What is kept of it."""
    milli_us: int | None = None
    """Its Unix time in microseconds; None where it has no usable one."""
    tick: Tick | None = None
    """What it says; None: it is broken."""
    reason: str = ""
    """What is wrong with it."""


def read_line(content: bytes, *, keep_text: bool) -> Line:
    """Read one line.

    Args:
        keep_text: keep typed text in `Line.raw`, and the bytes of what is no JSON.
    """
    raw = content if keep_text else b""  # nobody can tell which of it would be text
    milli_us = None
    try:
        value = parse_json(decoded(content))
        raw, milli_us = _kept(value, keep_text=keep_text), _milli_us(value)
        return Line(raw=raw, milli_us=milli_us, tick=_tick(value))
    except Rejected as error:
        return Line(raw=raw, milli_us=milli_us, reason=str(error))


def read_time(content: bytes) -> int | None:
    """Return `Line.milli_us` alone."""
    try:
        return _milli_us(parse_json(decoded(content)))
    except Rejected:
        return None


def key_code(name: str) -> str:
    """Return the KeyboardEvent.code of a key such as "key.keyboard.left.shift", "" if unknown."""
    if not name.startswith("key.keyboard."):
        return ""
    key = name.removeprefix("key.keyboard.")
    if key.startswith("keypad."):
        pad = key.removeprefix("keypad.")
        return _KEYPAD.get(pad) or w3c_code(f"numpad{pad}")
    return "Backquote" if key == "grave.accent" else w3c_code(key.replace(".", ""))


def _tick(line: object) -> Tick:
    """Return what a line says; raise Rejected."""
    if line is None:
        return Tick()
    if not isinstance(line, dict):
        raise Rejected(f"is JSON {type(line).__name__}, not an object")
    if "mouse" not in line and "keyboard" not in line:
        raise Rejected('has neither "mouse" nor "keyboard"')
    gui = line.get("isGuiOpen")
    if gui is not None and type(gui) is not bool:
        raise Rejected(f'"isGuiOpen" is {shown(gui)}, not true or false')
    slot = line.get("hotbar")
    if slot is not None and (type(slot) is not int or not 0 <= slot < MAX_SLOTS):
        raise Rejected(f'"hotbar" is {shown(slot)}, not an int from 0')
    keyboard, mouse = _part(line, "keyboard"), _part(line, "mouse")
    keys = None if keyboard is None else _switches(keyboard, "keys", "newKeys", str)
    if mouse is None:
        return Tick(keyboard=keys, gui=gui, slot=slot)
    return Tick(
        keyboard=keys,
        buttons=_switches(mouse, "buttons", "newButtons", int),
        move=(_number(mouse, "dx"), _number(mouse, "dy")),
        wheel=_number(mouse, "dwheel"),
        cursor=(_number(mouse, "x"), _number(mouse, "y")) if gui else None,
        gui=gui,
        slot=slot,
    )


def _part(line: dict[str, Any], name: str) -> dict[str, Any] | None:
    part = line.get(name)
    if part is None or isinstance(part, dict):
        return part
    raise Rejected(f'"{name}" is {shown(part)}, not an object')


def _switches(part: dict[str, Any], held: str, new: str, kind: type) -> Switches:
    return Switches(
        held=_names(part.get(held), held, kind), new=_names(part.get(new, []), new, kind)
    )


def _names(values: object, name: str, kind: type) -> frozenset[str]:
    """Return the keys (str) or buttons (int) of a list."""
    if not isinstance(values, list):
        raise Rejected(f'"{name}" is {shown(values)}, not a list')
    for value in values:
        if type(value) is not kind:
            raise Rejected(f'"{name}" holds {shown(value)}, not {kind.__name__}')
        check_name(str(value)[: 2 * MAX_NAME_BYTES], name)
    return frozenset(map(str, values))


def _number(part: dict[str, Any], name: str) -> float:
    """Return a number in the range of whole float32; 0 where there is none."""
    value = part.get(name, 0)
    if type(value) not in (int, float):
        raise Rejected(f'"{name}" is {shown(value)}, not a number')
    if not -MAX_COUNTS <= value <= MAX_COUNTS:
        raise Rejected(f'"{name}" is beyond +-{MAX_COUNTS:.0f}')
    return float(value)


def _milli_us(line: object) -> int | None:
    milli = line.get("milli") if isinstance(line, dict) else None
    if type(milli) is float and math.isfinite(milli):
        milli = round(milli)
    if type(milli) is not int or not 0 <= milli < MAX_TIME_US // 1000:
        return None
    return milli * 1000


def _kept(line: object, *, keep_text: bool) -> bytes:
    """Return what is kept of a line: no state of the game, nor typed text unless asked for."""
    if not isinstance(line, dict):
        return b"null" if line is None else b""
    hidden = _STATE_OF_THE_GAME if keep_text else (*_STATE_OF_THE_GAME, _TYPED_TEXT)
    kept = {name: value for name, value in line.items() if name not in hidden}
    keyboard = kept.get("keyboard")
    if not keep_text and keyboard is not None:
        keys = keyboard if isinstance(keyboard, dict) else {}
        kept["keyboard"] = {name: value for name, value in keys.items() if name != _TYPED_TEXT}
    try:
        return _ENCODE(kept).encode()
    except RecursionError:
        return b""
