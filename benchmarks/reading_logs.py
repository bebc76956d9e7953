"""Logs of a million events: processor time and memory of every reader.

    python -m benchmarks.reading_logs [--events 1000000] [--log NAME]

Each log is read in a process of its own. Processor time is counted, so that other processes disturb
little. Memory is how much the process grew at its peak, the events that it returns included, for
each event; that of a fifth of the log is given beside it, and is the same where memory is linear.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Row, apart, peak_bytes, print_table
from tests.unit.p2p_samples import field

START_US = 1_700_000_000_000_000
STEP_US = 997
"""Time between two events."""
KEYS = "wasdqerf"
MAPPING = {
    "schema": "playmill-mapping/1",
    "time": {"field": "ts", "unit": "s", "clock": "unix"},
    "type": "ev",
    "events": {
        "down": {"device": "keyboard", "kind": "press", "name": "key"},
        "up": {"device": "keyboard", "kind": "release", "name": "key"},
        "look": {"device": "mouse", "kind": "move", "x": "dx", "y": "dy"},
    },
}


def _inputs(count: int) -> Iterator[tuple[int, str, int, int]]:
    """Yield time, key ("" for a move of the mouse), and dx, dy or whether it went down, 0.

    Of five inputs, four are moves: as in recorded play.
    """
    moves = np.random.default_rng(0).integers(-40, 40, (1024, 2)).tolist()
    for number in range(count):
        time_us = START_US + number * STEP_US
        if number % 5:
            yield time_us, "", *moves[number % 1024]
        else:
            turn = number // 5
            yield time_us, KEYS[turn // 2 % len(KEYS)], turn % 2 == 0, 0


def _decimal(time_us: int) -> str:
    return f"{time_us // 1_000_000}.{time_us % 1_000_000:06}"


def _native(count: int) -> Iterator[str]:
    for time_us, key, x, y in _inputs(count):
        if key:
            yield f'{{"t":{time_us},"type":"key_{"down" if x else "up"}","key":"{key}"}}'
        else:
            yield f'{{"t":{time_us},"type":"mouse_move","dx":{x},"dy":{y}}}'


def _ducktrack(count: int) -> Iterator[str]:
    for time_us, key, x, y in _inputs(count):
        at = _decimal(time_us - START_US + 150_160_000_000)
        if key:
            action = "press" if x else "release"
            yield f'{{"time_stamp": {at}, "action": "{action}", "name": "{key}"}}'
        else:
            yield f'{{"time_stamp": {at}, "action": "move", "x": {x + 640.5}, "y": {y + 360.5}}}'


def _owl(count: int) -> Iterator[str]:
    yield "timestamp,event_type,event_args"
    yield f'{_decimal(START_US)},VIDEO_START,"[]"'
    for time_us, key, x, y in _inputs(count - 1):
        if key:
            yield f'{_decimal(time_us)},KEYBOARD,"[{ord(key.upper())},{str(bool(x)).lower()}]"'
        else:
            yield f'{_decimal(time_us)},MOUSE_MOVE,"[{x},{y}]"'


def _owa_lines(count: int) -> Iterator[str]:
    at_x = at_y = 0
    for time_us, key, x, y in _inputs(count):
        if key:
            word, rest = f"keyboard.{'press' if x else 'release'}", f"{ord(key.upper())}"
        else:
            at_x, at_y = (at_x + x) % 1920, (at_y + y) % 1080
            word, rest = "mouse.move", f"{at_x},{at_y}"
        event = {"timestamp_ns": time_us * 1000, "event_src": "control_publisher"}
        yield json.dumps(event | {"event_data": f'["{word}",{rest}]'})


def _generic_jsonl(count: int) -> Iterator[str]:
    for time_us, key, x, y in _inputs(count):
        if key:
            ev = "down" if x else "up"
            yield f'{{"ts": {_decimal(time_us)}, "ev": "{ev}", "key": "{key}"}}'
        else:
            yield f'{{"ts": {_decimal(time_us)}, "ev": "look", "dx": {x}, "dy": {y}}}'


def _generic_csv(count: int) -> Iterator[str]:
    yield "ts,ev,key,dx,dy"
    for time_us, key, x, y in _inputs(count):
        if key:
            yield f"{_decimal(time_us)},{'down' if x else 'up'},{key},,"
        else:
            yield f"{_decimal(time_us)},look,,{x},{y}"


def _game_recorder(count: int) -> Iterator[str]:
    """Yield a line for every five inputs."""
    events = []
    for number, (_, key, x, y) in enumerate(_inputs(count), start=1):
        if key:
            action = "down" if x else "up"
            event = {"type": "key", "action": action, "vk": ord(key.upper()), "key": key.upper()}
        else:
            event = {"type": "mouse", "action": "move", "dx": x, "dy": y}
        events.append(event)
        if number % 5 == 0 or number == count:
            yield json.dumps({"frame": (number - 1) // 5, "events": events}, separators=(",", ":"))
            events = []


def _vpt(count: int) -> Iterator[str]:
    """Yield lines that each give its event "tick", a move, and now and then a press or release."""
    held: list[str] = []
    for number in range(count * 5 // 11):
        new: list[str] = []
        if number % 5 == 0:
            new = [] if held else [f"key.keyboard.{KEYS[number // 10 % len(KEYS)]}"]
            held = new
        mouse = {"x": 320.0, "y": 180.0, "dx": float(number % 7 + 1), "dy": -2.0, "dwheel": 0.0}
        mouse |= {"scaledX": 0.0, "scaledY": 0.0, "buttons": [], "newButtons": []}
        keyboard = {"keys": held, "newKeys": new, "chars": ""}
        line = {"mouse": mouse, "keyboard": keyboard, "isGuiOpen": False, "hotbar": 0, "yaw": 1.25}
        line |= {"tick": number, "milli": 1_649_575_088_006 + 50 * number, "serverTick": number}
        line |= {"inventory": [{"type": "dirt", "quantity": 3}], "stats": {"jump": number}}
        yield json.dumps(line)


def _lines(name: str, lines: Callable[[int], Iterator[str]]) -> Callable[[Path, int], None]:
    def write(folder: Path, count: int) -> None:
        with (folder / name).open("w", encoding="utf-8") as log:
            log.writelines(f"{line}\n" for line in lines(count))

    return write


def _mapped(name: str, lines: Callable[[int], Iterator[str]]) -> Callable[[Path, int], None]:
    write_log = _lines(name, lines)

    def write(folder: Path, count: int) -> None:
        write_log(folder, count)
        (folder / "a.mapping.json").write_text(json.dumps(MAPPING | {"log": name}))

    return write


def _owamcap(folder: Path, count: int) -> None:
    """Write keys and relative moves, as messages in chunks."""
    from mcap.writer import Writer

    with (folder / "a.mcap").open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="owa", library="benchmark")
        schema = writer.register_schema("", "jsonschema", b"{}")
        keyboard, mouse, position = (
            writer.register_channel(topic, "json", schema)
            for topic in ("keyboard", "mouse/raw", "mouse")
        )
        data = json.dumps({"event_type": "move", "x": 0, "y": 0}).encode()
        writer.add_message(position, START_US * 1000, data, START_US * 1000)
        for time_us, key, x, y in _inputs(count):
            at = time_us * 1000
            event: dict[str, Any]
            if key:
                event = {"event_type": "press" if x else "release", "vk": ord(key.upper())}
            else:
                event = {"last_x": x, "last_y": y, "us_flags": 0, "button_flags": 0}
            data = json.dumps(event | {"timestamp": at}).encode()
            writer.add_message(keyboard if key else mouse, at, data, at)
        writer.finish()


def _p2p(folder: Path, count: int) -> None:
    """Write an annotation for every five inputs, each with its own time."""
    with (folder / "annotation.proto").open("wb") as log:
        events, held = b"", b""
        for number, (time_us, key, x, y) in enumerate(_inputs(count), start=1):
            at_ns = (time_us - START_US + 1_000_000) * 1000
            if key:
                content = field(2, field(1, key.encode()) + field(2, x))
                held = field(2, field(1, key.encode())) if x else b""
            else:
                content = field(5, field(1, x) + field(2, y))
            events += field(9, content + field(6, at_ns))
            if number % 5 == 0 or number == count:
                user = field(1, held + field(3, 1))
                log.write(field(3, user + field(8, at_ns + 1000) + events))
                events = b""


@dataclass(frozen=True, slots=True)
class Log:
    """A log to read."""

    reader: str
    name: str
    write: Callable[[Path, int], None]
    video: str = "a.mp4"


_SEGMENT = "20260421_022902_0_999999999"
LOGS = {
    "gameplay-session": Log("gameplay-session/1", "inputs.jsonl", _lines("inputs.jsonl", _native)),
    "game-recorder": Log(
        "game-recorder",
        f"{_SEGMENT}.jsonl",
        _lines(f"{_SEGMENT}.jsonl", _game_recorder),
        f"{_SEGMENT}.mp4",
    ),
    "open-p2p": Log("open-p2p", "annotation.proto", _p2p),
    "openai-vpt": Log("openai-vpt", "a.jsonl", _lines("a.jsonl", _vpt)),
    "owamcap": Log("owamcap", "a.mcap", _owamcap, "a.mkv"),
    "owa-jsonl": Log("owa-jsonl", "event.jsonl", _lines("event.jsonl", _owa_lines), "a.mkv"),
    "owl-control": Log("owl-control", "inputs.csv", _lines("inputs.csv", _owl)),
    "ducktrack": Log("ducktrack", "events.jsonl", _lines("events.jsonl", _ducktrack)),
    "generic jsonl": Log("generic", "a.jsonl", _mapped("a.jsonl", _generic_jsonl)),
    "generic csv": Log("generic", "a.csv", _mapped("a.csv", _generic_csv)),
}


def read_here(name: str, folder: Path) -> dict[str, float]:
    """Read the log in `folder` in this process; return seconds, and bytes, for all its events."""
    from playmill.inputs import LogFiles, reader_for

    log = LOGS[name]
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as warm:  # imports, caches
        log.write(Path(warm), 1000)
        files = LogFiles(video=Path(warm) / log.video, log=Path(warm) / log.name)
        reader_for(log.reader).read(files)
    files = LogFiles(video=folder / log.video, log=folder / log.name)
    gc.collect()
    before, started = peak_bytes(), time.process_time()
    events = reader_for(log.reader).read(files)
    seconds = time.process_time() - started
    assert events.rejected.total == 0, events.rejected.reason[:3]
    return {"seconds": seconds, "bytes": peak_bytes() - before, "events": len(events)}


def measure(num_events: int, names: list[str] | None = None) -> list[Row]:
    """Measure every reader."""
    rows = []
    for name in names or LOGS:
        found = {}
        for count in (num_events // 5, num_events):
            with tempfile.TemporaryDirectory(prefix="playmill-bench-") as folder:
                LOGS[name].write(Path(folder), count)
                found[count] = apart("benchmarks.reading_logs", "--log", name, "--folder", folder)
        few, many = found.values()
        seconds = many["seconds"] * 1e6 / many["events"]
        size, size_of_few = (run["bytes"] / run["events"] for run in (many, few))
        rows += [
            Row(
                "reading a log",
                f"{name}, {many['events']:,} events",
                f"{seconds:.2f} s a million, {1e6 / seconds:,.0f} events/s",
                aim="< 5 s" if name == "gameplay-session" else "",
            ),
            Row(
                "",
                f"{name}, peak memory",
                f"{size:.0f} bytes an event ({size_of_few:.0f} of a fifth of them)",
                size / size_of_few if size_of_few else None,  # what a small log takes was there
                "< 500",
            ),
        ]
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--log", action="append", choices=LOGS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        print(json.dumps(read_here(arguments.log[0], arguments.folder)))
        return
    print_table(measure(arguments.events, arguments.log))


if __name__ == "__main__":
    main()
