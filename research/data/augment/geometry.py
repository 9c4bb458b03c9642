"""Crops, flips and resizing."""

from dataclasses import dataclass
from typing import Literal

import dm_pix as pix
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from research.data.augment.boxes import random_box
from research.data.augment.checks import (
    check_interval,
    check_positive,
    check_range,
    check_size,
    require_float,
    require_images,
)
from research.data.augment.transform import Batch, example_keys, map_images

PadMode = Literal["constant", "reflect", "edge"]
PAD_MODES = ("constant", "reflect", "edge")


@dataclass(frozen=True)
class Pad:
    """Pads to (height, width), the image centred; an odd pixel goes to the bottom and right."""

    size: tuple[int, int]
    mode: PadMode = "constant"

    def __post_init__(self) -> None:
        check_size("size", self.size)
        _check_mode(self.mode)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where the image is larger."""
        image = batch["image"]
        require_images(self, image)
        height, width = self.size
        if image.shape[1] > height or image.shape[2] > width:
            raise ValueError(f"Pad.size={self.size} is smaller than the image {image.shape[1:3]}")
        _check_reflection(self, (height - image.shape[1] + 1) // 2, image.shape[1])
        _check_reflection(self, (width - image.shape[2] + 1) // 2, image.shape[2])
        return {**batch, "image": pix.pad_to_size(image, height, width, mode=self.mode)}


@dataclass(frozen=True)
class CenterCrop:
    """Crops (height, width) from the centre."""

    size: tuple[int, int]

    def __post_init__(self) -> None:
        check_size("size", self.size)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where the image is smaller."""
        require_images(self, batch["image"])
        _check_fits(self, self.size, batch["image"].shape[1:3])
        return {**batch, "image": pix.center_crop(batch["image"], *self.size)}


@dataclass(frozen=True)
class Resize:
    """Resizes to (height, width), antialiased where it shrinks."""

    size: tuple[int, int]
    method: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        check_size("size", self.size)
        if self.method not in ("nearest", "bilinear", "bicubic"):
            raise ValueError(
                f'method must be "nearest", "bilinear" or "bicubic", got {self.method!r}'
            )

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        image = batch["image"]
        require_float(self, image)
        shape = (image.shape[0], *self.size, image.shape[-1])
        return {**batch, "image": jax.image.resize(image, shape, self.method)}


@dataclass(frozen=True)
class RandomCrop:
    """Pads every side by `padding` and crops at a random place, to the image's own size or `size`.

    `constant` pads with 0.
    """

    padding: int = 0
    mode: PadMode = "constant"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_range("padding", self.padding, 0)
        _check_mode(self.mode)
        if self.size is not None:
            check_size("size", self.size)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where `size` is larger than the padded image."""
        require_images(self, batch["image"])
        height, width, channels = batch["image"].shape[1:]
        for length in (height, width):
            _check_reflection(self, self.padding, length)
        size = (height, width) if self.size is None else self.size
        _check_fits(self, size, (height + 2 * self.padding, width + 2 * self.padding))
        sides = ((0, 0), (self.padding,) * 2, (self.padding,) * 2, (0, 0))
        padded = {**batch, "image": jnp.pad(batch["image"], sides, mode=self.mode)}
        return map_images(
            lambda key, image: pix.random_crop(key, image, (*size, channels)), rng, padded
        )


@dataclass(frozen=True)
class RandomResizedCrop:
    """Resizes a random part of the image to (height, width) (Szegedy et al., 2015).

    The part's share of the area is uniform in `scale`, its width by height log-uniform in
    `ratio`, as `boxes.random_box` draws it. Interpolation is bilinear, antialiased.

    A batch may have the images' `aspect_ratio`, width by height, from before they were stretched to
    one size (`Tfds.resize`): area and ratio are then those of the original image, which is what
    its part is resized from. Behind the crop images have their own, and the batch has it no more.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        check_size("size", self.size)
        check_interval("scale", self.scale, 0.0, 1.0)
        check_positive("scale", self.scale[0])
        check_interval("ratio", self.ratio, 0.0)
        check_positive("ratio", self.ratio[0])

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        whole = jnp.asarray(batch["image"].shape[1:3], jnp.float32)
        target = jnp.asarray(self.size, jnp.float32)

        def crop(key: PRNGKeyArray, image: Array, aspect_ratio: Float[Array, ""]) -> Array:
            corner, sides, _ = random_box(key, self.scale, self.ratio, aspect_ratio)
            zoom = target / (sides * whole)
            shape = (*self.size, image.shape[-1])
            return jax.image.scale_and_translate(
                image, shape, (0, 1), zoom, -corner * whole * zoom, "bilinear"
            ).astype(image.dtype)

        own = jnp.broadcast_to(whole[1] / whole[0], batch["image"].shape[:1])
        aspect_ratios = batch.get("aspect_ratio", own)
        cropped = jax.vmap(crop)(example_keys(rng, batch), batch["image"], aspect_ratios)
        rest = {name: value for name, value in batch.items() if name != "aspect_ratio"}
        return {**rest, "image": cropped}


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors left and right ("horizontal") or up and down ("vertical")."""

    direction: Literal["horizontal", "vertical"] = "horizontal"
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.direction not in ("horizontal", "vertical"):
            raise ValueError(
                f'direction must be "horizontal" or "vertical", got {self.direction!r}'
            )
        check_range("probability", self.probability, 0.0, 1.0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_images(self, batch["image"])
        flip = {
            "horizontal": pix.random_flip_left_right,
            "vertical": pix.random_flip_up_down,
        }[self.direction]
        return map_images(
            lambda key, image: flip(key, image, probability=self.probability), rng, batch
        )


def _check_mode(mode: str) -> None:
    if mode not in PAD_MODES:
        raise ValueError(f"mode must be one of {PAD_MODES}, got {mode!r}")


def _check_fits(transform: object, size: tuple[int, int], available: tuple[int, int]) -> None:
    if size[0] > available[0] or size[1] > available[1]:
        name = type(transform).__name__
        raise ValueError(f"{name}.size={size} is larger than the image {available}")


def _check_reflection(transform: "Pad | RandomCrop", padding: int, length: int) -> None:
    if transform.mode == "reflect" and padding >= length:
        raise ValueError(
            f"{type(transform).__name__} can't reflect {padding} pixels of an image of {length}"
        )
