import math

import jax.numpy as jnp
import numpy as np
import pytest

from research.engine.display import Images
from research.engine.image_grid import image_grid

GAP = 4
PAPER = (242, 242, 242)


def is_ink(pixels: np.ndarray) -> np.ndarray:
    """Pixels that are neither paper nor a light picture."""
    return (pixels < 200).any(axis=-1)


def test_small_pictures_are_enlarged_pixel_by_pixel():
    values = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype(np.float32)
    grid = image_grid(Images(values, columns=2))

    side = 128  # 8 pixels, each 16 wide
    assert grid.shape == (2 * (side + GAP) + GAP, 2 * (side + GAP) + GAP, 3)
    expected = np.round(values * 255).astype(np.uint8).repeat(16, 1).repeat(16, 2)
    for index, (y, x) in enumerate([(GAP, GAP), (GAP, 2 * GAP + side), (2 * GAP + side, GAP)]):
        tile = grid[y : y + side, x : x + side]
        np.testing.assert_array_equal(tile, np.broadcast_to(expected[index], (side, side, 3)))
    assert (grid[side + 2 * GAP :, side + 2 * GAP :] == PAPER).all(), "there is no fourth picture"


def test_large_pictures_keep_their_pixels_and_colours():
    values = np.random.default_rng(0).integers(0, 256, (2, 200, 150, 3)).astype(np.uint8)
    grid = image_grid(Images(jnp.asarray(values / 255, jnp.float32), columns=2))
    np.testing.assert_array_equal(grid[GAP : GAP + 200, GAP : GAP + 150], values[0])
    np.testing.assert_array_equal(grid[GAP : GAP + 200, -GAP - 150 : -GAP], values[1])


def test_values_out_of_range_are_clipped_and_not_numbers_are_magenta():
    values = np.array([-1.0, 2.0, math.nan, math.inf], np.float32).reshape(1, 2, 2, 1)
    grid = image_grid(Images(values))
    corners = grid[[GAP, GAP, -GAP - 1, -GAP - 1], [GAP, -GAP - 1, GAP, -GAP - 1]]
    assert corners.tolist() == [[0, 0, 0], [255, 255, 255], [255, 0, 255], [255, 0, 255]]


@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 8, 8, 4), (0, 8, 8, 1)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="expected pictures of shape"):
        image_grid(Images(np.zeros(shape, np.float32)))


@pytest.mark.parametrize("title", ["5 → 3", "kitchen appliance → dining table and four chairs"])
def test_titles_stand_above_their_picture_and_nowhere_else(title):
    values = np.ones((2, 28, 28, 1), np.float32)
    bare = image_grid(Images(values, columns=2))
    titled = image_grid(Images(values, [title, ""], columns=2))

    side = 112
    above = titled.shape[0] - bare.shape[0] + GAP
    assert 13 <= above - GAP <= 45, "room for one or two lines"
    np.testing.assert_array_equal(titled[above:], bare[GAP:])
    ink = is_ink(titled[:above])
    assert ink[:, GAP : GAP + side].sum() > 40, "the title can be read"
    assert not ink[:, GAP + side :].any(), "the title is cut to the width of its picture"
    assert not ink[[0, -1]].any(), "the title touches the border or its picture"


def test_the_lines_of_a_title_are_in_reading_order():
    title = "MMMMMMMM ..........................."
    grid = image_grid(Images(np.ones((1, 28, 28, 1), np.float32), [title]))
    first, second = np.split(is_ink(grid[: 2 * ((grid.shape[0] - 112) // 2)]), 2)
    assert first.sum() > 2 * second.sum() > 0
