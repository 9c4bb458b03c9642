"""Transforms of pixel values."""

from dataclasses import dataclass
from typing import Literal

import dm_pix as pix
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from research.data.augment.boxes import random_box
from research.data.augment.checks import (
    check_interval,
    check_positive,
    check_range,
    require_float,
    require_images,
)
from research.data.augment.transform import Batch, map_images, maybe


@dataclass(frozen=True)
class ToFloat:
    """uint8 in 0 … 255 to float32 in [0, 1]; floating-point images become float32 as they are."""

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError for any other integer type."""
        image = batch["image"]
        if image.dtype == jnp.uint8:
            return {**batch, "image": image.astype(jnp.float32) / 255.0}
        require_float(self, image)
        return {**batch, "image": image.astype(jnp.float32)}


@dataclass(frozen=True)
class Normalize:
    """(image - mean) / std for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std must have as many values, got {len(self.mean)} and {len(self.std)}"
            )
        for value in self.std:
            check_positive("std", value)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where the image has another number of channels."""
        image = batch["image"]
        require_float(self, image)
        if image.shape[-1] != len(self.mean):
            raise ValueError(
                f"Normalize.mean has {len(self.mean)} value(s), the image has "
                f"{image.shape[-1]} channel(s)"
            )
        mean, std = jnp.asarray(self.mean, image.dtype), jnp.asarray(self.std, image.dtype)
        return {**batch, "image": (image - mean) / std}


@dataclass(frozen=True)
class Binarize:
    """Images in [0, 1] to 0 and 1.

    "threshold": 1 where the pixel is at least 0.5. "stochastic": 1 with the pixel as probability,
    drawn anew each time (Salakhutdinov and Murray, 2008).
    """

    mode: Literal["threshold", "stochastic"] = "stochastic"

    def __post_init__(self) -> None:
        if self.mode not in ("threshold", "stochastic"):
            raise ValueError(f'mode must be "threshold" or "stochastic", got {self.mode!r}')

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        if self.mode == "threshold":
            return {**batch, "image": (batch["image"] >= 0.5).astype(batch["image"].dtype)}
        return map_images(
            lambda key, image: jax.random.bernoulli(key, image).astype(image.dtype), rng, batch
        )


@dataclass(frozen=True)
class GaussianNoise:
    """Adds independent normal noise of standard deviation `std` to every value; no clipping."""

    std: float

    def __post_init__(self) -> None:
        check_range("std", self.std, 0.0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        return map_images(
            lambda key, image: image + self.std * jax.random.normal(key, image.shape, image.dtype),
            rng,
            batch,
        )


@dataclass(frozen=True)
class Solarize:
    """Inverts the values of images in [0, 1] that are at least `threshold`."""

    probability: float = 0.5
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_range("probability", self.probability, 0.0, 1.0)
        check_range("threshold", self.threshold, 0.0, 1.0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        return map_images(
            lambda key, image: maybe(
                key, self.probability, pix.solarize(image, self.threshold), image
            ),
            rng,
            batch,
        )


@dataclass(frozen=True)
class Cutout:
    """Sets a square of `size` pixels to `fill` (DeVries and Taylor, 2017).

    Its centre is uniform over the pixels, so it may reach beyond the border.
    """

    size: int
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_range("size", self.size, 0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_images(self, batch["image"])

        def cut(key: PRNGKeyArray, image: jax.Array) -> jax.Array:
            inside = [
                _within(rng, length, self.size)
                for rng, length in zip(jax.random.split(key), image.shape[:2], strict=True)
            ]
            square = inside[0][:, None, None] & inside[1][None, :, None]
            return jnp.where(square, jnp.asarray(self.fill, image.dtype), image)

        return map_images(cut, rng, batch)


@dataclass(frozen=True)
class RandomErasing:
    """Overwrites a random box with the given probability (Zhong et al., 2020).

    The box's share of the area is uniform in `scale`, its width by height log-uniform in `ratio`;
    where ten draws do not fit in the image, nothing is erased. `fill` is a number, or "noise":
    each value drawn from the standard normal distribution, for images behind `Normalize`.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 10 / 3)
    fill: float | Literal["noise"] = "noise"

    def __post_init__(self) -> None:
        check_range("probability", self.probability, 0.0, 1.0)
        check_interval("scale", self.scale, 0.0, 1.0)
        check_interval("ratio", self.ratio, 0.0)
        check_positive("ratio", self.ratio[0])
        if isinstance(self.fill, str) and self.fill != "noise":
            raise ValueError(f'fill must be a number or "noise", got {self.fill!r}')

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        height, width = batch["image"].shape[1:3]

        def erase(key: PRNGKeyArray, image: jax.Array) -> jax.Array:
            box_key, apply_key, fill_key = jax.random.split(key, 3)
            corner, sides, fits = random_box(box_key, self.scale, self.ratio, width / height)
            lengths = jnp.asarray([height, width], jnp.float32)
            starts = jnp.round(corner * lengths)
            stops = jnp.round((corner + sides) * lengths)
            rows, columns = (
                (jnp.arange(length) >= start) & (jnp.arange(length) < stop)
                for length, start, stop in zip((height, width), starts, stops, strict=True)
            )
            fill: jax.Array | float = self.fill  # type: ignore[assignment]
            if self.fill == "noise":
                fill = jax.random.normal(fill_key, image.shape, image.dtype)
            inside = (rows[:, None] & columns[None, :])[..., None] & fits
            return maybe(apply_key, self.probability, jnp.where(inside, fill, image), image)

        return map_images(erase, rng, batch)


def _within(rng: PRNGKeyArray, length: int, size: int) -> jax.Array:
    """Which of `length` places lie in an interval of `size` around a uniform centre."""
    start = jax.random.randint(rng, (), 0, length) - size // 2
    places = jnp.arange(length)
    return (places >= start) & (places < start + size)
