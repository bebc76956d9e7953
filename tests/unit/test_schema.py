from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from playmill import schema
from playmill.inputs.events import DEVICES, KINDS
from playmill.storage import DataStorage
from tests.unit.dataset_samples import make_content, make_features, make_images

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "dataset-format.md"


def rows(columns: int) -> list[tuple[str, ...]]:
    """Return the rows of the tables of `columns` columns that start with a path."""
    found = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == columns and cells[0].startswith("`/"):
            found.append(tuple(cells))
    return found


def test_the_document_describes_exactly_the_arrays_of_the_schema() -> None:
    expected = [
        (
            f"`{array.path}`" + (" (optional)" if array.optional else ""),
            array.dtype,
            f"({', '.join(array.shape)}{',' if len(array.shape) == 1 else ''})",
            array.unit,
            array.meaning,
        )
        for array in schema.ARRAYS
    ]
    assert sorted(rows(5)) == sorted(expected)


def test_the_document_describes_exactly_the_attributes_of_the_schema() -> None:
    nodes = [*schema.GROUPS.items(), *((array.path, array.attrs) for array in schema.ARRAYS)]
    expected = [
        (f"`{path}`", f"`{attr.name}`", attr.type, attr.meaning)
        for path, attrs in nodes
        for attr in attrs
    ]
    assert sorted(rows(4)) == sorted(expected)


def test_the_document_names_version_letters_flags_and_storage() -> None:
    text = DOCUMENT.read_text()
    assert f"schema version {schema.SCHEMA_VERSION}" in text
    for letter, meaning in schema.LETTERS.items():
        assert f"| {letter} | {meaning} |" in text
    for flag in schema.FRAME_FLAGS:
        assert f"`{flag}`" in text
    assert f"chunks of {schema.FEATURE_CHUNK_ROWS} rows" in text
    assert f"gzip {schema.GZIP_LEVEL} and fletcher32" in text
    assert f"`{schema.FEATURE_KEY.pattern}`" in text


def test_the_letters_of_all_shapes_are_explained() -> None:
    used = {part.partition("+")[0] for array in schema.ARRAYS for part in array.shape}
    assert {part for part in used if not part.isdigit()} == set(schema.LETTERS)


def test_a_written_file_has_exactly_the_arrays_and_attributes_of_the_schema(
    tmp_path: Path,
) -> None:
    path = DataStorage(tmp_path).write(
        make_content(), features=[make_features(key="k")], images=make_images()
    )
    expected = {array.path.replace("<key>", "k"): array.attrs for array in schema.ARRAYS}
    expected |= schema.GROUPS
    found: dict[str, set[str]] = {}
    with h5py.File(path) as file:
        found["/"] = set(file.attrs)
        file.visititems(lambda name, node: found.update({f"/{name}": set(node.attrs)}))
        assert list(file["/inputs/device"].attrs["names"]) == list(DEVICES)
        assert list(file["/inputs/kind"].attrs["names"]) == list(KINDS)
    assert found == {where: {attr.name for attr in attrs} for where, attrs in expected.items()}


@pytest.mark.parametrize("key", ["efficientnet_lite0", "timm.x-1", "0", "a..b"])
def test_good_feature_keys(key: str) -> None:
    assert schema.is_feature_key(key)


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "ü", "a b", "a\n"], ids=ascii)
def test_bad_feature_keys(key: str) -> None:
    assert not schema.is_feature_key(key)


def test_frame_flags_are_bits_in_the_order_of_their_names() -> None:
    assert schema.frame_flag("damaged") == 1
    assert schema.frame_flag("frozen") == 32


def test_a_trainer_imports_numpy_and_h5py_alone() -> None:
    script = (
        "import sys, playmill.dataset, playmill.dataset_folder, playmill.schema, playmill.verify\n"
        "heavy = {'torch', 'av', 'zarr', 'typer', 'rich', 'celery', 'torchvision', 'timm'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
