"""Random logs of openai-vpt become the rows that a plain reading, line by line, gives."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill.alignment import actions
from playmill.inputs import LogFiles, ReadOptions
from playmill.inputs.vpt import VptReader
from playmill.synchronizer import align

KEYS = ("key.keyboard.a", "key.keyboard.d", "key.keyboard.w")
FRAMES = 40


def random_lines(rng: random.Random) -> list[Any]:
    """Return lines, None where the log says nothing: taps, re-presses, null parts, stuck attack."""
    lines: list[Any] = []
    held: dict[str, set[Any]] = {"keys": set(), "buttons": set()}
    for index in range(FRAMES + rng.randrange(-5, 6)):
        new: dict[str, list[Any]] = {"keys": [], "buttons": []}
        for part, names in (("keys", KEYS), ("buttons", (0, 1))):
            for name in names:
                if rng.random() < 0.2:
                    if name not in held[part]:
                        new[part].append(name)
                    held[part] ^= {name}
                elif rng.random() < 0.1:
                    new[part].append(name)
        if index == 0 and rng.random() < 0.5:
            new["buttons"], held["buttons"] = [0], {0}
        mouse = {
            "dx": rng.randrange(-5, 6),
            "dy": 1.5,
            "x": 1,
            "y": 2,
            "dwheel": rng.choice((0, 1)),
        }
        mouse |= {"buttons": list(held["buttons"]), "newButtons": new["buttons"]}
        keyboard = {"keys": list(held["keys"]), "newKeys": new["keys"], "chars": "text"}
        line = {
            "mouse": mouse,
            "keyboard": keyboard,
            "isGuiOpen": rng.random() < 0.2,
            "tick": index,
        }
        if index and rng.random() < 0.15:
            line[rng.choice(("mouse", "keyboard"))] = None
        lines.append(None if index and rng.random() < 0.05 else line)
    return lines


def plain_rows(lines: list[Any]) -> dict[str, list[Any]]:
    """Return of each frame what was held, pressed, released and moved, and whether that is known.

    Names are sorted into sets of text, counts into dictionaries.
    """
    rows: dict[str, list[Any]] = {
        name: [] for name in ("held", "presses", "releases", "mouse", "scroll", "gui", "known")
    }
    held: dict[str, set[str]] = {"keyboard": set(), "mouse": set()}
    sure = {"keyboard": False, "mouse": False}
    gui = stuck = False
    for index, line in enumerate((lines + [None] * FRAMES)[:FRAMES]):
        parts = {part: line and line[part] for part in held}
        down: dict[str, int] = {}
        up: dict[str, int] = {}
        for part, names in (
            ("keyboard", ("keys", "newKeys")),
            ("mouse", ("buttons", "newButtons")),
        ):
            if parts[part] is None:
                sure[part] = False
                continue
            now, new = ({str(name) for name in parts[part][field]} for field in names)
            if part == "mouse":
                stuck = new == {"0"} if index == 0 else stuck and "0" not in new
                now, new = (now - {"0"}, new - {"0"}) if stuck else (now, new)
            for name in now | new | held[part]:
                was = name in held[part]
                if name in new:  # it was up, then down
                    down[name], up[name] = 1, was + (name not in now)
                elif sure[part]:
                    down[name], up[name] = (
                        int(name in now and not was),
                        int(was and name not in now),
                    )
            held[part], sure[part] = now, True
        if index < len(lines):
            gui = line["isGuiOpen"] if line else gui
        mouse = parts["mouse"] or {"dx": 0, "dy": 0, "dwheel": 0}
        rows["held"].append(held["keyboard"] | held["mouse"])
        rows["presses"].append({name: count for name, count in down.items() if count})
        rows["releases"].append({name: count for name, count in up.items() if count})
        rows["mouse"].append([mouse["dx"], mouse["dy"]])
        rows["scroll"].append([0, mouse["dwheel"]])
        rows["gui"].append(gui and index < len(lines))
        rows["known"].append(all(part is not None for part in parts.values()))
    return rows


@pytest.mark.parametrize("seed", range(25))
def test_rows_are_those_of_a_plain_reading(tmp_path: Path, seed: int) -> None:
    lines = random_lines(random.Random(seed))
    log = tmp_path / "a.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    frame_us = 1_000_000 + 50_000 * np.arange(FRAMES, dtype=np.int64)
    files = LogFiles(video=tmp_path / "a.mp4", log=log)
    events = VptReader().read(files, ReadOptions(line_us=frame_us))
    found = actions.build(
        frame_us, events, align(frame_us, events.timestamp_us, policy="line", window_us=None)
    )
    plain, names = plain_rows(lines), (*found.key_names, *found.button_names)
    both = {
        "held": np.hstack([found.keys, found.buttons]),
        "presses": np.hstack([found.key_presses, found.button_presses]),
        "releases": np.hstack([found.key_releases, found.button_releases]),
    }
    masks = dict(zip(found.mask_names, found.masks.T.tolist(), strict=True))
    assert [{n for n, on in zip(names, row, strict=True) if on} for row in both["held"]] == plain[
        "held"
    ]
    for name in ("presses", "releases"):
        counts = [
            {n: c for n, c in zip(names, row, strict=True) if c} for row in both[name].tolist()
        ]
        assert counts == plain[name], name
    assert found.mouse.tolist() == plain["mouse"]
    assert found.scroll.tolist() == plain["scroll"]
    assert masks.get("gui", [0] * FRAMES) == plain["gui"]
    assert found.valid.tolist() == plain["known"]
