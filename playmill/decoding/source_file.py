"""A file as FFmpeg reads it: hashed on the way. Knows no video."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

from playmill.errors import SourceChanged

READ_BYTES = 1 << 20
"""How much is read at once."""


class SourceFile(io.RawIOBase):
    """A file for FFmpeg to read: its name is never parsed, its bytes can be hashed on the way.

    Bytes are hashed once each and in order: those that FFmpeg reads in order at once, what it
    jumped over in `digest`. `on_read` is called at every read: the sign of life of a long job.
    """

    def __init__(
        self,
        path: Path,
        *,
        hashing: bool = False,
        on_read: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._path = path
        self._before = self._stamp()
        self._hash = hashlib.sha256() if hashing else None
        self._hashed = 0
        self._on_read = on_read

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: the file can be sought in."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes; none beyond the size that the file had when it was opened.

        A recorder that still writes would otherwise be read for as long as it records.
        """
        start = self._file.tell()
        left = max(0, self._before[0] - start)
        data: bytes = self._file.read(left if size < 0 else min(size, left)) or b""
        if self._hash is not None and start <= self._hashed < start + len(data):
            self._hash.update(memoryview(data)[self._hashed - start :])
            self._hashed = start + len(data)
        if self._on_read is not None:
            self._on_read()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position; -EINVAL, as FFmpeg has it, where there is none.

        The index of a file that is cut off may name places before its beginning. FFmpeg goes on
        without what is there.
        """
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return -errno.EINVAL

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def digest(self) -> str:
        """Return the sha256 of all bytes; reads those that were jumped over.

        Raises:
            SourceChanged: the file's size or time of change is not what it was when opened.
        """
        self.seek(self._hashed)
        while self.read(READ_BYTES):
            pass
        after = self._stamp()
        if after != self._before or self._hashed != self._before[0] or self._hash is None:
            raise SourceChanged(
                str(self._path),
                "",
                f"{after[0]} bytes, changed at {after[1]} ns",
                f"{self._before[0]} bytes, changed at {self._before[1]} ns, as when it was opened",
                "Wait until the recorder has closed the file, then submit it again.",
            )
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
