"""RandAugment's operations against the Python Imaging Library, and how they are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from research.data import augment
from research.data.augment.rand_augment import OPERATIONS, apply_operation

APPLY = jax.jit(apply_operation, static_argnames="fill")
GREY = (128, 128, 128)
MOVING = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
# Neither black nor white, each channel with levels of its own.
PIXELS = (
    np.random.default_rng(0).integers((30, 60, 5), (180, 240, 99), (24, 31, 3)).astype(np.uint8)
)


def of_pil(name: str, picture: Image.Image, strength: float) -> Image.Image:
    share, factor = abs(strength), 1 + 0.9 * strength

    def affine(*row: float) -> Image.Image:
        method = Image.Transform.AFFINE
        return picture.transform(
            picture.size, method, row, Image.Resampling.NEAREST, fillcolor=GREY
        )

    match name:
        case "identity":
            return picture
        case "autocontrast" | "equalize":
            return getattr(ImageOps, name)(picture)
        case "solarize":
            return ImageOps.solarize(picture, 256 * (1 - share))
        case "posterize":
            return ImageOps.posterize(picture, 8 - round(4 * share))
        case "rotate":
            return picture.rotate(30 * strength, fillcolor=GREY)
        case "shear_x":
            return affine(1, 0.3 * strength, 0, 0, 1, 0)
        case "shear_y":
            return affine(1, 0, 0, 0.3 * strength, 1, 0)
        case "translate_x":
            return affine(1, 0, -strength * 150 / 331 * picture.width, 0, 1, 0)
        case "translate_y":
            return affine(1, 0, 0, 0, 1, -strength * 150 / 331 * picture.height)
    return getattr(ImageEnhance, name.capitalize())(picture).enhance(factor)


@pytest.mark.parametrize("strength", [0.0, 0.37, -0.6, 0.9, -1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pil(name, strength):
    operation = jnp.asarray(OPERATIONS.index(name))
    ours = np.asarray(APPLY(jnp.asarray(PIXELS, jnp.float32), operation, jnp.float32(strength)))
    theirs = np.asarray(of_pil(name, Image.fromarray(PIXELS), strength), np.float32)
    np.testing.assert_array_equal(ours, np.round(ours))
    if name in MOVING:  # a pixel halfway between two may be either
        assert (ours == theirs).all(-1).mean() > 0.99
    else:
        np.testing.assert_allclose(ours, theirs, atol=1)
    changes = name in ("autocontrast", "equalize") or (strength != 0 and name != "identity")
    assert (ours != PIXELS).any() == changes


def test_equalize_and_autocontrast_leave_one_level_as_it_is():
    constant = jnp.full((24, 31, 1), 77.0)
    for name in ("autocontrast", "equalize"):
        out = APPLY(constant, jnp.asarray(OPERATIONS.index(name)), jnp.float32(1.0))
        np.testing.assert_array_equal(out, constant)


def drawn(count, **settings):
    """The levels that the middle of an even image of level 102 comes to."""
    image = jnp.full((count, 9, 9, 1), 102 / 255)
    transform = augment.RandAugment(**settings, fill=102 / 255)
    out = jax.jit(transform)(jax.random.key(0), {"image": image})["image"]
    return np.round(np.asarray(out)[:, 4, 4, 0] * 255)


def test_operations_and_signs_are_equally_likely():
    """An even image is changed by 3 of 14 operations only, to four levels in all."""
    levels, counts = np.unique(drawn(3000, num_ops=1, magnitude=10.0), return_counts=True)
    # Brightness by 0.1, posterize to 4 bits, as it was, solarize, brightness by 1.9.
    np.testing.assert_array_equal(levels, [10, 96, 102, 153, 193])
    expected = np.array([1 / 28, 1 / 14, 11 / 14, 1 / 14, 1 / 28])
    np.testing.assert_allclose(counts / counts.sum(), expected, atol=0.025)


def test_magnitude_varies_and_operations_are_left_out():
    levels = drawn(2000, num_ops=1, magnitude=5.0, magnitude_std=1.0, probability=0.5)
    assert 0.5 * 1.4 / 14 < (levels != 102).mean() < 0.5 * 3 / 14 + 0.02
    brighter = levels[levels > 105]
    assert len(np.unique(brighter)) > 10
    assert 102 * 1.2 < brighter.min() < 102 * 1.4
    assert 102 * 1.5 < brighter.max() < 102 * 1.9


def test_two_operations_follow_each_other():
    # Two that change nothing, or solarize twice.
    unchanged = (drawn(2000, num_ops=2, magnitude=10.0) == 102).mean()
    np.testing.assert_allclose(unchanged, (11 / 14) ** 2 + (1 / 14) ** 2, atol=0.035)
