"""Broken logs for every reader, as many as asked for: `python -m tests.fuzz`.

    python -m tests.fuzz [--target NAME ...] [--inputs 1000000] [--seed 0] [--first 0]
    python -m tests.fuzz --target NAME --replay FOLDER
    python -m tests.fuzz --digests FOLDER [--target NAME ...] [--inputs 100000]

Input number i of a seed is always the same one. What a reader does wrong is printed once for each
place where it happens, and its files are saved; `--replay` lets the reader take them again.

`--digests` writes FOLDER/NAME.txt, a hash a line of all that the reader makes of each input: with
the `playmill` of another checkout in place of this one the files are the same if the readers are.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.cases import Case, Target, check, digest
from tests.fuzz.targets import TARGETS

PROGRESS = 50_000
MAX_FINDS = 20
"""Distinct faults after which a reader's run ends."""


def make_case(target: Target, seed: int, number: int) -> Case:
    """Return input `number` of a seed."""
    rng = random.Random(seed << 40 | number)
    return Case.of(rng, target.make(rng))


@dataclass(kw_only=True, slots=True)
class Run:
    """Many inputs for one reader."""

    name: str
    seed: int
    save: Path
    read: int = 0
    """Inputs that gave events."""
    faults: Counter[str] = field(default_factory=Counter)
    """How often each one was met."""

    def take(self, first: int, count: int, folder: Path) -> int:
        """Give the reader `count` inputs; return how many it was given before too many faults."""
        target = TARGETS[self.name]
        started = time.perf_counter()
        for done in range(count):
            case = make_case(target, self.seed, first + done)
            try:
                self.read += check(target, case, folder)
            except Exception:
                self._found(case, first + done)
                if len(self.faults) >= MAX_FINDS:
                    return done + 1
            if (done + 1) % PROGRESS == 0:
                rate = (done + 1) / (time.perf_counter() - started)
                print(f"{self.name}: {done + 1:,} inputs, {rate:.0f} /s, {self}", flush=True)
        return count

    def _found(self, case: Case, number: int) -> None:
        text = traceback.format_exc()
        frame = traceback.extract_tb(sys.exc_info()[2])[-1]
        fault = f"{text.strip().splitlines()[-1][:200]} ({frame.filename}:{frame.lineno})"
        place = f"{frame.filename}:{frame.lineno}"
        self.faults[place] += 1
        if self.faults[place] == 1:
            saved = self.save / f"{self.name}-{self.seed}-{number}"
            case.save(saved)
            print(f"{self.name}: input {number} of seed {self.seed}: {fault}\n{text}  {saved}")

    def __str__(self) -> str:
        return f"{self.read:,} read, {sum(self.faults.values())} faults"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", choices=TARGETS, help="every one by default")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--save", type=Path, default=Path("fuzz-finds"))
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="a saved input")
    parser.add_argument("--digests", type=Path, metavar="FOLDER", help="compare, do not judge")
    given = parser.parse_args(arguments)
    shared = Path("/dev/shm")
    failed = False
    for name in given.target or TARGETS:
        with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
            if given.replay is not None:
                check(TARGETS[name], Case.load(given.replay), Path(folder))
                continue
            if given.digests is not None:
                given.digests.mkdir(parents=True, exist_ok=True)
                with (given.digests / f"{name}.txt").open("w") as digests:
                    for number in range(given.first, given.first + given.inputs):
                        case = make_case(TARGETS[name], given.seed, number)
                        print(digest(TARGETS[name], case, Path(folder)), file=digests)
                continue
            run = Run(name=name, seed=given.seed, save=given.save)
            count = run.take(given.first, given.inputs, Path(folder))
            print(f"{name}: {count:,} inputs of seed {given.seed}, {run}", flush=True)
            failed |= bool(run.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
