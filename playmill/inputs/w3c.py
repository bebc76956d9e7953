"""KeyboardEvent.code names for the key names of input logs. Knows no log format.

Source:
    W3C UI Events KeyboardEvent code Values, https://www.w3.org/TR/uievents-code/
"""

from __future__ import annotations

from types import MappingProxyType

from playmill.inputs.events import DEVICES

_PUNCTUATION = {
    "`": "Backquote",
    "-": "Minus",
    "=": "Equal",
    "[": "BracketLeft",
    "]": "BracketRight",
    "\\": "Backslash",
    ";": "Semicolon",
    "'": "Quote",
    ",": "Comma",
    ".": "Period",
    "/": "Slash",
    " ": "Space",
}
_WORDS = {
    "Space": ("space", "spacebar"),
    "Enter": ("enter", "return"),
    "Escape": ("escape", "esc"),
    "Tab": ("tab",),
    "Backspace": ("backspace",),
    "Insert": ("insert", "ins"),
    "Delete": ("delete", "del"),
    "Home": ("home",),
    "End": ("end",),
    "PageUp": ("pageup", "pgup"),
    "PageDown": ("pagedown", "pgdn", "pgdown"),
    "ArrowLeft": ("left", "arrowleft", "leftarrow"),
    "ArrowRight": ("right", "arrowright", "rightarrow"),
    "ArrowUp": ("up", "arrowup", "uparrow"),
    "ArrowDown": ("down", "arrowdown", "downarrow"),
    "CapsLock": ("capslock",),
    "NumLock": ("numlock",),
    "ScrollLock": ("scrolllock",),
    "PrintScreen": ("printscreen", "prtsc"),
    "Pause": ("pause",),
    "ContextMenu": ("menu", "contextmenu"),
    "Backquote": ("grave", "backquote"),
    "Minus": ("minus",),
    "Equal": ("equal", "equals"),
    "BracketLeft": ("bracketleft", "leftbracket"),
    "BracketRight": ("bracketright", "rightbracket"),
    "Backslash": ("backslash",),
    "Semicolon": ("semicolon",),
    "Quote": ("quote", "apostrophe"),
    "Comma": ("comma",),
    "Period": ("period",),
    "Slash": ("slash",),
}
_MODIFIERS = {
    "Shift": ("shift",),
    "Control": ("ctrl", "control"),
    "Alt": ("alt",),
    "Meta": ("meta", "win", "cmd", "super"),
}


def _names() -> dict[str, str]:
    names = dict(_PUNCTUATION)
    names |= {letter: f"Key{letter.upper()}" for letter in "abcdefghijklmnopqrstuvwxyz"}
    names |= {digit: f"Digit{digit}" for digit in "0123456789"}
    names |= {f"f{number}": f"F{number}" for number in range(1, 25)}
    for prefix in ("numpad", "kp", "num"):
        names |= {f"{prefix}{digit}": f"Numpad{digit}" for digit in "0123456789"}
    names |= {word: code for code, words in _WORDS.items() for word in words}
    for modifier, words in _MODIFIERS.items():
        for side, marks in (("Left", ("left", "l")), ("Right", ("right", "r"))):
            for word in words:
                names |= {f"{mark}{word}": modifier + side for mark in marks}
                names |= {f"{word}{mark}": modifier + side for mark in marks}
    # Names that are codes already stay what they are.
    return names | {code.lower(): code for code in names.values()}


_CODES = MappingProxyType(_names())


def w3c_code(name: str, device: str = "keyboard") -> str:
    """Return the KeyboardEvent.code of the key that a log calls `name`, "" where unknown.

    Upper and lower case, blanks, "_" and "-" inside a name make no difference. A modifier without
    its side ("shift") is unknown, and so is everything that is no key of a keyboard.

    Args:
        name: the log's own name.
        device: one of `DEVICES`.
    """
    if device not in DEVICES:
        raise ValueError(f"{device=} is none of {', '.join(DEVICES)}")
    if device != "keyboard":
        return ""
    plain = name.lower()
    if plain in _CODES:
        return _CODES[plain]
    return _CODES.get(plain.replace(" ", "").replace("_", "").replace("-", ""), "")
