"""Random boxes of pictures of any proportions: crops and erasing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data import augment
from research.data.augment.boxes import random_box

BOXES = jax.jit(jax.vmap(random_box, (0, None, None, 0)), static_argnums=(1, 2))


def boxes_of_torchvision(count, width, height, scale, ratio):
    """RandomResizedCrop.get_params: (top, left, height, width) in pixels."""
    generator = np.random.default_rng(0)

    def one():
        for _ in range(10):
            area = width * height * generator.uniform(*scale)
            aspect = np.exp(generator.uniform(*np.log(ratio)))
            w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top, left = (
                    generator.integers(0, height - h + 1),
                    generator.integers(0, width - w + 1),
                )
                return top, left, h, w
        if width / height < ratio[0]:
            w, h = width, round(width / ratio[0])
        elif width / height > ratio[1]:
            h, w = height, round(height * ratio[1])
        else:
            w, h = width, height
        return (height - h) // 2, (width - w) // 2, h, w

    return np.array([one() for _ in range(count)], float)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (200, 600), (1200, 300)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.8, 1.0)])
def test_boxes_are_distributed_as_torchvisions(width, height, scale):
    """In pixels of the original: area, proportions and place, by their quantiles."""
    count, ratio = 4000, (3 / 4, 4 / 3)
    theirs = boxes_of_torchvision(count, width, height, scale, ratio)
    keys = jax.random.split(jax.random.key(0), count)
    corner, sides, _ = BOXES(keys, scale, ratio, jnp.full(count, width / height))
    ours = np.concatenate([corner, sides], 1) * [height, width, height, width]

    def described(boxes):
        top, left, h, w = boxes.T
        columns = [h * w / (width * height), w / h, (top + h / 2) / height, (left + w / 2) / width]
        return np.quantile(columns, [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98], axis=1)

    np.testing.assert_allclose(described(ours), described(theirs), atol=0.04)


def test_a_box_that_cannot_fit_is_the_largest_in_the_middle():
    keys = jax.random.split(jax.random.key(0), 3)
    corner, sides, fits = BOXES(keys, (1.0, 1.0), (0.5, 1.5), jnp.array([3.0, 0.25, 1.2]))
    np.testing.assert_allclose(sides, [[1.0, 0.5], [0.5, 1.0], [1.0, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(corner, (1 - sides) / 2, atol=1e-6)
    assert not fits.any()


def test_a_crop_of_a_stretched_picture_has_the_originals_proportions():
    """Channels are the coordinates in the original, two wide and one high."""
    count, size = 256, 32
    places = (np.arange(size, dtype=np.float32) + 0.5) / size
    rows, columns = np.meshgrid(places, 2 * places, indexing="ij")
    image = np.broadcast_to(np.stack([rows, columns], -1), (count, size, size, 2))
    crop = augment.RandomResizedCrop((16, 16), (0.1, 0.3), (0.75, 4 / 3))
    batch = {"image": jnp.asarray(image), "aspect_ratio": jnp.full(count, 2.0), "label": rows[0]}
    out = jax.jit(crop)(jax.random.key(0), batch)
    assert set(out) == {"image", "label"}, "behind the crop, images have their own proportions"
    middle = np.asarray(out["image"])[:, 4:12, 4:12]
    height = 16 * np.diff(middle[..., 0], axis=1).mean((1, 2))
    width = 16 * np.diff(middle[..., 1], axis=2).mean((1, 2))
    area, ratio = height * width / 2, width / height
    assert 0.1 - 5e-3 <= area.min() < 0.13
    assert 0.27 < area.max() <= 0.3 + 5e-3
    assert 0.75 - 0.03 <= ratio.min() < 0.85
    assert 1.2 < ratio.max() <= 4 / 3 + 0.03


def erase(transform, image, seed=0):
    out = jax.jit(transform)(jax.random.key(seed), {"image": jnp.asarray(image)})
    return np.asarray(out["image"])


def test_random_erasing_overwrites_one_box():
    count, height, width = 400, 24, 36
    image = np.ones((count, height, width, 2), np.float32)
    out = erase(augment.RandomErasing(1.0, (0.05, 0.3), (0.5, 2.0), fill=0.0), image)
    erased = out == 0
    np.testing.assert_array_equal(erased[..., 0], erased[..., 1])
    rows, columns = erased.any((2, 3)), erased.any((1, 3))
    np.testing.assert_array_equal(erased[..., 0], rows[:, :, None] & columns[:, None, :])
    for lines in (rows, columns):
        jumps = np.abs(np.diff(np.pad(lines.astype(int), ((0, 0), (1, 1))))).sum(1)
        np.testing.assert_array_equal(jumps, 2)
    area = erased[..., 0].mean((1, 2))
    ratio = columns.sum(1) / rows.sum(1)
    # Sides are whole pixels.
    assert 0.03 < area.min() < 0.07
    assert 0.27 < area.max() < 0.34
    assert 0.4 < ratio.min() < 0.65
    assert 1.6 < ratio.max() < 2.4
    assert rows.any(0).all() and columns.any(0).all(), "some places are never reached"


def test_random_erasing_with_noise_at_times():
    image = np.full((400, 16, 16, 3), 7.0, np.float32)
    out = erase(augment.RandomErasing(0.25, (0.3, 0.3), (1.0, 1.0)), image)
    erased = out != 7.0
    assert 0.18 < erased.any((1, 2, 3)).mean() < 0.32
    np.testing.assert_allclose([out[erased].mean(), out[erased].std()], [0, 1], atol=0.03)


def test_random_erasing_that_cannot_fit_leaves_the_image():
    image = np.ones((8, 16, 16, 1), np.float32)
    tall = augment.RandomErasing(1.0, (0.5, 0.6), (10.0, 12.0), fill=0.0)
    np.testing.assert_array_equal(erase(tall, image), image)
