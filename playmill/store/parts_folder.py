"""The parts of one parts key: a folder for each try of each chunk, and the commit markers.

Written by `playmill.parts`; here is only which of them count, and which may go.

    <chunk>/<attempt>/        zarr
    commits/<chunk>.json      put-if-absent: names the winning attempt
    collected.json            the parts are gone; a dataset holds their rows
    attempts/                 see attempts.py
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playmill.jobs import Commit
from playmill.markers import put_if_absent, read_json, read_value, replace


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """The parts in `root`, which need not be there yet."""

    root: Path

    def part(self, chunk_index: int, attempt: str) -> Path:
        """Return where one attempt's part of a chunk lies."""
        return self.root / f"{chunk_index:06d}" / attempt

    def _commit_path(self, chunk_index: int) -> Path:
        return self.root / "commits" / f"{chunk_index:06d}.json"

    @property
    def attempts(self) -> Path:
        """Where the tries of the chunks are counted."""
        return self.root / "attempts"

    def forget_attempts(self) -> None:
        """Give all chunks their tries anew."""
        shutil.rmtree(self.attempts, ignore_errors=True)

    def committed(self) -> frozenset[int]:
        """Return the chunks that have a commit marker."""
        try:
            names = os.listdir(self.root / "commits")
        except FileNotFoundError:
            return frozenset()
        numbers = (name.removesuffix(".json") for name in names)
        return frozenset(int(number) for number in numbers if number.isdecimal())

    def commit(self, commit: Commit) -> bool:
        """Put a chunk's commit marker; say whether this attempt won."""
        return put_if_absent(self._commit_path(commit.chunk_index), commit.to_json())

    def read_commit(self, chunk_index: int) -> Commit | None:
        """Return a chunk's commit marker, if there is one; raise ValueError if it is damaged."""
        return read_value(self._commit_path(chunk_index), Commit.from_json)

    def drop_commit(self, commit: Commit) -> None:
        """Remove a marker whose part is damaged, unless another attempt has replaced it."""
        if self.read_commit(commit.chunk_index) == commit:
            self.drop_marker(commit.chunk_index)
            shutil.rmtree(self.part(commit.chunk_index, commit.attempt), ignore_errors=True)

    def drop_marker(self, chunk_index: int) -> None:
        """Remove a chunk's commit marker, and what is known of its tries."""
        self._commit_path(chunk_index).unlink(missing_ok=True)
        # The tries that led to it say nothing about the next ones.
        for path in self.attempts.glob(f"{chunk_index:06d}.*"):
            path.unlink(missing_ok=True)

    def collect(self, *, dataset: str) -> None:
        """Delete the parts of features that a published dataset holds; their commits stay.

        Args:
            dataset: the file, relative to the folder of datasets.
        """
        replace(self.root / "collected.json", {"dataset": dataset})
        for path in self._chunk_folders():
            shutil.rmtree(path, ignore_errors=True)

    def collected(self) -> str | None:
        """Return the dataset that holds the features whose parts were deleted, if they were."""
        value = read_json(self.root / "collected.json")
        return None if value is None else str(value["dataset"])

    def drop(self) -> None:
        """Delete everything about these features: they will be computed anew if asked for."""
        shutil.rmtree(self.root, ignore_errors=True)

    def num_bytes(self) -> int:
        """Return how much disk the parts take."""
        num_bytes = 0
        walks = (found for folder in self._chunk_folders() for found in os.walk(folder))
        for top, _, files in walks:
            for name in files:
                with contextlib.suppress(FileNotFoundError):  # it has gone while we looked
                    num_bytes += os.lstat(os.path.join(top, name)).st_size
        return num_bytes

    def losing_attempts(self) -> Iterator[Path]:
        """Yield the folders of attempts that no commit marker names (yet)."""
        for folder in self._chunk_folders():
            try:
                commit = self.read_commit(int(folder.name))
            except (OSError, ValueError):
                continue  # nobody can say which of them counts
            with contextlib.suppress(FileNotFoundError):  # it has gone while we looked
                names = os.listdir(folder)
                yield from (folder / name for name in names if not commit or name != commit.attempt)

    def _chunk_folders(self) -> list[Path]:
        return [path for path in self.root.glob("[0-9]*") if path.is_dir()]
