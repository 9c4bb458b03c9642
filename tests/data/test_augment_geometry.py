"""Crops, flips, resizing, rotations and affine maps against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data import augment
from research.data.augment import affine
from research.data.augment.transform import apply_transforms

inverse_affine, warp = affine.inverse_affine, jax.jit(affine.warp, static_argnums=3)
KEY = jax.random.key(0)


def images(count=4, height=6, width=7, channels=3):
    rng = np.random.default_rng(0)
    return rng.random((count, height, width, channels)).astype(np.float32)


def apply(transform, image, key=KEY):
    return np.asarray(jax.jit(transform)(key, {"image": jnp.asarray(image)})["image"])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad_and_center_crop_are_inverse(mode):
    image = images()
    padded = apply(augment.Pad((9, 9), mode), image)
    np.testing.assert_array_equal(padded, np.pad(image, ((0, 0), (1, 2), (1, 1), (0, 0)), mode))
    even = apply(augment.Pad((10, 11), mode), image)
    np.testing.assert_array_equal(apply(augment.CenterCrop((6, 7)), even), image)
    assert apply(augment.Pad((28, 28)), np.zeros((1, 20, 20, 1), np.uint8)).dtype == np.uint8


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_random_crop_is_a_window_of_the_padded_image(mode):
    image = images(200)
    cropped = apply(augment.RandomCrop(2, mode), image)
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)), mode)
    offsets = set()
    for one, canvas in zip(cropped, padded, strict=True):
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(one, canvas[i : i + 6, j : j + 7])
        ]
        assert len(places) == 1, "not a window of the padded image"
        offsets.update(places)
    assert len(offsets) == 25, "some offsets are never drawn"


def test_random_crop_identity_and_size():
    np.testing.assert_array_equal(apply(augment.RandomCrop(0), images()), images())
    assert apply(augment.RandomCrop(1, size=(4, 5)), images()).shape == (4, 4, 5, 3)


def test_random_flip():
    image = images(64)
    np.testing.assert_array_equal(
        apply(augment.RandomFlip(probability=1.0), image), image[:, :, ::-1]
    )
    np.testing.assert_array_equal(apply(augment.RandomFlip("vertical", 1.0), image), image[:, ::-1])
    np.testing.assert_array_equal(apply(augment.RandomFlip(probability=0.0), image), image)
    square = image[:, : min(image.shape[1:3]), : min(image.shape[1:3])]
    np.testing.assert_array_equal(
        apply(augment.RandomFlip("diagonal", 1.0), square), square.swapaxes(1, 2)
    )
    flipped = (apply(augment.RandomFlip(), image) != image).any((1, 2, 3))
    assert 0.25 < flipped.mean() < 0.75


def test_flips_in_all_three_directions_are_the_eight_symmetries_of_a_square():
    image = np.broadcast_to(images(1, 5, 5), (400, 5, 5, 3))
    flips = [augment.RandomFlip(name) for name in ("horizontal", "vertical", "diagonal")]
    image = np.asarray(apply_transforms(flips, KEY, {"image": image})["image"])
    symmetries = [
        np.rot90(side, turns)
        for side in (images(1, 5, 5)[0], images(1, 5, 5)[0, :, ::-1])
        for turns in range(4)
    ]
    counts = [(image == symmetry).all((1, 2, 3)).sum() for symmetry in symmetries]
    assert sum(counts) == 400
    assert min(counts) > 25, f"expected 50 of each, drew {counts}"


def test_resize():
    image = images(2, 6, 8)
    halved = apply(augment.Resize((3, 4), "nearest"), image)
    np.testing.assert_array_equal(halved, image[:, 1::2, 1::2])
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[None, None, :, None], (1, 4, 8, 1))
    doubled = apply(augment.Resize((8, 16)), ramp)  # half-pixel centres
    np.testing.assert_allclose(doubled[0, 3, 1:-1, 0], (np.arange(1, 15) - 0.5) / 2, atol=1e-5)
    np.testing.assert_allclose(apply(augment.Resize((6, 8), "bicubic"), image), image, atol=1e-6)


def test_random_resized_crop_of_everything_is_a_resize():
    image = images()
    whole = augment.RandomResizedCrop((6, 7), (1.0, 1.0), (7 / 6, 7 / 6))
    np.testing.assert_allclose(apply(whole, image), image, atol=1e-5)
    smaller = augment.RandomResizedCrop((4, 5), (1.0, 1.0), (7 / 6, 7 / 6))
    np.testing.assert_allclose(
        apply(smaller, image), apply(augment.Resize((4, 5)), image), atol=1e-5
    )


def test_random_resized_crop_shows_a_window_of_the_drawn_area_and_ratio():
    """Of an image whose two channels are its coordinates, a crop shows where it was taken."""
    size = 32
    rows, columns = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5, indexing="ij")
    image = np.broadcast_to(np.stack([rows, columns], -1).astype(np.float32), (256, size, size, 2))
    crops = apply(augment.RandomResizedCrop((16, 16), (0.2, 0.5), (0.75, 4 / 3)), image)
    # Away from the border coordinates rise evenly, but for the antialiasing kernel's few taps.
    steps = (
        np.diff(crops[:, 4:12], axis=1)[:, :, 8, 0].mean(1),
        np.diff(crops[:, :, 4:12], axis=2)[:, 8, :, 1].mean(1),
    )
    height, width = 16 * steps[0], 16 * steps[1]
    area, ratio = height * width / size**2, width / height
    assert 0.2 - 5e-3 <= area.min() < 0.25
    assert 0.45 < area.max() <= 0.5 + 5e-3
    assert 0.75 - 0.03 <= ratio.min() < 0.85
    assert 1.2 < ratio.max() <= 4 / 3 + 0.03
    top = crops[:, 8, 8, 0] - 8.5 * steps[0]
    left = crops[:, 8, 8, 1] - 8.5 * steps[1]
    for start, length in ((top, height), (left, width)):
        assert start.min() > -0.1
        assert (start + length).max() < size + 0.1
        assert (start / (size - length)).min() < 0.1
        assert (start / (size - length)).max() > 0.9


@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1])
def test_turning_by_right_angles(turns):
    image = images(1, 6, 6)[0]
    turned = warp(image, inverse_affine(jnp.asarray(turns * np.pi / 2)), jnp.zeros(2), 0.0)
    np.testing.assert_allclose(turned, np.rot90(image, turns), atol=1e-5)


def test_random_rotation():
    """The angle of a bright pixel on the circle tells by how much an image was turned."""
    image = np.zeros((128, 33, 33, 1), np.float32)
    image[:, 16, 26:32] = 1.0
    out = apply(augment.RandomRotation(60.0), image)[..., 0]
    rows, columns = np.meshgrid(np.arange(33) - 16, np.arange(33) - 16, indexing="ij")
    mass = out.sum((1, 2))
    angles = np.degrees(
        np.arctan2(-(out * rows).sum((1, 2)) / mass, (out * columns).sum((1, 2)) / mass)
    )
    assert -61 < angles.min() < -45
    assert 45 < angles.max() < 61
    np.testing.assert_allclose(apply(augment.RandomRotation(0.0), images()), images(), atol=1e-6)
    corner = apply(augment.RandomRotation(60.0, fill=0.25), image)[:, 0, 0, 0]
    assert np.isclose(corner, 0.25).mean() > 0.8


def test_random_affine_identity():
    np.testing.assert_allclose(apply(augment.RandomAffine(), images()), images(), atol=1e-6)


def test_random_affine_is_rotation_where_it_only_rotates():
    image, angle = images(1)[0], jnp.asarray(0.3)
    rotated = warp(image, inverse_affine(angle), jnp.zeros(2), 0.0)
    same = warp(image, inverse_affine(angle, 1.0, 0.0), jnp.zeros(2), 0.0)
    np.testing.assert_array_equal(rotated, same)


def test_inverse_affine_inverts_rotation_times_shear_times_scale():
    angle, scale, shear = 0.4, 1.3, 0.2
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = rotation @ np.array([[1, 0], [np.tan(shear), 1]]) * scale
    inverse = inverse_affine(*(jnp.asarray(value) for value in (angle, scale, shear)))
    np.testing.assert_allclose(inverse @ forward, np.eye(2), atol=1e-6)


def test_warp_equals_scipy():
    from scipy.ndimage import affine_transform

    image = images(1, 9, 8, 1)[0]
    inverse = np.asarray(inverse_affine(jnp.asarray(0.5), 1.2, 0.3), np.float64)
    shift = np.array([0.7, -1.1])
    centre = np.array([4.0, 3.5])
    expected = affine_transform(
        image[..., 0],
        inverse,
        centre - inverse @ (centre + shift),
        order=1,
        mode="grid-constant",
        cval=0.5,
    )
    got = warp(image, jnp.asarray(inverse, jnp.float32), jnp.asarray(shift, jnp.float32), 0.5)
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-5)


def test_random_affine_moves_and_scales_within_its_limits():
    """The centre of mass and the spread of a blob tell the move and the scale."""
    rows, columns = np.meshgrid(np.arange(41) - 20.0, np.arange(41) - 20.0, indexing="ij")
    blob = np.exp(-(rows**2 + columns**2) / (2 * 3.0**2)).astype(np.float32)
    image = np.broadcast_to(blob[None, :, :, None], (128, 41, 41, 1))

    def centre_and_spread(out):
        weights = out[..., 0] / out[..., 0].sum((1, 2), keepdims=True)
        centre = (weights * rows).sum((1, 2)), (weights * columns).sum((1, 2))
        spread = (weights * (rows - centre[0][:, None, None]) ** 2).sum((1, 2)) ** 0.5
        return *centre, spread

    down, right, _ = centre_and_spread(apply(augment.RandomAffine(translate=(0.1, 0.2)), image))
    assert 3.5 < np.abs(down).max() <= 4.2
    assert 7.0 < np.abs(right).max() <= 8.3
    *_, spread = centre_and_spread(apply(augment.RandomAffine(scale=(0.5, 1.5)), image))
    assert 1.4 < spread.min() < 1.8
    assert 4.2 < spread.max() < 4.6
