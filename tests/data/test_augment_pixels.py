"""Transforms of pixel values and colour against NumPy."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data import augment

KEY = jax.random.key(0)


def images(count=4, channels=3, size=8):
    rng = np.random.default_rng(0)
    return rng.random((count, size, size, channels)).astype(np.float32)


def apply(transform, image, key=KEY):
    return np.asarray(jax.jit(transform)(key, {"image": jnp.asarray(image)})["image"])


def test_to_float():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(apply(augment.ToFloat(), image), image / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(apply(augment.ToFloat(), images()), images())


def test_normalize():
    mean, std = (0.49, 0.48, 0.44), (0.2, 0.19, 0.21)
    expected = (images() - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(apply(augment.Normalize(mean, std), images()), expected, atol=1e-5)


def test_binarize():
    image = np.asarray([0.0, 0.49, 0.5, 1.0], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(apply(augment.Binarize("threshold"), image).ravel(), [0, 0, 1, 1])
    gray = np.broadcast_to(np.float32(0.3), (16, 32, 32, 1))
    drawn = apply(augment.Binarize("stochastic"), gray)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(), 0.3, atol=0.02)  # 5 standard deviations
    np.testing.assert_array_equal(
        apply(augment.Binarize("stochastic"), image).ravel()[[0, 3]], [0, 1]
    )


def test_gaussian_noise():
    noise = apply(augment.GaussianNoise(0.3), np.zeros((16, 32, 32, 1), np.float32))
    np.testing.assert_allclose([noise.mean(), noise.std()], [0.0, 0.3], atol=0.01)
    np.testing.assert_array_equal(apply(augment.GaussianNoise(0.0), images()), images())


def test_solarize():
    image = images()
    expected = np.where(image < 0.4, image, 1 - image)
    np.testing.assert_allclose(
        apply(augment.Solarize(1.0, 0.4), image), expected, rtol=1e-6, atol=1e-7
    )
    np.testing.assert_array_equal(apply(augment.Solarize(0.0), image), image)


@pytest.mark.parametrize("size", [0, 3, 4])
def test_cutout_removes_a_square(size):
    cut = apply(augment.Cutout(size), np.ones((400, 8, 8, 2), np.float32)) == 0
    np.testing.assert_array_equal(cut[..., 0], cut[..., 1])
    areas = set()
    for rows, columns in zip(cut.any((2, 3)), cut.any((1, 3)), strict=True):
        for line in (rows, columns):
            assert np.abs(np.diff(np.pad(line.astype(int), 1))).sum() in (0, 2), "has a gap"
        areas.add(rows.sum() * columns.sum())
    np.testing.assert_array_equal(
        cut[..., 0], cut.any((2, 3))[:, :, None] & cut.any((1, 3))[:, None, :]
    )
    assert max(areas) == size**2
    assert size == 0 or min(areas) < size**2, "no square reached beyond the border"


def test_cutout_centre_is_uniform_over_the_pixels():
    image = np.ones((4000, 4, 5, 1), np.float32)
    counts = (apply(augment.Cutout(1), image) == 0).mean(0)[..., 0]
    np.testing.assert_allclose(counts, 1 / 20, atol=0.02)


def test_cutout_keeps_the_dtype():
    image = np.full((1, 4, 4, 1), 7, np.uint8)
    assert set(np.unique(apply(augment.Cutout(2, fill=3.0), image))) == {3, 7}


def test_brightness_adds_one_number_an_image():
    image = 0.4 + 0.2 * images(64)  # no value reaches 0 or 1
    change = apply(augment.ColorJitter(brightness=0.3), image) - image
    np.testing.assert_allclose(
        change, np.broadcast_to(change[:, :1, :1, :1], change.shape), atol=1e-6
    )
    delta = change[:, 0, 0, 0]
    assert -0.3 <= delta.min() < -0.2
    assert 0.2 < delta.max() <= 0.3


def test_contrast_scales_about_each_channels_mean():
    image = 0.45 + 0.1 * images(64)
    mean = image.mean((1, 2), keepdims=True)
    out = apply(augment.ColorJitter(contrast=0.5), image)
    factors = (out - mean) / (image - mean)
    np.testing.assert_allclose(
        factors,
        np.median(factors, (1, 2, 3), keepdims=True).repeat(8, 1).repeat(8, 2).repeat(3, 3),
        rtol=0.05,
    )
    factors = np.median(factors, (1, 2, 3))
    assert 0.5 <= factors.min() < 0.7
    assert 1.3 < factors.max() <= 1.5


def hsv(image):
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)])


def test_saturation_and_hue_change_nothing_else():
    image = 0.1 + 0.8 * images(1, size=4)
    before = hsv(image)
    saturated = hsv(apply(augment.ColorJitter(saturation=0.5), image))
    np.testing.assert_allclose(saturated[:, [0, 2]], before[:, [0, 2]], atol=1e-4)
    factor = (saturated[:, 1] / before[:, 1]).min()
    assert 0.5 <= factor <= 1.5
    assert abs(factor - 1) > 0.01
    np.testing.assert_allclose(saturated[:, 1], np.minimum(before[:, 1] * factor, 1), atol=1e-4)

    turned = hsv(apply(augment.ColorJitter(hue=0.3), image))
    np.testing.assert_allclose(turned[:, 1:], before[:, 1:], atol=1e-4)
    turn = (turned[:, 0] - before[:, 0] + 0.5) % 1 - 0.5
    np.testing.assert_allclose(turn, turn[0], atol=1e-4)
    assert 0.01 < abs(turn[0]) <= 0.3


def test_color_jitter_stays_in_range_and_can_be_left_out():
    image = images(64)
    out = apply(augment.ColorJitter(0.8, 0.8, 0.8, 0.2), image)
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-6
    np.testing.assert_array_equal(apply(augment.ColorJitter(), image), image)
    half = apply(augment.ColorJitter(0.5, 0.5, probability=0.5), image)
    unchanged = (half == image).all((1, 2, 3)).mean()
    assert 0.25 < unchanged < 0.75
    gray = apply(augment.ColorJitter(brightness=0.5, contrast=0.5), images(4, channels=1))
    assert not np.allclose(gray, images(4, channels=1))


def test_random_grayscale():
    image = images(64)
    luma = image @ np.array([0.2989, 0.587, 0.114], np.float32)
    expected = np.repeat(luma[..., None], 3, -1)
    np.testing.assert_allclose(apply(augment.RandomGrayscale(1.0), image), expected, atol=1e-5)
    np.testing.assert_array_equal(apply(augment.RandomGrayscale(0.0), image), image)
    changed = (apply(augment.RandomGrayscale(0.5), image) != image).any((1, 2, 3))
    assert 0.25 < changed.mean() < 0.75


def test_gaussian_blur_is_a_convolution_with_a_gaussian():
    from scipy.ndimage import gaussian_filter

    image = images(2, size=12)
    sigma = 1.2
    blurred = apply(augment.GaussianBlur((sigma, sigma)), image)
    radius = int(np.ceil(3 * sigma))
    for before, after in zip(image, blurred, strict=True):
        expected = gaussian_filter(
            before, (sigma, sigma, 0), mode="nearest", radius=(radius, radius, 0)
        )
        np.testing.assert_allclose(after, expected, atol=1e-5)


def test_gaussian_blur_keeps_constants_and_can_be_left_out():
    constant = np.full((2, 8, 8, 1), 0.7, np.float32)
    np.testing.assert_allclose(apply(augment.GaussianBlur(), constant), constant, rtol=1e-5)
    np.testing.assert_array_equal(apply(augment.GaussianBlur(probability=0.0), images()), images())
    np.testing.assert_allclose(
        apply(augment.GaussianBlur((0.01, 0.05)), images()), images(), atol=1e-6
    )
