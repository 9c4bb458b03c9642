"""Crops, flips and resizing; maps that lie over the images move with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import dm_pix as pix
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray

from research.data.augment.boxes import random_box
from research.data.augment.checks import (
    PadMode,
    check_interval,
    check_mode,
    check_positive,
    check_range,
    check_size,
    require_float,
    require_images,
)
from research.data.augment.transform import Batch, Kind, example_keys, move_each, move_together


@dataclass(frozen=True)
class Pad:
    """Pads to (height, width), the image centred; an odd pixel goes to the bottom and right."""

    size: tuple[int, int]
    mode: PadMode = "constant"

    def __post_init__(self) -> None:
        check_size("size", self.size)
        check_mode(self.mode)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where the image is larger."""
        image = batch["image"]
        require_images(self, image)
        height, width = self.size
        if image.shape[1] > height or image.shape[2] > width:
            raise ValueError(f"Pad.size={self.size} is smaller than the image {image.shape[1:3]}")
        _check_reflection(self, (height - image.shape[1] + 1) // 2, image.shape[1])
        _check_reflection(self, (width - image.shape[2] + 1) // 2, image.shape[2])
        return move_together(
            lambda pixels, kind: pix.pad_to_size(pixels, height, width, mode=self.mode), batch
        )


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
        return move_together(lambda pixels, kind: pix.center_crop(pixels, *self.size), batch)


@dataclass(frozen=True)
class Resize:
    """Resizes to (height, width), antialiased where it shrinks.

    Maps of labels are resized by "nearest", maps of weights by "bilinear".
    """

    size: tuple[int, int]
    method: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        check_size("size", self.size)
        if self.method not in ("nearest", "bilinear", "bicubic"):
            raise ValueError(
                f'method must be "nearest", "bilinear" or "bicubic", got {self.method!r}'
            )

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        require_float(self, batch["image"])
        methods = {"image": self.method, "label": "nearest", "weight": "bilinear"}

        def resize(pixels: Array, kind: Kind) -> Array:
            shape = (pixels.shape[0], *self.size, pixels.shape[-1])
            return jax.image.resize(pixels, shape, methods[kind])

        return move_together(resize, batch)


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
        check_mode(self.mode)
        if self.size is not None:
            check_size("size", self.size)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where `size` is larger than the padded image."""
        require_images(self, batch["image"])
        height, width = batch["image"].shape[1:3]
        for length in (height, width):
            _check_reflection(self, self.padding, length)
        size = (height, width) if self.size is None else self.size
        _check_fits(self, size, (height + 2 * self.padding, width + 2 * self.padding))
        sides = ((self.padding,) * 2, (self.padding,) * 2, (0, 0))

        def crop(key: PRNGKeyArray, pixels: Array, kind: Kind) -> Array:
            padded = jnp.pad(pixels, sides, mode=self.mode)
            return pix.random_crop(key, padded, (*size, pixels.shape[-1]))

        return move_each(crop, rng, batch)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Resizes a random part of the image to (height, width) (Szegedy et al., 2015).

    The part's share of the area is uniform in `scale`, its width by height log-uniform in
    `ratio`, as `boxes.random_box` draws it. Interpolation is bilinear, antialiased; maps of labels
    have the nearest pixel.

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

        own = jnp.broadcast_to(whole[1] / whole[0], batch["image"].shape[:1])
        corners, sides, _ = jax.vmap(
            lambda key, aspect_ratio: random_box(key, self.scale, self.ratio, aspect_ratio)
        )(example_keys(rng, batch), batch.get("aspect_ratio", own))

        def crop(pixels: Array, corner: Array, sides: Array, kind: Kind) -> Array:
            zoom, corner = target / (sides * whole), corner * whole
            if kind == "label":
                return _nearest(pixels, self.size, zoom, corner)
            shape = (*self.size, pixels.shape[-1])
            return jax.image.scale_and_translate(
                pixels, shape, (0, 1), zoom, -corner * zoom, "bilinear"
            ).astype(pixels.dtype)

        rest = {name: value for name, value in batch.items() if name != "aspect_ratio"}
        return move_together(
            lambda pixels, kind: jax.vmap(partial(crop, kind=kind))(pixels, corners, sides), rest
        )


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors left and right ("horizontal"), up and down ("vertical") or along the diagonal from
    the upper left: rows become columns ("diagonal"). All three, one after the other, are the eight
    ways to turn a square by 90 degrees and mirror it, each as likely as another."""

    direction: Literal["horizontal", "vertical", "diagonal"] = "horizontal"
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.direction not in _FLIPS:
            raise ValueError(
                f'direction must be "horizontal", "vertical" or "diagonal", got {self.direction!r}'
            )
        check_range("probability", self.probability, 0.0, 1.0)

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """Raises ValueError where images that are not square are to be mirrored along the
        diagonal."""
        image = batch["image"]
        require_images(self, image)
        if self.direction == "diagonal" and image.shape[1] != image.shape[2]:
            raise ValueError(
                f'RandomFlip("diagonal") takes square images, got {image.shape[1:3]}: put a '
                "RandomCrop or Resize to a square before it"
            )
        flip = _FLIPS[self.direction]
        return move_each(
            lambda key, pixels, kind: flip(key, pixels, probability=self.probability), rng, batch
        )


def _random_transpose(
    key: PRNGKeyArray, pixels: Num[Array, "length length channels"], probability: float
) -> Num[Array, "length length channels"]:
    chosen = jax.random.bernoulli(key, probability)
    return jnp.where(chosen, pixels.swapaxes(0, 1), pixels)


_FLIPS: Mapping[str, Callable[..., Array]] = {
    "horizontal": pix.random_flip_left_right,
    "vertical": pix.random_flip_up_down,
    "diagonal": _random_transpose,
}


def _check_fits(transform: object, size: tuple[int, int], available: tuple[int, int]) -> None:
    if size[0] > available[0] or size[1] > available[1]:
        name = type(transform).__name__
        raise ValueError(f"{name}.size={size} is larger than the image {available}")


def _check_reflection(transform: "Pad | RandomCrop", padding: int, length: int) -> None:
    if transform.mode == "reflect" and padding >= length:
        raise ValueError(
            f"{type(transform).__name__} can't reflect {padding} pixels of an image of {length}"
        )


def _nearest(
    pixels: Array, size: tuple[int, int], zoom: Float[Array, "2"], corner: Float[Array, "2"]
) -> Array:
    """The pixels in which the centres of those of a part lie, which begins at `corner` and is
    enlarged by `zoom` to `size`."""
    rows, columns = (
        jnp.clip(jnp.floor(start + (jnp.arange(length) + 0.5) / by), 0, whole - 1).astype(jnp.int32)
        for start, length, by, whole in zip(corner, size, zoom, pixels.shape[:2], strict=True)
    )
    return pixels[rows][:, columns]
