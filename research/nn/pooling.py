"""Max and average pooling whose gradients are fast on CPU too.

XLA's `reduce_window` has a fast forward pass on CPU, but the gradient of its maximum is a
`select_and_scatter` that takes some 20 times as long. The fast path folds slices instead, one
spatial axis at a time, and sends the gradient to the same element, ties included: the first
maximum of the window in row-major order.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.nn.implementation import Implementation, is_fast
from research.nn.window import check_window

Padding = Literal["SAME", "VALID"] | Sequence[tuple[int, int]]


def max_pool(
    x: Float[Array, "*batch_and_space channels"],
    window: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    implementation: Implementation = "auto",
) -> Float[Array, "*batch_and_pooled channels"]:
    """The maximum of each window; `strides` default to `window`, padding is -inf.

    A window that holds NaN gives NaN. Raises ValueError where no window fits.
    """
    strides = tuple(window if strides is None else strides)
    _check(x, window, strides, padding)
    if not is_fast(implementation):
        return nn.max_pool(x, tuple(window), strides, padding)
    return _fold(_pad(x, window, strides, padding, -jnp.inf), window, strides, _first_maximum)


def avg_pool(
    x: Float[Array, "*batch_and_space channels"],
    window: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
    implementation: Implementation = "auto",
) -> Float[Array, "*batch_and_pooled channels"]:
    """The mean of each window; `strides` default to `window`, padding is 0.

    With `count_include_pad=False` the mean is over the elements that are not padding. Raises
    ValueError where no window fits.
    """
    strides = tuple(window if strides is None else strides)
    _check(x, window, strides, padding)
    if not is_fast(implementation):
        return nn.avg_pool(x, tuple(window), strides, padding, count_include_pad)
    total = _fold(_pad(x, window, strides, padding, 0.0), window, strides, jnp.add)
    if count_include_pad:
        return total / np.prod(window)
    ones = jnp.ones((*x.shape[-1 - len(window) : -1], 1), x.dtype)
    return total / _fold(_pad(ones, window, strides, padding, 0.0), window, strides, jnp.add)


def ceil_padding(
    space: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: int = 0
) -> tuple[tuple[int, int], ...]:
    """The (low, high) padding of each axis with which a window that begins inside counts also
    where it ends outside: PyTorch's `ceil_mode=True`."""
    sides = []
    for size, length, stride in zip(space, window, strides, strict=True):
        count = -(-(size + 2 * padding - length) // stride) + 1
        if (count - 1) * stride >= size + padding:
            count -= 1
        sides.append((padding, max(0, (count - 1) * stride + length - size - padding)))
    return tuple(sides)


def adaptive_avg_pool(
    x: Float[Array, "*batch height width channels"], size: tuple[int, int]
) -> Float[Array, "*batch rows columns channels"]:
    """The means of `size` windows an axis that cover it: window i of n reaches from
    floor(i · length / n) to ceil((i + 1) · length / n), so that neighbours may overlap."""
    for axis, count in zip((-3, -2), size, strict=True):
        length = x.shape[axis]
        if length == count:
            continue
        windows = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        means = [
            jax.lax.slice_in_dim(x, low, high, axis=x.ndim + axis).mean(axis, keepdims=True)
            for low, high in windows
        ]
        x = jnp.concatenate(means, axis)
    return x


def _first_maximum(first: Array, second: Array) -> Array:
    """The larger value, the first at a tie (its gradient too), NaN if either is NaN."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


def _check(x: Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> None:
    if not len(window) == len(strides) < x.ndim:
        raise ValueError(
            f"window {tuple(window)} and strides {tuple(strides)} must have one entry for each "
            f"spatial axis of x, which has shape {x.shape}"
        )
    check_window(x.shape[-1 - len(window) : -1], window, padding)


def _pad(
    x: Array, window: Sequence[int], strides: Sequence[int], padding: Padding, value: float
) -> Array:
    if isinstance(padding, str):
        space = x.shape[-1 - len(window) : -1]
        padding = jax.lax.padtype_to_pads(space, window, strides, padding)
    if not any(low or high for low, high in padding):
        return x
    batch = ((0, 0),) * (x.ndim - 1 - len(window))
    return jnp.pad(x, (*batch, *padding, (0, 0)), constant_values=value)


def _fold(
    x: Array,
    window: Sequence[int],
    strides: Sequence[int],
    combine: Callable[[Array, Array], Array],
) -> Array:
    """Combines the elements of each window, last axis first: row-major order among equals."""
    first_axis = x.ndim - 1 - len(window)
    for axis in reversed(range(len(window))):
        x = _fold_axis(x, first_axis + axis, window[axis], strides[axis], combine)
    return x


def _fold_axis(
    x: Array, axis: int, window: int, stride: int, combine: Callable[[Array, Array], Array]
) -> Array:
    num_windows = (x.shape[axis] - window) // stride + 1
    if window == stride:  # a reshape transposes to a cheaper gradient than strided slices
        x = jax.lax.slice_in_dim(x, 0, num_windows * window, axis=axis)
        x = x.reshape(*x.shape[:axis], num_windows, window, *x.shape[axis + 1 :])
        parts = [jax.lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in range(window)]
    else:
        span = stride * (num_windows - 1) + 1
        parts = [jax.lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(window)]
    folded = parts[0]
    for part in parts[1:]:
        folded = combine(folded, part)
    return folded
