"""Equation 2 of the U-Net paper against its words, pixel by pixel."""

import numpy as np

from research.data.border_weights import border_weights

MAP = np.array(
    [[int(character) for character in row] for row in ("1101000", "1101100", "0000000", "0110002")]
)
CELLS = (
    ((0, 0), (0, 1), (1, 0), (1, 1)),
    ((0, 3), (1, 3), (1, 4)),
    ((3, 1), (3, 2)),
    ((3, 6),),
)


def test_weights_pixel_by_pixel():
    found = border_weights(MAP, 10.0, 1.5)
    assert found.dtype == np.float32
    shares = {value: np.mean(value == MAP) for value in (0, 1, 2)}
    for place in np.ndindex(MAP.shape):
        expected = 1 / (3 * shares[MAP[place]])
        if MAP[place] == 0:
            first, second, *_ = sorted(
                min(np.hypot(place[0] - i, place[1] - j) for i, j in cell) for cell in CELLS
            )
            expected += 10 * np.exp(-((first + second) ** 2) / (2 * 1.5**2))
        np.testing.assert_allclose(found[place], expected, rtol=1e-5)
    np.testing.assert_allclose(border_weights(MAP, 0.0, 1.5).mean(), 1, rtol=1e-6)


def test_cells_far_apart_and_single_cells_have_no_gap():
    labels = np.zeros((5, 80), int)
    labels[2, 3] = labels[2, 76] = 1
    far = border_weights(labels, 10.0, 1.0)
    np.testing.assert_allclose(far[labels == 0], 400 / (2 * 398), rtol=1e-6)
    labels[2, 76] = 0
    alone = border_weights(labels, 10.0, 1.0)
    np.testing.assert_allclose(alone[labels == 0], 400 / (2 * 399), rtol=1e-6)
    np.testing.assert_array_equal(border_weights(np.zeros((2, 2), int), 10.0, 5.0), 1)
