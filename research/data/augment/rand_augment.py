"""RandAugment (Cubuk et al., 2020), on 256 levels as the Python Imaging Library has them."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.data.augment.affine import inverse_affine, warp
from research.data.augment.checks import check_range, require_colour, require_float
from research.data.augment.transform import Batch, map_images

OPERATIONS = (
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize"),
    *("contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)
_LEVELS = 256


@dataclass(frozen=True)
class RandAugment:
    """Applies `num_ops` random operations of 14 to each image, one after the other.

    `magnitude` is from 0, where nothing changes but by autocontrast and equalize, to 10; that of an
    operation is normal around it with `magnitude_std`, cut to this range. At 10 these reach

      rotate                                   ± 30 degrees about the centre
      shear_x, shear_y                         ± 0.3 pixels a pixel, from the upper left corner
      translate_x, translate_y                 ± 150/331 of the width or height
      color, contrast, brightness, sharpness   a factor of 1 ± 0.9
      posterize                                the upper 4 of 8 bits
      solarize                                 every level inverted, from 256 down to 0

    in proportion to the magnitude, with random signs: torchvision's table, where 30 is our 10. (In
    the authors' own code solarize and posterize do less as the magnitude grows, and the factors go
    from 0.1 at 0 to 1.9 at 10.) Each operation is left out with probability 1 - `probability`.
    What comes from outside of the image is `fill`, in [0, 1]; pixels are the nearest.

    Images are grey or RGB, in [0, 1]. They are rounded to 256 levels, and each operation rounds
    again. Under vmap all of 14 branches would be computed; instead every operation is a table of
    levels, a blending and a warp, of which the others leave the image as it is.
    """

    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.0
    probability: float = 1.0
    fill: float = 0.5

    def __post_init__(self) -> None:
        check_range("num_ops", self.num_ops, 1)
        check_range("magnitude", self.magnitude, 0.0, 10.0)
        check_range("magnitude_std", self.magnitude_std, 0.0)
        check_range("probability", self.probability, 0.0, 1.0)
        check_range("fill", self.fill, 0.0, 1.0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where the images have neither one channel nor three."""
        require_float(self, batch["image"])
        if batch["image"].shape[-1] != 1:
            require_colour(self, batch["image"], "with more than one channel")

        def augment(key: PRNGKeyArray, image: Array) -> Array:
            levels = jnp.round(jnp.clip(image, 0.0, 1.0) * (_LEVELS - 1))
            keys = jax.random.split(key, self.num_ops)
            levels, _ = lax.scan(lambda x, key: (self._one(key, x), None), levels, keys)
            return levels / (_LEVELS - 1)

        return map_images(augment, rng, batch)

    def _one(self, rng: PRNGKeyArray, levels: Array) -> Array:
        operation_rng, apply_rng, noise_rng, sign_rng = jax.random.split(rng, 4)
        operation = jax.random.randint(operation_rng, (), 0, len(OPERATIONS))
        applied = jax.random.bernoulli(apply_rng, self.probability)
        magnitude = self.magnitude + self.magnitude_std * jax.random.normal(noise_rng)
        sign = jax.random.rademacher(sign_rng, dtype=jnp.float32)
        return apply_operation(
            levels,
            jnp.where(applied, operation, OPERATIONS.index("identity")),
            sign * jnp.clip(magnitude / 10, 0.0, 1.0),
            self.fill,
        )


def apply_operation(
    levels: Float[Array, "height width channels"],
    operation: Int[Array, ""],
    strength: Float[Array, ""],
    fill: float = 0.5,
) -> Float[Array, "height width channels"]:
    """One of `OPERATIONS` by its place on an image of whole numbers from 0 to 255.

    `strength` in [-1, 1] is a tenth of RandAugment's magnitude, with the sign where there is one.
    """
    table = _table(levels, operation, strength)
    levels = jnp.take_along_axis(table[None], levels.astype(jnp.int32), 1)
    levels = _blend(levels, operation, strength)
    return _move(levels, operation, strength, round(fill * (_LEVELS - 1)))


def _table(levels: Array, operation: Array, strength: Array) -> Float[Array, "256 channels"]:
    """What becomes of each level of each channel."""
    whole = levels.astype(jnp.int32)
    channels = levels.shape[-1]
    before = jnp.broadcast_to(jnp.arange(_LEVELS)[:, None], (_LEVELS, channels)).astype(jnp.float32)
    share, factor = jnp.abs(strength), 1 + 0.9 * strength

    low, high = levels.min((0, 1)), levels.max((0, 1))
    stretched = _whole((before - low) * (255 / jnp.maximum(high - low, 1)))

    counts = jnp.zeros((_LEVELS, channels), jnp.int32)
    counts = counts.at[whole, jnp.arange(channels)].add(1)
    below = jnp.cumsum(counts, 0) - counts
    of_highest = (whole == whole.max((0, 1))).sum((0, 1))
    step = (levels.shape[0] * levels.shape[1] - of_highest) // 255
    equalized = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255)

    bit = 2.0 ** jnp.round(4 * share)
    mean = jnp.floor(_luma(whole).mean() + 0.5)
    tables = {
        "autocontrast": jnp.where(high > low, stretched, before),
        "equalize": jnp.where(step > 0, equalized, before),
        "solarize": jnp.where(before < _LEVELS * (1 - share), before, 255 - before),
        "posterize": jnp.floor(before / bit) * bit,
        "contrast": _whole(mean + factor * (before - mean)),
        "brightness": _whole(factor * before),
    }
    return jnp.select([_is(operation, name) for name in tables], list(tables.values()), before)


def _blend(levels: Array, operation: Array, strength: Array) -> Array:
    """Moves an image towards or away from what is without colour, or smooth."""
    height, width, _ = levels.shape
    padded = jnp.pad(levels, ((1, 1), (1, 1), (0, 0)), "edge")
    neighbours = sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3))
    smooth = jnp.floor((neighbours + 4 * levels) / 13 + 0.5)
    inner = [
        (jnp.arange(length) > 0) & (jnp.arange(length) < length - 1) for length in (height, width)
    ]
    smooth = jnp.where((inner[0][:, None] & inner[1])[..., None], smooth, levels)
    color = _is(operation, "color")
    other = jnp.where(color, _luma(levels.astype(jnp.int32))[..., None], smooth)
    factor = jnp.where(color | _is(operation, "sharpness"), 1 + 0.9 * strength, 1.0)
    return _whole(other + factor * (levels - other))


def _move(levels: Array, operation: Array, strength: Array, fill: int) -> Array:
    """Turns, shears and shifts."""
    height, width, _ = levels.shape

    def only(name: str, value: Array) -> Array:
        return jnp.where(_is(operation, name), value, 0.0)

    turned = inverse_affine(only("rotate", math.radians(30) * strength))
    shear_x, shear_y = only("shear_x", 0.3 * strength), only("shear_y", 0.3 * strength)
    inverse = turned + jnp.stack([jnp.stack([0.0, shear_y]), jnp.stack([shear_x, 0.0])])
    # The warp is about the centre; the shift leaves the upper left corner where it is.
    down = only("translate_y", strength * (150 / 331) * height) - shear_y * width / 2
    right = only("translate_x", strength * (150 / 331) * width) - shear_x * height / 2
    return warp(levels, inverse, jnp.stack([down, right]), fill, order=0)


def _is(operation: Array, name: str) -> Array:
    return operation == OPERATIONS.index(name)


def _whole(levels: Array) -> Array:
    """Cut to whole levels; what is a whole number but for float32's rounding stays."""
    return jnp.floor(jnp.clip(levels, 0.0, 255.0) + 1e-3)


def _luma(levels: Int[Array, "height width channels"]) -> Float[Array, "height width"]:
    """Rec. 601 in 16 bits; the channel itself where there is one."""
    if levels.shape[-1] == 1:
        return levels[..., 0].astype(jnp.float32)
    weighted = (levels * jnp.array([19595, 38470, 7471])).sum(-1)
    return ((weighted + 2**15) >> 16).astype(jnp.float32)
