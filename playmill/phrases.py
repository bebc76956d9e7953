"""Counts, durations and choices as people write them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

NOTE = "note: "
"""How a warning begins that asks nothing of anybody."""


def labelled(warning: str) -> str:
    """Write a warning of a dataset as a line for people, which says how much it matters."""
    return warning if warning.startswith(NOTE) else f"warning: {warning}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Return "1 frame", "2,000 frames"; `nouns` where it takes more than an s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def shown_path(value: object) -> str:
    """Write a path for people: as seen from here where that is shorter."""
    text = str(value)
    return min(text, os.path.relpath(text), key=len) if os.path.isabs(text) else text


def not_a_folder(path: Path) -> str:
    """Return what to say of a path that should be a folder, or lie in one, and does not."""
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            where = "this" if place == path else str(place)
            return f"{where} is a file; give a folder, which is made if absent"
    return "a folder cannot be made here; give another one"


def time_left(seconds: float) -> str:
    """Write a duration the way people say it: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'nearest'?)" for the nearest of `known`, or ""."""
    names = list(known)
    # Strict enough that nobody who asks for a gpu is offered a cpu.
    near = get_close_matches(wrong, names, n=1, cutoff=0.7)
    if not near and len(wrong) > 2:
        near = [name for name in names if wrong.lower() in name.lower()]
    return f" (did you mean {near[0]!r}?)" if near else ""
