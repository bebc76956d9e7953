"""Virtual-key codes of Windows have the KeyboardEvent.code of the US layout's key."""

from __future__ import annotations

import pytest

from playmill.inputs.w3c import w3c_code
from playmill.inputs.windows_keys import w3c_of_vk


@pytest.mark.parametrize(
    ("vk", "code"),
    [
        (0x08, "Backspace"),
        (0x1B, "Escape"),
        (0x20, "Space"),
        (0x25, "ArrowLeft"),
        (0x28, "ArrowDown"),
        (0x30, "Digit0"),
        (0x39, "Digit9"),
        (67, "KeyC"),
        (87, "KeyW"),
        (0x60, "Numpad0"),
        (0x69, "Numpad9"),
        (0x70, "F1"),
        (0x87, "F24"),
        (0xA0, "ShiftLeft"),
        (162, "ControlLeft"),
        (0xA5, "AltRight"),
        (0xC0, "Backquote"),
        (0xDE, "Quote"),
    ],
)
def test_a_key_has_its_code(vk, code) -> None:
    assert w3c_of_vk(vk) == code


@pytest.mark.parametrize("vk", [16, 17, 18], ids=["shift", "control", "menu"])
def test_a_modifier_without_its_side_has_no_code(vk) -> None:
    assert w3c_of_vk(vk) == ""


@pytest.mark.parametrize("vk", [-1, 0, 1, 2, 4, 5, 6, 7, 0x88, 0xFF, 256, 2**70])
def test_what_is_no_key_of_a_keyboard_has_no_code(vk) -> None:
    assert w3c_of_vk(vk) == ""


def test_no_code_belongs_to_two_keys_and_all_are_names_that_other_logs_give() -> None:
    codes = [code for vk in range(256) if (code := w3c_of_vk(vk))]
    assert len(codes) == len(set(codes))
    # Names of media and browser keys, and of the number pad's signs, are in no other log's table.
    plain = [code for code in codes if w3c_code(code)]
    assert all(w3c_code(code) == code for code in plain)
    assert len(plain) > 100
