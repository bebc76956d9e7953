"""What numbers of Windows mean: virtual keys as KeyboardEvent.code, the wheel. No log format.

A virtual key is what the key means in the player's keyboard layout; where that differs from the US
layout (AZERTY, Dvorak), the code named here is that of the US layout's key.

Source:
    Virtual-Key Codes, https://learn.microsoft.com/windows/win32/inputdev/virtual-key-codes;
    W3C UI Events KeyboardEvent code Values, https://www.w3.org/TR/uievents-code/
"""

from __future__ import annotations

from types import MappingProxyType

_NAMED = {
    0x08: "Backspace", 0x09: "Tab", 0x0D: "Enter", 0x13: "Pause", 0x14: "CapsLock",
    0x1B: "Escape", 0x1C: "Convert", 0x1D: "NonConvert",
    0x20: "Space", 0x21: "PageUp", 0x22: "PageDown", 0x23: "End", 0x24: "Home",
    0x25: "ArrowLeft", 0x26: "ArrowUp", 0x27: "ArrowRight", 0x28: "ArrowDown",
    0x2C: "PrintScreen", 0x2D: "Insert", 0x2E: "Delete", 0x2F: "Help",
    0x5B: "MetaLeft", 0x5C: "MetaRight", 0x5D: "ContextMenu", 0x5F: "Sleep",
    0x6A: "NumpadMultiply", 0x6B: "NumpadAdd", 0x6C: "NumpadComma", 0x6D: "NumpadSubtract",
    0x6E: "NumpadDecimal", 0x6F: "NumpadDivide",
    0x90: "NumLock", 0x91: "ScrollLock",
    0xA0: "ShiftLeft", 0xA1: "ShiftRight", 0xA2: "ControlLeft", 0xA3: "ControlRight",
    0xA4: "AltLeft", 0xA5: "AltRight",
    0xA6: "BrowserBack", 0xA7: "BrowserForward", 0xA8: "BrowserRefresh", 0xA9: "BrowserStop",
    0xAA: "BrowserSearch", 0xAB: "BrowserFavorites", 0xAC: "BrowserHome",
    0xAD: "AudioVolumeMute", 0xAE: "AudioVolumeDown", 0xAF: "AudioVolumeUp",
    0xB0: "MediaTrackNext", 0xB1: "MediaTrackPrevious", 0xB2: "MediaStop",
    0xB3: "MediaPlayPause", 0xB4: "LaunchMail", 0xB5: "MediaSelect", 0xB6: "LaunchApp1",
    0xB7: "LaunchApp2",
    0xBA: "Semicolon", 0xBB: "Equal", 0xBC: "Comma", 0xBD: "Minus", 0xBE: "Period",
    0xBF: "Slash", 0xC0: "Backquote", 0xDB: "BracketLeft", 0xDC: "Backslash",
    0xDD: "BracketRight", 0xDE: "Quote", 0xE2: "IntlBackslash",
}  # fmt: skip

_CODES = MappingProxyType(
    _NAMED
    | {0x30 + digit: f"Digit{digit}" for digit in range(10)}
    | {ord(letter): f"Key{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    | {0x60 + digit: f"Numpad{digit}" for digit in range(10)}
    | {0x70 + number: f"F{number + 1}" for number in range(24)}
)


WHEEL_DELTA = 120
"""What Windows counts one step of the wheel as."""
SIDELESS = MappingProxyType({0x10: "Shift", 0x11: "Control", 0x12: "Alt"})
"""What a virtual key means that does not say which of two keys it is."""


def w3c_of_vk(vk: int) -> str:
    """Return the KeyboardEvent.code of a Windows virtual-key code, "" where there is no one code.

    That is so for unknown numbers, for mouse buttons (1 to 6), and for SHIFT, CONTROL and MENU
    (16, 17, 18), which do not say the side. The Enter of the number pad has the code of the other.
    """
    return _CODES.get(vk, "")


W3C_BY_NUMBER = MappingProxyType({str(vk): w3c_of_vk(vk) for vk in range(256)})
"""The same, for logs whose names of keys are the codes' numbers."""
