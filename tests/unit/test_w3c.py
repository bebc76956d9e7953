"""Key names of logs are told as KeyboardEvent.code where there is no doubt."""

from __future__ import annotations

import pytest

from playmill.inputs.w3c import w3c_code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("w", "KeyW"),
        ("W", "KeyW"),
        ("1", "Digit1"),
        ("f12", "F12"),
        ("space", "Space"),
        (" ", "Space"),
        ("-", "Minus"),
        ("left", "ArrowLeft"),
        ("esc", "Escape"),
        ("left shift", "ShiftLeft"),
        ("shift_r", "ShiftRight"),
        ("lctrl", "ControlLeft"),
        ("page_down", "PageDown"),
        ("caps lock", "CapsLock"),
        ("numpad7", "Numpad7"),
        ("KeyW", "KeyW"),
        ("ShiftLeft", "ShiftLeft"),
    ],
)
def test_known_names_have_their_code(name, code) -> None:
    assert w3c_code(name) == code


@pytest.mark.parametrize("name", ["shift", "ctrl", "alt", "win", "f25", "ü", "", "_", "vk_87"])
def test_a_name_in_doubt_has_none(name) -> None:
    assert w3c_code(name) == ""


def test_only_keys_of_a_keyboard_have_a_code() -> None:
    assert w3c_code("left", "mouse") == ""
    with pytest.raises(ValueError, match="device='wheel' is none of keyboard"):
        w3c_code("left", "wheel")
