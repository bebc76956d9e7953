"""A part is what its marker says, or a PartError."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from playmill import parts
from playmill.errors import PartError
from playmill.parts import ROWS_PER_ZARR_CHUNK, PartWriter, Promise, read_parts

DIM = 8
ROWS = ROWS_PER_ZARR_CHUNK["features"]


def features(num_rows: int) -> NDArray[np.float16]:
    """Return rows that all differ."""
    values = np.arange(num_rows * DIM, dtype=np.float64).reshape(num_rows, DIM)
    return (values / 7).astype(np.float16)


def write(folder: Path, rows: NDArray[np.float16], *, batch: int = 16) -> str:
    """Write a part in batches; return the digest of its features."""
    part = PartWriter(folder, dim=DIM, image_size=None)
    for start in range(0, len(rows), batch):
        part.append("features", rows[start : start + batch])
    return part.close()["features"]


def read(
    folder: Path, digest: str, *, num_rows: int, name: str = "features"
) -> NDArray[np.generic]:
    """Read an array of a part whole."""
    promise = Promise(folder=folder, name=name, num_rows=num_rows, digest=digest)
    blocks = [block.copy() for block in read_parts([promise])]
    return np.concatenate(blocks) if blocks else np.zeros((0, DIM), np.float16)


@pytest.mark.parametrize("num_rows", [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 5])
def test_what_was_written_is_read(tmp_path: Path, num_rows: int) -> None:
    rows = features(num_rows)
    digest = write(tmp_path / "part", rows)
    assert np.array_equal(read(tmp_path / "part", digest, num_rows=num_rows), rows)


@pytest.mark.parametrize("small", [0, 1 << 30], ids=["threads", "no threads"])
def test_a_block_holds_until_the_next_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(parts, "SMALL_BYTES", small)
    monkeypatch.setattr(parts, "AHEAD_BYTES", 3 * ROWS * DIM * 2)
    rows = {tmp_path / str(count): features(count) + count for count in (1000, 3, 700, 2)}
    promises = [
        Promise(folder=folder, name="features", num_rows=len(part), digest=write(folder, part))
        for folder, part in rows.items()
    ]
    memory = set()
    found = []
    for block in read_parts(promises):
        memory.add(block.ctypes.data)
        found.append(block.copy())
    assert np.array_equal(np.concatenate(found), np.concatenate(list(rows.values())))
    assert len(memory) < len(found)


def test_how_rows_come_in_batches_does_not_matter(tmp_path: Path) -> None:
    rows = features(700)
    digests = {write(tmp_path / str(batch), rows, batch=batch) for batch in (1, 16, 700)}
    assert len(digests) == 1


def test_zeros_are_stored_like_any_other_rows(tmp_path: Path) -> None:
    rows = np.zeros((ROWS, DIM), np.float16)
    digest = write(tmp_path / "part", rows)
    assert np.array_equal(read(tmp_path / "part", digest, num_rows=ROWS), rows)


def test_pictures_lie_beside_the_features(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (40, 6, 4, 3), np.uint8)
    part = PartWriter(tmp_path / "part", dim=DIM, image_size=(6, 4))
    part.append("features", features(40))
    part.append("images", images)
    digests = part.close()
    found = read(tmp_path / "part", digests["images"], num_rows=40, name="images")
    assert np.array_equal(found, images)
    read(tmp_path / "part", digests["features"], num_rows=40)


@pytest.mark.parametrize("name", ["a b", "a::b", "ünï–録画", "100%", "-x", "#?&"])
def test_folder_names_are_data(tmp_path: Path, name: str) -> None:
    rows = features(3)
    digest = write(tmp_path / name / "part", rows)
    assert np.array_equal(read(tmp_path / name / "part", digest, num_rows=3), rows)


def test_a_part_is_written_into_a_new_folder(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=tmp_path.name):
        PartWriter(tmp_path, dim=DIM, image_size=None)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((2, DIM), np.float32), np.zeros((2, DIM + 1), np.float16), np.zeros(DIM, np.float16)],
    ids=["dtype", "width", "no rows"],
)
def test_rows_of_another_kind_are_refused(tmp_path: Path, rows: NDArray[np.floating]) -> None:
    part = PartWriter(tmp_path / "part", dim=DIM, image_size=None)
    with pytest.raises(ValueError, match=r"rows are .*, not"):
        part.append("features", rows)


def chunk_file(folder: Path) -> Path:
    return folder / "features" / "c.1.0"


def flip(path: Path, *, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def rename_to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit": lambda folder: flip(chunk_file(folder)),
    "a lost chunk": lambda folder: chunk_file(folder).unlink(),
    "a short chunk": lambda folder: truncate(chunk_file(folder)),
    "an empty chunk": lambda folder: chunk_file(folder).write_bytes(b""),
    "a folder for a chunk": lambda folder: rename_to_folder(chunk_file(folder)),
    "swapped chunks": lambda folder: shutil.copy(folder / "features/c.0.0", chunk_file(folder)),
    "lost metadata": lambda folder: (folder / "features" / "zarr.json").unlink(),
    "empty metadata": lambda folder: (folder / "features" / "zarr.json").write_bytes(b""),
    "metadata of nothing": lambda folder: (folder / "features" / "zarr.json").write_text("{}"),
    "short metadata": lambda folder: truncate(folder / "features" / "zarr.json"),
    "a lost array": lambda folder: shutil.rmtree(folder / "features"),
    "a lost part": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_a_part_error_that_names_the_part(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    digest = write(tmp_path / "part", features(3 * ROWS))
    damage(tmp_path / "part")
    with pytest.raises(PartError, match="features") as caught:
        read(tmp_path / "part", digest, num_rows=3 * ROWS)
    assert caught.value.path == str(tmp_path / "part")


def test_the_digest_decides_whatever_zarrs_own_checksum_says(tmp_path: Path) -> None:
    rows = features(3 * ROWS)
    digest = write(tmp_path / "part", rows)
    flip(chunk_file(tmp_path / "part"), at=-1)
    np.testing.assert_array_equal(read(tmp_path / "part", digest, num_rows=3 * ROWS), rows)


def test_no_flipped_bit_of_the_metadata_goes_unnoticed(tmp_path: Path) -> None:
    rows = features(3)
    digest = write(tmp_path / "part", rows)
    path = tmp_path / "part" / "features" / "zarr.json"
    sound = path.read_bytes()
    for place in range(0, len(sound), 7):
        data = bytearray(sound)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            found = read(tmp_path / "part", digest, num_rows=3)
        except PartError:
            continue
        assert np.array_equal(found, rows)


@pytest.mark.parametrize("num_rows", [0, 2, 4], ids=str)
def test_another_number_of_rows_than_the_marker_says_is_a_part_error(
    tmp_path: Path, num_rows: int
) -> None:
    digest = write(tmp_path / "part", features(3))
    with pytest.raises(PartError, match=f"features has 3 rows, its marker {num_rows}"):
        read(tmp_path / "part", digest, num_rows=num_rows)


def test_another_sound_part_is_a_part_error(tmp_path: Path) -> None:
    write(tmp_path / "part", features(3))
    other = write(tmp_path / "other", features(3) + np.float16(1))
    with pytest.raises(PartError, match=f"has digest .*, its marker {other}"):
        read(tmp_path / "part", other, num_rows=3)


def test_an_empty_part_of_another_width_has_another_digest(tmp_path: Path) -> None:
    part = PartWriter(tmp_path / "part", dim=DIM + 1, image_size=None)
    assert part.close()["features"] != write(tmp_path / "other", features(0))
