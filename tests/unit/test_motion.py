"""Motion rows: known shifts are found, and chunks join to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from playmill.decoding.motion import CELLS, COLUMNS, PICTURE_SIZE, join_chunks, motion_rows
from tests.unit.lag_samples import draw_wall, look

HEIGHT, WIDTH = PICTURE_SIZE


def columns(rows: NDArray[np.float16], name: str) -> NDArray[np.float16]:
    return rows[:, COLUMNS.index(name)]


@pytest.fixture(scope="module")
def wall() -> NDArray[np.float64]:
    return draw_wall(np.random.default_rng(3))


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, (300, *PICTURE_SIZE), np.uint8)


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (-0.4, 0.0), (0.0, 0.6), (0.8, -0.8), (2.5, 0.5)])
def test_a_shift_is_found_between_whole_points(
    wall: NDArray[np.float64], x: float, y: float
) -> None:
    places = [(500 + 40 * i, 80 + i) for i in range(40)]
    found = [
        motion_rows(look(wall, across - x, down - y)[None], look(wall, across, down))[0]
        for across, down in places
    ]
    # What the view shows moves against the view. Between points as sharp as these, differences
    # underestimate the slope and overestimate the shift, by a third.
    assert np.median(columns(np.array(found), "dx")) * WIDTH == pytest.approx(x, rel=0.4, abs=0.05)
    assert np.median(columns(np.array(found), "dy")) * HEIGHT == pytest.approx(y, rel=0.4, abs=0.05)


def test_a_change_of_brightness_is_no_shift(wall: NDArray[np.float64]) -> None:
    dark = look(wall * 0.5 + 40, 700, 100)
    rows = motion_rows(np.array([dark, dark + 30]))
    assert columns(rows, "change")[1] == 30
    assert abs(columns(rows, "dx")[1]) < 1e-6
    assert abs(columns(rows, "dy")[1]) < 1e-6


def test_what_moves_in_one_cell_shows_in_its_columns_alone(wall: NDArray[np.float64]) -> None:
    before, after = look(wall, 900, 100), look(wall, 900, 100)
    top, left = HEIGHT // CELLS[0], 2 * WIDTH // CELLS[1]
    inside = (slice(top + 2, 2 * top - 2), slice(left + 2, left + WIDTH // CELLS[1] - 2))
    after[inside] = look(wall, 899, 100)[inside]
    row = motion_rows(after[None], before)
    assert columns(row, "dx_1_2")[0] * WIDTH > 0.5
    others = [name for name in COLUMNS[3:] if name not in ("dx_1_2", "dy_1_2")]
    assert all(columns(row, name)[0] == 0 for name in others)


def test_the_same_picture_again_has_no_motion(pictures: NDArray[np.uint8]) -> None:
    assert not motion_rows(pictures[[5, 5]])[1].any()


def test_the_first_row_is_unknown_without_the_picture_before(
    pictures: NDArray[np.uint8],
) -> None:
    rows = motion_rows(pictures[:3])
    assert rows.dtype == np.float16
    assert rows.shape == (3, len(COLUMNS))
    assert np.isnan(rows[0]).all()
    assert np.isfinite(rows[1:]).all()


def test_no_pictures_have_no_rows(pictures: NDArray[np.uint8]) -> None:
    assert motion_rows(pictures[:0], pictures[0]).shape == (0, len(COLUMNS))


@settings(max_examples=15, deadline=None)
@given(cuts=st.sets(st.integers(1, 299), max_size=4))
def test_chunks_join_to_the_bits_of_the_whole(pictures: NDArray[np.uint8], cuts: set[int]) -> None:
    chunks = np.split(pictures, sorted(cuts))
    rows = np.concatenate([motion_rows(chunk) for chunk in chunks])
    join_chunks(
        rows,
        np.array([0, *sorted(cuts)]),
        first=np.array([chunk[0] for chunk in chunks]),
        last=np.array([chunk[-1] for chunk in chunks]),
    )
    assert rows.tobytes() == motion_rows(pictures).tobytes()


def test_no_pixels_overflow() -> None:
    black, white = np.zeros(PICTURE_SIZE, np.uint8), np.full(PICTURE_SIZE, 255, np.uint8)
    stripes = np.where(np.arange(WIDTH) // 2 % 2, white, black).astype(np.uint8)
    rows = motion_rows(np.array([stripes, 255 - stripes, black, white]))
    assert np.isfinite(rows[1:]).all()
    assert columns(rows, "change")[[1, 3]].tolist() == [255, 255]
    assert not columns(rows, "dx")[3]


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 64, 36), np.uint8), np.zeros((2, *PICTURE_SIZE), np.float16)]
)
def test_other_pictures_are_refused(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"pictures is \(2, .*\) .*, not \(\.\.\., \*\(36, 64\)\)"):
        motion_rows(wrong)
