"""Reads the recordings of OpenAI's contractors (Video-Pre-Training): NAME.mp4 beside NAME.jsonl.

The log has one JSON object a game tick, and line i belongs to frame i: by order, not by time. So
the events of line i have the time of frame i, and `milli` only says when the video began, and how
far after it the lines without a frame are. A line that is broken or says nothing keeps its place:
what was held stays held, and its frame is masked as unknown. Blank lines are no lines.

What becomes of a line:
    - an event of its own, device and kind "other", code "tick", value (line from 0, 0), with the
      line as `raw`: so every line is counted, an idle one too;
    - presses and releases, where the held keys and buttons differ from those of the line before;
      `newKeys` and `newButtons` add what went down and up within the tick. What is held on the
      first line, or after lines that say nothing, and is not new, is a snapshot (kind state);
    - a move, where dx or dy is not 0; a scroll, where dwheel is not 0; the cursor's position, only
      while a GUI is open;
    - where the selected slot changed (and on the first line): device and kind "other", code
      "hotbar", value (slot from 0, 1 if no key of that slot was down: it was the wheel, whose turns
      the recorder lost). It is derived, so it is never counted as a scroll.

Attack (button 0) that is new and alone on the first line is stuck: it is left out until it is new
again. `raw` is the line without `inventory` and `stats` (the game's, and most of the bytes) and
without `chars`, which is typed text, unless text is to be kept; for the same reason a line that is
no JSON is then counted without its bytes. Moves are as logged, whatever the recorder's version.

Source:
    https://github.com/openai/Video-Pre-Training (README, data_loader.py)
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.clock_fit import clock_report
from playmill.config import LINE_POLICY, MAX_TIME_US
from playmill.inputs.event_table import EventTable, checked_time, what
from playmill.inputs.events import InputEvents, Mask
from playmill.inputs.line_times import LineTimes, line_masks
from playmill.inputs.lines import Rejected, json_batches, json_lines, opening_objects
from playmill.inputs.reader import PLAIN, Anchor, Clock, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.vpt_line import Line, Switches, Tick, key_code, milli_us, read_lines
from playmill.phrases import plural

TICK_US = 50_000
"""Length of a game tick, where a line beyond the frames does not say when it was."""
_ATTACK = frozenset({"0"})
_OTHER, _MOVE = what("other", "other"), what("mouse", "move")
_SCROLL, _POSITION = what("mouse", "scroll"), what("mouse", "position")
_GUI_SCALES = {"5.7": 0.5, "5.8": 0.5, "6.7": 2.0, "6.8": 2.0, "6.9": 2.0}
"""Recorder version -> what its dx, dy have to be multiplied by while a GUI is open."""


def line_times_us(log: Path) -> list[int | None]:
    """Return the Unix time that each line gives, in microseconds; None where it gives none."""
    return [milli_us(value) for _, _, value in json_lines(log)]


def clock_pairs(
    line_us: list[int | None], pts_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (K,) container times and (K,) log times of the frames whose line says when it was.

    Args:
        line_us: of `line_times_us`.
        pts_us: (P,) container time of each frame.
    """
    logged = {index: time for index, time in enumerate(line_us[: len(pts_us)]) if time is not None}
    return pts_us[np.array([*logged], np.int64)], np.array([*logged.values()], np.int64)


@dataclass(kw_only=True, slots=True)
class _Device:
    """The keyboard, or the mouse's buttons, while a log is read."""

    name: str
    held: frozenset[str] = frozenset()
    """On the last line that said so."""
    seen: bool = False
    """That was the line before."""

    def changes(self, now: Switches) -> Iterator[tuple[str, str]]:
        """Yield name and kind of what happened within a tick, by name."""
        for name in sorted(self.held | now.held | now.new):
            if name in now.new:  # it went down, so it was up before, whatever it is at the end
                if name in self.held:
                    yield name, "release"
                yield name, "press"
                if name not in now.held:
                    yield name, "release"
            elif (name in self.held) != (name in now.held):
                kind = "press" if name in now.held else "release"
                yield name, kind if self.seen else "state"

    def take(self, now: Switches | None) -> None:
        """Remember what a line says."""
        self.seen = now is not None
        if now is not None:
            self.held = now.held


@dataclass(kw_only=True, slots=True)
class _Log:
    """A log while it is read."""

    times: LineTimes
    table: EventTable = field(default_factory=EventTable)
    keyboard: _Device = field(default_factory=lambda: _Device(name="keyboard"))
    buttons: _Device = field(default_factory=lambda: _Device(name="mouse"))
    key_codes: dict[str, str] = field(default_factory=dict)
    own_codes: tuple[int, int] | None = None
    """Of "tick" and "hotbar"; None: no line was sound yet."""
    attack_is_stuck: bool = False
    gui: bool = False
    slot: int | None = None
    time_us: array[int] = field(default_factory=lambda: array("q"))
    """Of each line, as the two below."""
    unknown: bytearray = field(default_factory=bytearray)
    in_gui: bytearray = field(default_factory=bytearray)

    def add(self, number: int, line: Line) -> None:
        """Take the next line that is not blank."""
        time_us = min(self.times.next(line.milli_us), MAX_TIME_US)
        tick, reason = line.tick, line.reason
        if tick is not None:
            try:
                tick = self._freed(tick)
                self._add_events(tick, checked_time(time_us, "time of its frame"), line.raw)
            except Rejected as error:
                tick, reason = None, str(error)
        if tick is None:
            self.table.rejects.add(number, reason, line.raw)
            tick = Tick()
        self.keyboard.take(tick.keyboard)
        self.buttons.take(tick.buttons)
        if tick.gui is not None:
            self.gui = tick.gui
        if tick.slot is not None:
            self.slot = tick.slot
        self.time_us.append(time_us)
        self.unknown.append(tick.keyboard is None or tick.buttons is None)
        self.in_gui.append(self.gui)

    def _freed(self, tick: Tick) -> Tick:
        """Return `tick` without an attack that is stuck."""
        if tick.buttons is None:
            return tick
        new = tick.buttons.new
        if not self.time_us:
            self.attack_is_stuck = new == _ATTACK
        elif self.attack_is_stuck and new >= _ATTACK:
            self.attack_is_stuck = False
        if not self.attack_is_stuck:
            return tick
        buttons = Switches(tick.buttons.held - _ATTACK, new - _ATTACK)
        return tick._replace(buttons=buttons)

    def _add_events(self, tick: Tick, time_us: int, raw: bytes) -> None:
        switched: list[tuple[int, int, float]] = []
        for device, now in (self.keyboard, tick.keyboard), (self.buttons, tick.buttons):
            if now is not None and (now.new or now.held != device.held):  # on few lines
                switched += self._switched(device, now)
        if self.own_codes is None:
            names = ("tick", "hotbar")
            line, hotbar = (self.table.code("other", name, field_name=name) for name in names)
            self.own_codes = line, hotbar
        line, hotbar = self.own_codes
        # From here on nothing can be wrong, so that a line is taken whole or not at all.
        add = self.table.add
        add(time_us, _OTHER, code=line, x=len(self.time_us), raw=raw)
        for event, code, x in switched:
            add(time_us, event, code=code, x=x)
        x, y = tick.move
        if x or y:
            add(time_us, _MOVE, x=x, y=y)
        if tick.wheel:
            add(time_us, _SCROLL, y=tick.wheel)
        if tick.cursor is not None:
            add(time_us, _POSITION, x=tick.cursor[0], y=tick.cursor[1])
        if tick.slot is not None and tick.slot != self.slot:
            add(time_us, _OTHER, code=hotbar, x=tick.slot, y=self._turned(tick))

    def _switched(self, device: _Device, now: Switches) -> Iterator[tuple[int, int, float]]:
        """Yield event, code and value of each change."""
        for name, kind in device.changes(now):
            code = self.table.code(device.name, name, field_name=device.name)
            if device is self.keyboard and name not in self.key_codes:
                self.key_codes[name] = key_code(name)
            held = kind == "state" and name in now.held
            yield what(device.name, kind), code, float(held)

    def _turned(self, tick: Tick) -> bool:
        """Return whether the slot changed without its key; the first line's is no change."""
        assert tick.slot is not None
        keys = tick.keyboard.held | tick.keyboard.new if tick.keyboard else frozenset()
        return self.slot is not None and f"key.keyboard.{tick.slot + 1}" not in keys

    def masks(self) -> list[Mask]:
        """Return what is known of spans of time; frames without a line are unknown."""
        time_us = np.frombuffer(self.time_us, np.int64)
        found = line_masks("unknown", np.frombuffer(self.unknown, np.bool_), time_us)
        found += line_masks("gui", np.frombuffer(self.in_gui, np.bool_), time_us)
        rest = self.times.frames[len(self.time_us) :]
        if rest:
            found.append(Mask(name="unknown", start_us=rest[0], stop_us=rest[-1] + 1))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class VptReader:
    """The reader of `openai-vpt`: frame i is that of line i."""

    name: str = "openai-vpt"
    """Name of the log format."""
    policies: tuple[str, ...] = (LINE_POLICY,)
    """Line i belongs to frame i, whatever happens."""
    default_window_us: int | None = None
    """Events have the times of their frames."""
    private: tuple[str, ...] = ("lastServer",)
    """Of the game's options: where the player played last."""

    def find(self, video: Path) -> LogFiles | None:
        """Return NAME.jsonl, and NAME-options.json if it is there, beside NAME.mp4."""
        log = video.with_suffix(".jsonl")
        if video.suffix.lower() != ".mp4" or not log.is_file():
            return None
        marks = {"milli", "tick", "isGuiOpen"}
        if not any(
            {"mouse", "keyboard"} <= line.keys() and marks & line.keys()
            for line in opening_objects(log)
        ):
            return None
        options = video.with_name(f"{video.stem}-options.json")
        return LogFiles(video=video, log=log, metadata=options if options.is_file() else None)

    def clock(self, files: LogFiles) -> Clock:
        """Return "unix_us"."""
        return "unix_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place frame 0 at the time of line 0; the frame of a later line if that gives none.

        Raises:
            MissingStream: there is no log.
        """
        line_us = line_times_us(files.log)
        warnings = [*_count_warnings(len(line_us), len(video.pts)), *_scale_warnings(files.video)]
        pts_us, logged_us = clock_pairs(line_us, video.pts_us())
        pts_zero_us = int(logged_us[0]) - int(pts_us[0]) if len(pts_us) else 0
        if not len(pts_us):
            warnings.append("no line says when it was: times count from pts 0 of the video")
        elif line_us[0] is None:
            warnings.append("the first line does not say when it was; a later one did")
        return Anchor(
            pts_zero_us=pts_zero_us,
            clock="unix_us" if len(pts_us) else "log_us",
            line_pts=tuple(video.pts.tolist()),
            report=clock_report(pts_us, logged_us, source="milli"),
            warnings=tuple(warnings),
        )

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole; without `options.line_us` its lines are where `milli` says.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is a tick.
        """
        frames = [] if options.line_us is None else options.line_us.tolist()
        log = _Log(times=LineTimes(frames=frames, tick_us=TICK_US))
        for batch in json_batches(files.log):
            lines = read_lines(batch.lines, batch.values, keep_text=options.keep_text)
            for number, line in zip(batch.numbers, lines, strict=True):
                log.add(number, line)
        log.table.rejects.check_some_event(
            files.log, len(log.table), "one JSON object a game tick, with mouse and keyboard"
        )
        return log.table.freeze(
            mouse_unit="0.15 degrees", w3c_codes=log.key_codes, masks=log.masks()
        )


def _count_warnings(num_lines: int, num_frames: int) -> Iterator[str]:
    counts = f"{plural(num_lines, 'line')} for {plural(num_frames, 'frame')}"
    if num_lines > num_frames:
        beyond = plural(num_lines - num_frames, "line belongs", "lines belong")
        yield f"{counts}: at the end {beyond} to no frame"
    elif num_lines < num_frames:
        beyond = plural(num_frames - num_lines, "frame")
        yield f"{counts}: what was held is unknown for {beyond} at the end"


def _scale_warnings(video: Path) -> Iterator[str]:
    """Yield what a user of the moves should know of the recorder, whose version is a folder."""
    version = next(
        (part for part in video.parent.parts[::-1] if re.fullmatch(r"\d\.\d+", part)), ""
    )
    if version in _GUI_SCALES:
        yield (
            f"recorder {version}: multiply moves by {_GUI_SCALES[version]} where a GUI is open;"
            " they are as logged"
        )
