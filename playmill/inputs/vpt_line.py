"""What one line of a Video-Pre-Training log says. Knows neither the lines around it nor files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from playmill.config import MAX_TIME_US
from playmill.inputs.event_table import MAX_NAME_BYTES, check_name
from playmill.inputs.lines import Rejected, json_object, shown
from playmill.inputs.w3c import w3c_code

MAX_COUNTS = float(1 << 24)
"""Largest |dx|, |dy|, |dwheel|, |x|, |y|: up to here every whole number is exact in float32."""
MAX_SLOTS = 1 << 24
"""Slots are numbers below it."""

_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_MARK = "\0"
_ENCODED_MARK = b',"\\u0000",'
"""What stands between lines that are encoded at once."""
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
_FEW, _DISTINCT = 16, 1 << 12
"""Keys of which sets are remembered, and how many sets: the same are held on many lines."""


class Switches(NamedTuple):
    """What one line says of the keyboard's keys, or of the mouse's buttons."""

    held: frozenset[str]
    """Down at the end of the tick."""
    new: frozenset[str]
    """Went down within the tick."""


_NOTHING = Switches(frozenset(), frozenset())


class Tick(NamedTuple):
    """What one line says; None: nothing of that."""

    keyboard: Switches | None = None
    buttons: Switches | None = None
    """Named by their numbers."""
    gui: bool | None = None
    """Whether a GUI is open."""
    slot: int | None = None
    """The selected slot of the hotbar, from 0."""
    move: tuple[float, float] = (0, 0)
    """dx, dy."""
    wheel: float = 0
    cursor: tuple[float, float] | None = None
    """x, y; only while a GUI is open."""


class Line(NamedTuple):
    """One line, sound or not."""

    raw: bytes
    """What is kept of it."""
    milli_us: int | None = None
    """Its Unix time in microseconds; None where it has no usable one."""
    tick: Tick | None = None
    """What it says; None: it is broken."""
    reason: str = ""
    """What is wrong with it."""


def read_lines(lines: Sequence[bytes], values: Sequence[Any], *, keep_text: bool) -> Iterator[Line]:
    """Yield what each line says.

    Args:
        lines: as logged.
        values: what each is in JSON, or the `Rejected` that says why it is none; they are changed.
        keep_text: keep typed text in `Line.raw`, and the bytes of what is no JSON.
    """
    ticks = [_tick_or_reason(value) for value in values]
    raws = _encoded([_kept(value, keep_text=keep_text) for value in values])
    for line, value, tick, raw in zip(lines, values, ticks, raws, strict=True):
        if isinstance(tick, Tick):
            yield Line(raw, milli_us(value), tick)
        elif tick is value:  # nobody can tell which of it would be text
            yield Line(line if keep_text else b"", None, None, str(tick))
        else:
            yield Line(raw if type(value) is dict else b"", milli_us(value), None, str(tick))


def key_code(name: str) -> str:
    """Return the KeyboardEvent.code of a key such as "key.keyboard.left.shift", "" if unknown."""
    if not name.startswith("key.keyboard."):
        return ""
    key = name.removeprefix("key.keyboard.")
    if key.startswith("keypad."):
        pad = key.removeprefix("keypad.")
        return _KEYPAD.get(pad) or w3c_code(f"numpad{pad}")
    return "Backquote" if key == "grave.accent" else w3c_code(key.replace(".", ""))


def _tick_or_reason(value: Any) -> Tick | Rejected:
    try:
        return _tick(value)
    except Rejected as error:
        return error


def _tick(line: Any) -> Tick:
    """Return what a line says; raise Rejected."""
    if line is None:
        return Tick()
    line = json_object(line)
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
        return Tick(keys, None, gui, slot)
    buttons = _switches(mouse, "buttons", "newButtons", int)
    move, wheel = (_number(mouse, "dx"), _number(mouse, "dy")), _number(mouse, "dwheel")
    cursor = (_number(mouse, "x"), _number(mouse, "y")) if gui else None
    return Tick(keys, buttons, gui, slot, move, wheel, cursor)


def _part(line: dict[str, Any], name: str) -> dict[str, Any] | None:
    part = line.get(name)
    if part is None or isinstance(part, dict):
        return part
    raise Rejected(f'"{name}" is {shown(part)}, not an object')


def _switches(part: dict[str, Any], held: str, new: str, kind: type) -> Switches:
    now, went_down = part.get(held), part.get(new, [])
    if now == went_down == []:
        return _NOTHING
    return Switches(_names(now, held, kind), _names(went_down, new, kind))


def _names(values: object, name: str, kind: type) -> frozenset[str]:
    """Return the keys (str) or buttons (int) of a list."""
    if not isinstance(values, list):
        raise Rejected(f'"{name}" is {shown(values)}, not a list')
    if kind is str and len(values) <= _FEW:
        try:
            return _key_names(tuple(values), name)
        except TypeError:  # a list or an object is among them
            pass
    return _checked_names(values, name, kind)


@lru_cache(_DISTINCT)
def _key_names(values: tuple[Any, ...], name: str) -> frozenset[str]:
    # Nothing but a text is equal to a text: with numbers, of which 1 and true are, this is wrong.
    return _checked_names(values, name, str)


def _checked_names(values: Iterable[Any], name: str, kind: type) -> frozenset[str]:
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


def milli_us(line: object) -> int | None:
    """Return `Line.milli_us` of what a line is in JSON."""
    milli = line.get("milli") if isinstance(line, dict) else None
    if type(milli) is float and math.isfinite(milli):
        milli = round(milli)
    if type(milli) is not int or not 0 <= milli < MAX_TIME_US // 1000:
        return None
    return milli * 1000


def _kept(line: Any, *, keep_text: bool) -> Any:
    """Return what is kept of a line: no state of the game, nor typed text unless asked for.

    An object is changed in place. Of what is no object, nothing is kept.
    """
    if type(line) is not dict:
        return None
    for name in _STATE_OF_THE_GAME:
        line.pop(name, None)
    if not keep_text:
        line.pop(_TYPED_TEXT, None)
        keyboard = line.get("keyboard")
        if isinstance(keyboard, dict):
            keyboard.pop(_TYPED_TEXT, None)
        elif keyboard is not None:
            line["keyboard"] = {}
    return line


def _encoded(values: list[Any]) -> list[bytes]:
    """Return each value as JSON without blanks; b"" of one that is nested too deep."""
    try:
        marked = [each for value in values for each in (value, _MARK)]
        parts = _ENCODE(marked[:-1]).encode()[1:-1].split(_ENCODED_MARK)
        if len(parts) == len(values):
            return parts
    except RecursionError:
        pass
    return [_encoded_one(value) for value in values]  # one of them has the mark in it


def _encoded_one(value: Any) -> bytes:
    try:
        return _ENCODE(value).encode()
    except RecursionError:
        return b""
