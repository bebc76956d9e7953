"""Broken logs for every reader: a few here, as many as asked for by `python -m tests.fuzz`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playmill.inputs import GameplaySessionReader, InputEvents, LogFiles
from tests.fuzz.__main__ import main, make_case
from tests.fuzz.cases import Case, check, digest
from tests.fuzz.targets import TARGETS

INPUTS = 200
NATIVE = TARGETS["gameplay-session"]


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_broken_logs_as_it_should(tmp_path, name) -> None:
    cases = (make_case(TARGETS[name], 0, number) for number in range(INPUTS))
    read = sum(check(TARGETS[name], case, tmp_path) for case in cases)
    assert 0.5 * INPUTS < read < INPUTS  # neither all too sound nor all too broken


@pytest.mark.parametrize("name", TARGETS)
def test_an_input_is_the_same_whenever_it_is_made(name) -> None:
    made = [make_case(TARGETS[name], 7, number) for number in range(50)]
    assert made == [make_case(TARGETS[name], 7, number) for number in range(50)]
    assert len({str(case.files) for case in made}) > 40


def test_a_container_may_be_cut_off_before_its_first_byte() -> None:
    assert make_case(TARGETS["owamcap"], 20261202, 76663).files == {"a.mcap": b""}


def test_readers_that_agree_have_the_same_digest(tmp_path) -> None:
    case = Case(files={"inputs.jsonl": b'{"t":7,"type":"key_down","key":"w"}'})
    same, other = (
        replace(NATIVE, reader=Careless(fault))
        for fault in (lambda events: events, lambda events: replace(events, duplicates=7))
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = digest(NATIVE, case, tmp_path / "a")
    assert digest(same, case, tmp_path / "b") == found
    assert digest(other, case, tmp_path / "b") != found


def test_a_case_is_loaded_as_it_was_saved(tmp_path) -> None:
    case = make_case(TARGETS["game-recorder"], 0, 3)
    case.save(tmp_path / "a")
    assert Case.load(tmp_path / "a") == case


class Careless:
    """The native reader, with a fault."""

    def __init__(self, fault: Callable[[InputEvents], InputEvents]) -> None:
        self.fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(NATIVE.reader, name)

    def read(self, files: LogFiles, options: object) -> InputEvents:
        return self.fault(GameplaySessionReader().read(files))


def crash(events: InputEvents) -> InputEvents:
    raise KeyError("dx")


def lose_a_line(events: InputEvents) -> InputEvents:
    return replace(events, duplicates=-1)


def forget_rejected(events: InputEvents) -> InputEvents:
    return replace(events, rejected=replace(events.rejected, total=events.rejected.total + 1))


def go_before_1970(events: InputEvents) -> InputEvents:
    return replace(events, timestamp_us=events.timestamp_us - 2**62)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (crash, "KeyError: 'dx'"),
        (lose_a_line, "AssertionError"),
        (forget_rejected, "rejected lines are not kept"),
        (go_before_1970, "a time is negative"),
    ],
)
def test_what_a_reader_does_wrong_is_found_and_saved(
    tmp_path: Path, monkeypatch, capsys, fault, said
) -> None:
    careless = replace(NATIVE, reader=Careless(fault))
    monkeypatch.setitem(TARGETS, "careless", careless)
    saved = tmp_path / "saved"
    assert main(["--target", "careless", "--inputs", "50", "--save", str(saved)]) == 1
    assert said in capsys.readouterr().out
    # What was saved shows it again, until it is mended.
    (finding, *_) = saved.iterdir()
    with pytest.raises((KeyError, AssertionError)):
        main(["--target", "careless", "--replay", str(finding)])
    assert main(["--target", "gameplay-session", "--replay", str(finding)]) == 0


@pytest.mark.parametrize(
    ("limit", "said"), [("MAX_SECONDS", "of processor time"), ("MAX_GROWTH_KB", "kB more memory")]
)
def test_a_case_that_takes_more_than_the_most_is_found(tmp_path, monkeypatch, limit, said) -> None:
    monkeypatch.setattr(f"tests.fuzz.cases.{limit}", -1)
    with pytest.raises(AssertionError, match=said):
        check(NATIVE, make_case(NATIVE, 0, 0), tmp_path)
