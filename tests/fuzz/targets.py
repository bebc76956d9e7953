"""Every reader as a target: small valid recordings of its format, and what must become of lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from mcap.writer import CompressionType

from playmill.inputs import DEVICES, READERS, InputEvents
from playmill.inputs.lines import Rejects
from playmill.inputs.mcap_messages import messages
from playmill.inputs.owl import HEADER
from tests.fuzz.cases import Case, Target
from tests.fuzz.mutations import changed_bytes, changed_lines, changed_message, changed_text
from tests.fuzz.properties import num_raw
from tests.unit import mcap_samples as owa
from tests.unit import p2p_samples as p2p

_BOM = b"\xef\xbb\xbf"


def filled_lines(content: bytes) -> list[bytes]:
    """Return the lines of a log that are not blank."""
    lines = [line.rstrip(b"\r") for line in content.removeprefix(_BOM).split(b"\n")]
    return [line for line in lines if line and not line.isspace()]


def _encoded(*lines: Any) -> list[bytes]:
    return [json.dumps(line).encode() for line in lines]


@dataclass(frozen=True, slots=True)
class _OneLog:
    """Files made from the lines of one log."""

    name: str
    lines: list[bytes]
    first: bytes | None = None

    def __call__(self, rng: Random) -> dict[str, bytes]:
        return {self.name: changed_lines(rng, self.lines, first=self.first)}


NATIVE = _encoded(
    {"t": 1_700_000_000_000_000, "type": "key_down", "key": "w"},
    {"t": 1_700_000_000_000_007, "type": "key_up", "key": "w"},
    {"t": 1_700_000_000_000_007, "type": "mouse_move", "dx": -3, "dy": 4},
    {"t": 1_700_000_000_000_003, "type": "mouse_down", "button": "left"},
    {"t": 1_700_000_000_090_000, "type": "mouse_up", "button": "left"},
    {"t": 1_700_000_000_100_000, "type": "mouse_wheel", "delta": -1},
)


def account_native(case: Case, folder: Path, events: InputEvents) -> None:
    """Every line is an event, a copy of one, or rejected; each comes back as it was."""
    filled = filled_lines(case.files["inputs.jsonl"])
    assert len(events) + events.duplicates + events.rejected.total == len(filled)
    assert {events.raw_line(i) for i in range(len(events))} <= set(filled)


DUCKTRACK = _encoded(
    {"time_stamp": 150160.965463208, "action": "move", "x": 1.5, "y": 2},
    {"time_stamp": 150160.9, "action": "click", "x": 1, "y": 2, "button": "left", "pressed": True},
    {"time_stamp": 150161, "action": "press", "name": "a"},
    {"time_stamp": 150162.25, "action": "release", "name": "a"},
    {"time_stamp": 150163.0, "action": "scroll", "x": 0, "y": 0, "dx": 0, "dy": -1},
)
_OBS = json.dumps(
    {
        "id": 1,
        "obs_record_state_timings": {
            "OBS_WEBSOCKET_OUTPUT_STARTED": [150160.871470291],
            "OBS_WEBSOCKET_OUTPUT_STOPPING": [150193.5],
        },
    }
).encode()


def make_ducktrack(rng: Random) -> dict[str, bytes]:
    """Return a log, and metadata that is mostly sound."""
    metadata = _OBS if rng.random() < 0.7 else changed_text(rng, _OBS, DUCKTRACK)
    return {"events.jsonl": changed_lines(rng, DUCKTRACK), "metadata.json": metadata}


def account_ducktrack(case: Case, folder: Path, events: InputEvents) -> None:
    """Every line is an event or rejected."""
    assert len(events) + events.rejected.total == len(filled_lines(case.files["events.jsonl"]))


def _vpt_line(index: int, *, keys: Any = (), new: Any = (), **fields: Any) -> dict[str, Any]:
    mouse = {"x": 3.0, "y": 0.0, "dx": 0.0, "dy": -1.5, "dwheel": 0.0}
    mouse |= {"buttons": [], "newButtons": []}
    mouse |= {name: fields.pop(name) for name in list(fields) if name in mouse}
    keyboard = {"keys": list(keys), "newKeys": list(new), "chars": "text"}
    line = {"isGuiOpen": False, "hotbar": 0, "tick": index, "milli": 1_649_575_088_006 + 50 * index}
    return {"mouse": mouse, "keyboard": keyboard, "inventory": [], "stats": {"jumps": 1}} | (
        line | fields
    )


_W, _SHIFT = "key.keyboard.w", "key.keyboard.left.shift"
VPT = _encoded(
    _vpt_line(0, buttons=[0], newButtons=[0], keys=[_W]),
    _vpt_line(1, keys=[_W, _SHIFT], new=[_SHIFT], dx=-3.0, dwheel=1.0),
    _vpt_line(2, isGuiOpen=True, hotbar=4),
    _vpt_line(3) | {"mouse": None},
    _vpt_line(4, buttons=[1], newButtons=[1, 0]),
    None,
)


def account_vpt(case: Case, folder: Path, events: InputEvents) -> None:
    """Every line has its event "tick" or is rejected."""
    names = list(zip(events.codes, events.code_device.tolist(), strict=True))
    tick = ("tick", DEVICES.index("other"))  # a key may have that name, too
    ticks = int((events.code == names.index(tick)).sum()) if tick in names else 0
    assert ticks + events.rejected.total == len(filled_lines(case.files["a.jsonl"]))


def _owl_line(at: str, kind: str, arguments: Any, *, doubled: bool = False) -> bytes:
    text = json.dumps(arguments)
    text = text.replace('"', '""') if doubled else text
    return f'{at},{kind},"{text}"'.encode()


OWA_LINES = [
    json.dumps({"timestamp_ns": at, "event_src": source, "event_data": data}).encode()
    for at, source, data in (
        (1740134045272214800, "control_publisher", '["mouse.click",1446,1107,left,true]'),
        (1740134045347404600, "control_publisher", '["mouse.click",1446,1107,left,false]'),
        (1740134045978417500, "window_publisher", '{"title":"hello","rect":[1,2,3,4]}'),
        (1740134046292540600, "control_publisher", '["mouse.move",1445,1107]'),
        (1740134046292540600, "control_publisher", '["mouse.scroll",1445,1107,0,-1]'),
        (1740134048267817500, "control_publisher", '["keyboard.press",81]'),
        (1740134048448819100, "control_publisher", '["keyboard.release",81]'),
    )
]


def account_owa_lines(case: Case, folder: Path, events: InputEvents) -> None:
    """Every line is an event or rejected."""
    assert len(events) + events.rejected.total == len(filled_lines(case.files["event.jsonl"]))


OWL = [
    _owl_line(
        "1767633347.5859811",
        "START",
        {"inputs": {"keyboard": [116], "mouse": [1], "gamepads": {"a": {"axis": {"1": 0.5}}}}},
    ),
    _owl_line(
        "1767633349", "END", {"inputs": {"keyboard": [87], "gamepad_digital": [3]}}, doubled=True
    ),
    _owl_line("1767633347.708028", "VIDEO_START", []),
    _owl_line("1767633349.708028", "VIDEO_END", []),
    _owl_line("1767633347.7", "HOOK_START", []),
    _owl_line("1767633348.5", "GAMEPAD_AXIS", [1, 0.5, "XInput:0"]),
    _owl_line("1767633348.4", "GAMEPAD_BUTTON", [1, True], doubled=True),
    _owl_line("1767633348.4", "GAMEPAD_BUTTON_VALUE", [1, 0.25, "WGI:1"]),
    _owl_line("1767633348.6", "KEYBOARD", [87, True]),
    _owl_line("1767633348.7", "KEYBOARD", [87, False]),
    _owl_line("1767633348.8", "MOUSE_BUTTON", [1, True]),
    _owl_line("1767633348.8", "MOUSE_MOVE", [0, -1]),
    _owl_line("1767633348.9", "SCROLL", [-1]),
    _owl_line("1767633348.9", "UNFOCUS", []),
    _owl_line("1767633348.95", "FOCUS", []),
]


def account_owl(case: Case, folder: Path, events: InputEvents) -> None:
    """Every line but the header is kept by an event, or rejected."""
    content = case.files["inputs.csv"]
    header = content.removeprefix(_BOM).split(b"\n", 1)[0].strip() == HEADER.encode()
    filled = len(filled_lines(content))
    assert num_raw(events) + events.rejected.total == filled - header


_MAPPED: dict[str, Any] = {
    "schema": "playmill-mapping/1",
    "time": {"field": "ts", "unit": "ms", "clock": "unix"},
    "type": "ev",
    "video_start": "rec",
    "events": {
        "down": {"device": "keyboard", "kind": "press", "name": "key"},
        "up": {"device": "keyboard", "kind": "release", "name": "key"},
        "look": {"device": "mouse", "kind": "move", "x": "dx", "y": "dy"},
        "at": {"device": "mouse", "kind": "position", "x": "dx", "y": "dy"},
        "fire": {"device": "mouse", "kind": "switch", "name_is": "left", "down": "on"},
        "wheel": {"device": "mouse", "kind": "scroll", "y": "v"},
        "stick": {"device": "gamepad", "kind": "axis", "name": "key", "value": "v"},
        "rec": {"kind": "other"},
        "chat": None,
    },
}
GENERIC_JSONL = _encoded(
    {"ts": 1744364222033.333, "ev": "down", "key": "w"},
    {"ts": 1744364222034, "ev": "up", "key": "w"},
    {"ts": 1744364222035, "ev": "look", "dx": -3, "dy": 1.5},
    {"ts": 1744364222036, "ev": "at", "dx": 10, "dy": 20},
    {"ts": 1744364222037, "ev": "fire", "on": True, "say": "hello"},
    {"ts": 1744364222038, "ev": "fire", "on": 0},
    {"ts": 1744364222039, "ev": "wheel", "v": -1},
    {"ts": 1744364222040, "ev": "stick", "key": 2, "v": -0.5},
    {"ts": 1744364222030, "ev": "rec"},
    {"ts": 1744364222042, "ev": "chat", "say": "hello"},
)
GENERIC_CSV = [
    b"1744364222033.3339;down;w;;;;",
    b"1744364222034;up;w;;;;",
    b"1744364222035;look;;-3;1.5;;",
    b"1744364222036;at;;10;20;;",
    b"1744364222037;fire;;;;TRUE;",
    b"1744364222038;fire;;;;0;;hello",
    b"1744364222039;wheel;;;;;-1",
    b"1744364222040;stick;2;;;;-0.5",
    b"1744364222030;rec",
    b'1744364222042;chat;"hello; ""you"" all";;;;',
]
_CSV_HEADER = b"ts;ev;key;dx;dy;on;v;say"


def make_generic(rng: Random, *, log: str) -> dict[str, bytes]:
    """Return a log, and a mapping that is mostly sound."""
    given = _MAPPED | {"log": log}
    if log.endswith(".csv"):
        content = changed_lines(rng, GENERIC_CSV, first=_CSV_HEADER)
        given |= {"delimiter": ";"}
    else:
        content = changed_lines(rng, GENERIC_JSONL)
    if rng.random() < 0.3:
        given |= {"private": ["say"], "keys": "windows_vk"}
    if rng.random() < 0.2:
        given |= {"time": given["time"] | {"unit": rng.choice(("s", "us", "ns"))}}
    mapping = json.dumps(given).encode()
    if rng.random() < 0.1:
        mapping = changed_text(rng, mapping, GENERIC_JSONL)
    return {log: content, "a.mapping.json": mapping}


def account_generic(case: Case, folder: Path, events: InputEvents) -> None:
    """Every line is an event, rejected, or of a type that the mapping passes over."""
    log = next(name for name in case.files if name != "a.mapping.json")
    filled = filled_lines(case.files[log])
    found = len(events) + events.rejected.total
    assert found <= len(filled)
    if b'"chat": null' not in case.files["a.mapping.json"]:
        return
    if log.endswith(".csv"):
        found += 1  # the header, if it is not among the rejected
    passed = sum(b"chat" in line or b"\\" in line for line in filled)
    assert found >= len(filled) - passed


_SEGMENT, _NEXT = "20260421_022902_100_110", "20260421_022902_110_120"
_KEY = {"type": "key", "action": "down", "vk": 87, "key": "W"}
GAME_RECORDER = _encoded(
    {"frame": 101, "events": [_KEY, {"type": "mouse", "action": "move", "dx": 1, "dy": 2}]},
    {"frame": 102, "events": [{"type": "mouse", "action": "scroll", "scroll_delta": 120}]},
    {"frame": 103, "events": [_KEY | {"action": "up"}, {"type": "mouse", "action": "left_down"}]},
    {"frame": 104, "events": [{"type": "mouse", "action": "move", "x": 960, "y": 540}]},
    {"frame": 105, "events": []},
    {"frame": 110, "events": [_KEY | {"key": None}]},
)
_STAMPS = _encoded(
    *(
        {"frame": 100 + i, "t_capture_unix_ms": 1744364222033.333 + 50 * i, "duplicate": i == 3}
        for i in range(6)
    )
)
_META = b'{"event_video_sync_offset": 1, "fps": 30, "start_epoch_ms": 1744364222033}'


def make_game_recorder(rng: Random) -> dict[str, bytes]:
    """Return a segment's log, mostly with the next one's and what else lies beside it."""
    made = {f"{_SEGMENT}.jsonl": changed_lines(rng, GAME_RECORDER)}
    if rng.random() < 0.5:
        made[f"{_NEXT}.jsonl"] = changed_lines(rng, GAME_RECORDER)
    if rng.random() < 0.5:
        made["frame_timestamps.jsonl"] = changed_lines(rng, _STAMPS)
    if rng.random() < 0.8:
        made["meta.json"] = _META if rng.random() < 0.6 else changed_text(rng, _META, _STAMPS)
    return made


def account_game_recorder(case: Case, folder: Path, events: InputEvents) -> None:
    """Every input of every line is an event or rejected; so is a line that cannot be read."""
    least = most = 0
    for name, content in case.files.items():
        if name in ("meta.json", "frame_timestamps.jsonl"):
            continue
        own = name.startswith(_SEGMENT)
        for line in filled_lines(content):
            try:
                inputs = json.loads(line)["events"]
                count = len(inputs) if type(inputs) is list else 1
            except (ValueError, KeyError, TypeError, RecursionError):
                count = 1
            # A line with a number that no frame can have is rejected as a whole.
            least += min(count, 1) if own else 0
            most += max(count, 1)
    assert least <= len(events) + events.rejected.total <= most


P2P = [
    p2p.annotation(
        p2p.action(keys=["w"], mouse=p2p.mouse(at=(3, 4), buttons=["0"])), taken_us=1_000_000
    ),
    p2p.annotation(
        p2p.action(keys=["w", "e"]),
        taken_us=1_047_000,
        events=[p2p.key_event(1_020_000, "e"), p2p.event(1_030_000, 5, p2p.vector(-1, 2))],
    ),
    p2p.annotation(p2p.action(known=False), system=p2p.action(keys=["a"]), taken_us=1_101_000),
    p2p.annotation(
        p2p.action(pad=p2p.pad(buttons=["south"], left=(0.5, 1.0), trigger=0.25)),
        taken_us=1_150_000,
        events=[
            p2p.event(1_120_000, 7, p2p.field(1, "south") + p2p.field(2, 1)),
            p2p.event(1_121_000, 8, p2p.field(1, "left_stick_x") + p2p.field(2, 0.5)),
            p2p.key_event(1_122_000, "w", pressed=False, simulated=True),
        ],
    ),
    p2p.annotation(
        p2p.action(mouse=p2p.mouse(delta=(1, -1), scroll=(0, 2), buttons=["7"])),
        taken_us=1_199_000,
        events=[
            p2p.event(1_160_000, 1, p2p.field(1, "Left") + p2p.field(2, 1)),
            p2p.event(1_161_000, 4, p2p.vector(0, -1)),
            p2p.event(1_162_000, 3, p2p.vector(10, 20)),
        ],
    ),
    p2p.annotation(None),
    b"",
]
_EVENTS_TAG, _PASSED_TAG = b"\x4a", b"\x5a"


def make_p2p(rng: Random) -> dict[str, bytes]:
    """Return annotations, many of them changed; a third of the files have no events."""
    chosen = rng.choices(P2P, k=rng.randrange(9))
    chosen = [changed_message(rng, one) if rng.random() < 0.4 else one for one in chosen]
    content = p2p.video_annotation(*chosen)
    if rng.random() < 0.3:
        content = content.replace(_EVENTS_TAG, _PASSED_TAG)
    if rng.random() < 0.15:
        content = changed_bytes(rng, content)
    if rng.random() < 0.0005:
        content += p2p.field(3, rng.randbytes(1) * ((1 << 20) + 1))
    return {"annotation.proto": content}


def account_p2p(case: Case, folder: Path, events: InputEvents) -> None:
    """What is kept of a log stands in it; no more is said of annotations than there are."""
    content = case.files["annotation.proto"]
    assert all(events.raw_line(i) in content for i in range(len(events)))
    assert not events.rejected.total or events.rejected.line.max() <= len(content)


_KINDS = list(CompressionType)
OWA: list[owa.Message] = [
    owa.key(0, 65),
    owa.key(9, 65, "release", timestamp=owa.BASE_NS + 8_000_000),
    owa.at(1, 2, 3),
    owa.click(2, "left", pressed=True),
    ("mouse", 2.5, {"event_type": "scroll", "x": 1, "y": 2, "dx": 0, "dy": -1}),
    owa.raw_move(3, 1, 1, button_flags=1),
    owa.raw_move(3, 0, 0, button_flags=0x400, button_data=65416),
    owa.raw_move(4, 7, 8, us_flags=1),
    owa.held(4, 65),
    owa.held(500),
    ("mouse/state", 5, {"x": 1, "y": 2, "buttons": ["left"]}),
    ("window", 6, {"title": "t", "rect": [1, 2, 3, 4], "hWnd": 1}),
    *(owa.screen(at, at + 1, generation=at % 3 + 1) for at in (1, 20, 50)),
]
_OWA_LINES = [json.dumps(content).encode() for _, _, content in OWA]


def make_owamcap(rng: Random) -> dict[str, bytes]:
    """Return a container of messages, many of them changed, at times the container too."""
    chosen: list[owa.Message] = []
    for number in rng.choices(range(len(OWA)), k=rng.randrange(9)):
        (topic, at, _), data = OWA[number], _OWA_LINES[number]
        if rng.random() < 0.35:
            data = changed_text(rng, data, _OWA_LINES)
        if rng.random() < 0.05:
            topic, at = rng.choice((OWA[0][0], "mouse", "x", "")), rng.choice((-1e12, 0.0, 1e12))
        chosen.append((topic, at, data))
    sizes = (600, 1 << 20)
    content = owa.mcap_bytes(chosen, compression=rng.choice(_KINDS), chunk_size=rng.choice(sizes))
    if rng.random() < 0.3:
        content = changed_bytes(rng, content)
    if content and rng.random() < 0.05:  # a record or chunk that lies about its size
        place = rng.randrange(len(content))
        content = content[:place] + rng.choice((b"\xff", b"\0")) * 8 + content[place + 8 :]
    return {"a.mcap": content}


def account_owamcap(case: Case, folder: Path, events: InputEvents) -> None:
    """Every message but a frame's stamp is kept by an event, or rejected."""
    rejects = Rejects()
    topics = [message.topic for message in messages(folder / "a.mcap", rejects)]
    others = len(topics) - topics.count("screen")
    assert num_raw(events) + events.rejected.total == others + rejects.total


TARGETS: dict[str, Target] = {
        name: Target(
            reader=READERS[reader],
            video=video,
            log=log,
            make=make,
            account=account,
        )
        for name, reader, video, log, make, account in (
            ("gameplay-session", "gameplay-session/1", "video.mp4", "inputs.jsonl",
             _OneLog("inputs.jsonl", NATIVE), account_native),
            ("game-recorder", "game-recorder", f"{_SEGMENT}.mp4", f"{_SEGMENT}.jsonl",
             make_game_recorder, account_game_recorder),
            ("open-p2p", "open-p2p", "192x192.mp4", "annotation.proto", make_p2p, account_p2p),
            ("openai-vpt", "openai-vpt", "a.mp4", "a.jsonl", _OneLog("a.jsonl", VPT), account_vpt),
            ("owamcap", "owamcap", "a.mkv", "a.mcap", make_owamcap, account_owamcap),
            ("owa-jsonl", "owa-jsonl", "a.mkv", "event.jsonl",
             _OneLog("event.jsonl", OWA_LINES), account_owa_lines),
            ("owl-control", "owl-control", "recording.mp4", "inputs.csv",
             _OneLog("inputs.csv", OWL, HEADER.encode()), account_owl),
            ("ducktrack", "ducktrack", "a.mp4", "events.jsonl", make_ducktrack, account_ducktrack),
            ("generic-jsonl", "generic", "a.mp4", "a.jsonl",
             partial(make_generic, log="a.jsonl"), account_generic),
            ("generic-csv", "generic", "a.mp4", "a.csv",
             partial(make_generic, log="a.csv"), account_generic),
        )
}  # fmt: skip
"""By name; a reader of two kinds of files is two targets."""
