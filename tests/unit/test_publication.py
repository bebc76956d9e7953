"""The file that HDF5 writes to: what it is told when the disk is full."""

from __future__ import annotations

from pathlib import Path

from playmill.publishing.publication import Spool


def test_what_is_not_in_the_file_reads_as_zeros(tmp_path: Path) -> None:
    # HDF5 takes its buffer for full, and would follow what lay there before.
    path = tmp_path / "spool"
    path.write_bytes(b"abc")
    spool = Spool(path)
    spool.seek(1)
    buffer = bytearray(b"\xa5" * 6)
    assert spool.readinto(memoryview(buffer)) == 6
    assert bytes(buffer) == b"bc\0\0\0\0"
    assert spool.tell() == 7
    spool.close()
