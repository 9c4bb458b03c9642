"""Rotations and affine maps, resampled once; maps that lie over the images move with them."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Num, PRNGKeyArray

from research.data.augment.checks import (
    check_interval,
    check_positive,
    check_range,
    require_float,
)
from research.data.augment.transform import ORDER, Batch, Kind, move_each


@dataclass(frozen=True)
class RandomRotation:
    """Rotates about the centre by an angle uniform in ±degrees, bilinear, `fill` outside.

    Maps of labels have the nearest pixel, and 0 outside, as maps of weights.
    """

    degrees: float
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_range("degrees", self.degrees, 0.0, 180.0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        limit = math.radians(self.degrees)

        def rotate(key: PRNGKeyArray, pixels: Array, kind: Kind) -> Array:
            angle = jax.random.uniform(key, minval=-limit, maxval=limit)
            fill = self.fill if kind == "image" else 0.0
            return warp(pixels, inverse_affine(angle), jnp.zeros(2), fill, ORDER[kind])

        return move_each(rotate, rng, batch)


@dataclass(frozen=True)
class RandomAffine:
    """Scales, shears and rotates about the centre, then moves: one bilinear resampling.

    The angle is uniform in ±degrees; each axis moves by a share of its length uniform in
    ±translate, (vertical, horizontal); the scale is uniform in `scale`; the shear is along the
    horizontal, by an angle uniform in ±shear degrees. `fill` is outside. Maps of labels have the
    nearest pixel, and 0 outside, as maps of weights.
    """

    degrees: float = 0.0
    translate: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_range("degrees", self.degrees, 0.0, 180.0)
        for share in self.translate:
            check_range("translate", share, 0.0, 1.0)
        check_interval("scale", self.scale, 0.0)
        check_positive("scale", self.scale[0])
        check_range("shear", self.shear, 0.0, 80.0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        size = jnp.asarray(batch["image"].shape[1:3], jnp.float32)
        shares = jnp.asarray(self.translate, jnp.float32)

        def move(key: PRNGKeyArray, pixels: Array, kind: Kind) -> Array:
            angle_key, shift_key, scale_key, shear_key = jax.random.split(key, 4)
            angle = jax.random.uniform(angle_key, minval=-1.0) * math.radians(self.degrees)
            shift = jax.random.uniform(shift_key, (2,), minval=-1.0) * shares * size
            scale = jax.random.uniform(scale_key, minval=self.scale[0], maxval=self.scale[1])
            shear = jax.random.uniform(shear_key, minval=-1.0) * math.radians(self.shear)
            fill = self.fill if kind == "image" else 0.0
            return warp(pixels, inverse_affine(angle, scale, shear), shift, fill, ORDER[kind])

        return move_each(move, rng, batch)


def inverse_affine(
    angle: Float[Array, ""],
    scale: Float[Array, ""] | float = 1.0,
    shear: Float[Array, ""] | float = 0.0,
) -> Float[Array, "2 2"]:
    """The inverse of rotation · shear · scale on (row, column); angles in radians.

    A positive angle turns the picture counter-clockwise.
    """
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    unsheared = -jnp.tan(shear)
    return (
        jnp.array(
            [
                [cosine, sine],
                [unsheared * cosine - sine, unsheared * sine + cosine],
            ]
        )
        / scale
    )


def warp(
    image: Num[Array, "height width channels"],
    inverse: Float[Array, "2 2"],
    shift: Float[Array, "2"],
    fill: float,
    order: int = 1,
) -> Num[Array, "height width channels"]:
    """The image moved by the affine map about its centre whose inverse is given, then shifted;
    bilinear, or the nearest pixel where `order` is 0.

    A batch of 128 images of 32x32x3 takes 3 ms on 2 CPU cores; dm_pix, which interpolates
    between channels too, takes 230.
    """
    height, width, _ = image.shape
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
    offsets = grid - centre - shift
    # No matrix product: accelerators would round its operands, and coordinates need all bits.
    sources = [
        (row * offsets).sum(-1) + middle for row, middle in zip(inverse, centre, strict=True)
    ]

    def sample(channel: Num[Array, "height width"]) -> Num[Array, "height width"]:
        return map_coordinates(channel, sources, order, mode="constant", cval=fill)

    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)
