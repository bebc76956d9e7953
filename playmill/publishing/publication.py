"""Bring a file into place whole or not at all. Knows no format.

A file is written under a hidden temporary name in the folder of its target, checked by the
caller, flushed to disk, and then given its name in one step: by a hard link, which fails where the
name is taken, or by a rename under the folder's lock, which replaces. A crash leaves a temporary
behind; the next publication in that folder removes it, and `playmill gc` does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from playmill import failpoints
from playmill.markers import fsync

LOCK_NAME = ".publish.lock"
LOCK_WAIT_S = 300.0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Spool:
    """A file for HDF5 to write to that never fails, and remembers the first error.

    HDF5 cannot close a file whose writes fail: the handle leaks, its disk space stays taken, and
    the process dies of it at the latest when it exits. So a full disk is kept from HDF5: from the
    first error on, writes go nowhere, and `raise_error` tells the caller once HDF5 is through.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._position = 0
        self._size = os.fstat(self._fd).st_size
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to byte `offset` from the start, the position or the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        data = os.pread(self._fd, size, self._position)
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer`, with zeros where the file has ended; return the number of bytes.

        HDF5 takes the buffer for full. What it reads again after a write that went nowhere would
        else be what lay in memory, and the process died of following it.
        """
        view = memoryview(buffer).cast("B")
        done = os.preadv(self._fd, [view], self._position)
        view[done:] = bytes(len(view) - done)
        self._position += len(view)
        return len(view)

    def write(self, data: memoryview | bytes) -> int:
        """Write all of `data`, or nothing once a write has failed."""
        view = memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(view):
            try:
                done += os.pwrite(self._fd, view[done:], self._position + done)
            except OSError as error:
                self.error = error
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        self._size = self._position if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError as error:
                self.error = error
        return self._size

    def flush(self) -> None:
        """Do nothing: nothing is buffered here."""

    def raise_error(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def collect_stale(target: Path) -> None:
    """Remove the temporaries beside `target` whose writers are dead."""
    for path in find_temporaries(target):
        with suppress(OSError):  # gone already, or its writer lives
            if target.exists() and path.samefile(target):
                # A second name of the published file. No lock: it would keep a reader out; and
                # its writer, if he lives, needs it no more.
                path.unlink()
                continue
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(fd)


def find_temporaries(target: Path) -> list[Path]:
    """Return the temporaries beside `target`, whether their writers live or not."""
    return sorted(target.parent.glob(f".{target.name}.*.tmp"))


class Temporary:
    """A hidden file beside `target` that becomes the target, or is gone at the end of `with`.

    It is held by a lock for as long as this process lives, so that stale ones can be told. The
    lock is a shared one, as HDF5 takes to read: nobody who opens the published file is refused.
    """

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Temporary:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        collect_stale(self.target)
        self.path, self._fd = self._create()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _create(self) -> tuple[Path, int]:
        while True:
            path = self.target.with_name(f".{self.target.name}.{secrets.token_hex(8)}.tmp")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if os.fstat(fd).st_nlink:  # a collector may come between creation and lock
                return path, fd
            os.close(fd)

    @contextmanager
    def spool(self) -> Iterator[Spool]:
        """Open the temporary for HDF5; at the end raise what went wrong while writing.

        Raises:
            OSError: the disk is full, a quota or a limit is reached, the device failed.
        """
        spool = Spool(self.path)
        try:
            yield spool
        except Exception:
            spool.raise_error()  # what HDF5 says after a failed write is a consequence
            raise
        finally:
            spool.close()
        spool.raise_error()

    @contextmanager
    def flushing(self) -> Iterator[None]:
        """Put the file on disk while the block reads it.

        Raises:
            OSError: the device failed.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="flush") as pool:
            flush = pool.submit(os.fsync, self._fd)
            yield
            flush.result()  # an error is reported once: here, or to nobody

    def publish_new(self) -> bool:
        """Give the file its name if that is free; say whether it was.

        False also where the file system knows no hard links: publish under `locked` then.
        """
        os.fsync(self._fd)
        failpoints.reached("publish:before-link")
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        failpoints.reached("publish:after-link")
        self._sync_folders()
        return True

    def replace_target(self) -> None:
        """Give the file its name, whatever holds it; the caller holds `locked`."""
        os.fsync(self._fd)
        failpoints.reached("publish:before-replace")
        os.replace(self.path, self.target)
        failpoints.reached("publish:after-replace")
        self._sync_folders()

    def _sync_folders(self) -> None:
        fsync(self.target.parent)
        fsync(self.target.parent.parent)  # which may have got the folder just now


@contextmanager
def locked(folder: Path, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock under which files in `folder` are replaced.

    Raises:
        TimeoutError: another process held it for all of `wait_s` seconds.
    """
    fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT, f"locked by another process for {wait_s:g} s", str(folder)
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def write_text_whole(path: Path, text: str) -> None:
    """Replace the small file `path` as a whole, if its content is another."""
    data = text.encode()
    try:
        if path.read_bytes() == data:
            return
    except OSError:  # there is none
        pass
    with Temporary(path) as temporary:
        with temporary.path.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary.path, path)
        fsync(path.parent)
