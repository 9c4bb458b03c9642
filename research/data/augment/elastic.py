"""Smooth random deformations; maps that lie over the images move with them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray

from research.data.augment.checks import PadMode, check_mode, check_range, require_float
from research.data.augment.transform import ORDER, Batch, Kind, move_each

# What SciPy calls them.
_MODES = {"constant": "constant", "reflect": "mirror", "edge": "nearest"}


@dataclass(frozen=True)
class ElasticDeformation:
    """Moves every pixel by a smooth random field (Ronneberger, Fischer and Brox, 2015).

    The displacements of `grid` by `grid` points, evenly spaced from corner to corner, are normal
    with a standard deviation of `sigma` pixels in each direction; those of the pixels between are
    bicubic. Images are bilinear, maps of labels have the nearest pixel, and what comes from
    outside is 0 ("constant"), the mirrored image ("reflect") or its outermost pixels ("edge").
    """

    sigma: float = 10.0
    grid: int = 3
    mode: PadMode = "reflect"

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0.0)
        check_range("grid", self.grid, 2)
        check_mode(self.mode)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        size = batch["image"].shape[1:3]
        places = jnp.stack(jnp.meshgrid(*map(jnp.arange, size), indexing="ij"))

        def deform(key: PRNGKeyArray, pixels: Array, kind: Kind) -> Array:
            coarse = self.sigma * jax.random.normal(key, (2, self.grid, self.grid))
            sources = places + displacements(coarse, size)

            def sample(channel: Array) -> Array:
                return map_coordinates(channel, list(sources), ORDER[kind], _MODES[self.mode])

            return jax.vmap(sample, in_axes=-1, out_axes=-1)(pixels)

        return move_each(deform, rng, batch)


def displacements(
    coarse: Float[Array, "2 rows columns"], size: tuple[int, int]
) -> Float[Array, "2 height width"]:
    """Bicubic interpolation of what the points of a coarse grid move by, whose outermost points lie
    on the outermost pixels."""
    points = jnp.asarray(coarse.shape[1:], jnp.float32)
    scale = (jnp.asarray(size, jnp.float32) - 1) / (points - 1)
    return jax.image.scale_and_translate(
        coarse, (2, *size), (1, 2), scale, 0.5 - 0.5 * scale, "bicubic", antialias=False
    )
