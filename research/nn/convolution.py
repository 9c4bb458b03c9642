"""Convolutions with Flax's parameters, formulated for XLA on CPU where its own are slow.

Depthwise, grouped and strided transposed convolutions are slow there, those of maps smaller than
the kernel, and the kernel's gradient: of plain convolutions, too, where it takes several times as
long as they do. `Conv` and `ConvTranspose` have the parameters, names and initialisation of
`flax.linen.Conv` and `flax.linen.ConvTranspose`.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from research.nn import subpixel
from research.nn.implementation import Implementation, is_fast
from research.nn.window import check_window

Padding = Literal["SAME", "VALID"] | int | Sequence[int | tuple[int, int]]

MAX_SPLIT_GROUPS = 64
"""More groups than this stay one operation: each split convolution adds to the compile time."""


class Conv(nn.Module):
    """Convolution of any number of spatial axes, channels last.

    On CPU (`implementation="auto"`) a depthwise convolution is a sum of shifted products and a
    grouped one a concatenation of convolutions. `padding` is "SAME", "VALID", one number for all
    sides, or one number or (low, high) pair for each axis; PyTorch's padding is the number.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    kernel_dilation: int | Sequence[int] = 1
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    implementation: Implementation = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch_and_space channels"]
    ) -> Float[Array, "*batch_and_space features"]:
        """Convolves; any number of leading batch axes.

        Raises ValueError for sizes below 1, where the groups do not divide the channels and the
        features, and where the kernel does not fit into x.
        """
        num_axes, groups, channels = len(self.kernel_size), self.feature_group_count, x.shape[-1]
        if min(self.features, groups, *self.kernel_size) < 1:
            raise ValueError(
                f"features={self.features}, kernel_size={tuple(self.kernel_size)} and "
                f"feature_group_count={groups} of a convolution must be at least 1"
            )
        if channels % groups or self.features % groups:
            raise ValueError(
                f"feature_group_count={groups} must divide both the {channels} channels of the "
                f"input and features={self.features}"
            )
        kernel = self.param(
            "kernel",
            self.kernel_init,
            (*self.kernel_size, channels // groups, self.features),
            self.param_dtype,
        )
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias
            else None
        )
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        batch_shape = x.shape[: x.ndim - num_axes - 1]
        padding = _pads(self.padding, num_axes)
        dilation = _each_axis(self.kernel_dilation, num_axes)
        reach = [(n - 1) * step + 1 for n, step in zip(self.kernel_size, dilation, strict=True)]
        check_window(x.shape[len(batch_shape) : -1], reach, padding)
        y = convolve(
            x.reshape(-1, *x.shape[len(batch_shape) :]),
            kernel,
            strides=_each_axis(self.strides, num_axes),
            padding=padding,
            kernel_dilation=dilation,
            groups=groups,
            implementation=self.implementation,
        )
        y = y.reshape(*batch_shape, *y.shape[1:])
        return y if bias is None else y + bias


class ConvTranspose(nn.Module):
    """Transposed convolution of any number of spatial axes, channels last.

    On CPU (`implementation="auto"`) a strided one is a convolution followed by a pixel shuffle.
    `padding` pads the dilated input, as in Flax: PyTorch's `padding=p` is `kernel - 1 - p`, so a
    kernel of 4 with stride 2 and PyTorch's padding 1 is padding 2, which "SAME" is there.
    Without `transpose_kernel` the kernel is PyTorch's flipped along space.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    transpose_kernel: bool = False
    implementation: Implementation = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch_and_space channels"]
    ) -> Float[Array, "*batch_and_space features"]:
        """Convolves; any number of leading batch axes."""
        num_axes = len(self.kernel_size)
        in_out = (x.shape[-1], self.features)
        kernel = self.param(
            "kernel",
            self.kernel_init,
            (*self.kernel_size, *(in_out[::-1] if self.transpose_kernel else in_out)),
            self.param_dtype,
        )
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias
            else None
        )
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.transpose_kernel:
            kernel = jnp.flip(jnp.swapaxes(kernel, -1, -2), tuple(range(num_axes)))
        batch_shape = x.shape[: x.ndim - num_axes - 1]
        flat = x.reshape(-1, *x.shape[len(batch_shape) :])
        strides = _each_axis(self.strides, num_axes)
        padding = _pads(self.padding, num_axes)
        if is_fast(self.implementation) and max(strides) > 1:
            y = subpixel.convolve_transposed(flat, kernel, strides, padding)
        else:
            y = jax.lax.conv_transpose(
                flat,
                kernel,
                strides,
                padding,
                dimension_numbers=_dimension_numbers(flat.shape, kernel.shape),
            )
        y = y.reshape(*batch_shape, *y.shape[1:])
        return y if bias is None else y + bias


def convolve(
    x: Float[Array, "batch *space channels"],
    kernel: Float[Array, "*window channels_per_group features"],
    *,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    kernel_dilation: Sequence[int],
    groups: int = 1,
    implementation: Implementation = "auto",
) -> Float[Array, "batch *space features"]:
    """The convolution (cross-correlation) of `Conv`, as a function."""
    fast = is_fast(implementation)
    if fast and groups > 1:
        if groups == x.shape[-1]:
            return _convolve_depthwise(x, kernel, strides, padding, kernel_dilation)
        if groups <= MAX_SPLIT_GROUPS:
            parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
            return jnp.concatenate(
                [_convolve_plain(*part, strides, padding, kernel_dilation, 1) for part in parts],
                axis=-1,
            )
    window = kernel.shape[:-2]
    larger = any(size < length for size, length in zip(x.shape[1:-1], window, strict=True))
    if fast and groups == 1 and (larger or max(window) == 1):
        return _convolve_by_products(x, kernel, strides, padding, kernel_dilation)
    return _convolve_plain(x, kernel, strides, padding, kernel_dilation, groups)


def _convolve_by_products(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    kernel_dilation: Sequence[int],
) -> Array:
    """One product of matrices a window position, summed: for maps smaller than the kernel, where
    XLA's convolution takes 100 times as long (4.2 s for 128 maps of 2×2, 512 channels, 3×3), and
    for 1×1 kernels, whose gradient takes it 2 to 5 times as long."""
    shifted = _shifted(x, kernel.shape[:-2], strides, padding, kernel_dilation)
    return sum(part @ kernel[*position] for position, part in shifted)  # type: ignore[return-value]


def _convolve_plain(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    kernel_dilation: Sequence[int],
    groups: int,
) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=kernel_dilation,
        dimension_numbers=_dimension_numbers(x.shape, kernel.shape),
        feature_group_count=groups,
    )


def _convolve_depthwise(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    kernel_dilation: Sequence[int],
) -> Array:
    """One product of a shifted input and a kernel element a window position, summed."""
    x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], axis=-1)
    shifted = _shifted(x, kernel.shape[:-2], strides, padding, kernel_dilation)
    return sum(part * kernel[*position, 0] for position, part in shifted)  # type: ignore[return-value]


def _shifted(
    x: Array,
    window: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    kernel_dilation: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Each position in the window, with what the window sees there as it slides."""
    reach = [
        (size - 1) * dilation + 1 for size, dilation in zip(window, kernel_dilation, strict=True)
    ]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    x = jax.lax.pad(
        x,
        jnp.zeros((), x.dtype),
        ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)),
    )
    sizes = [
        (size - extent) // stride + 1
        for size, extent, stride in zip(x.shape[1:-1], reach, strides, strict=True)
    ]
    for position in np.ndindex(*window):
        starts = [i * dilation for i, dilation in zip(position, kernel_dilation, strict=True)]
        spans = (
            slice(start, start + stride * (size - 1) + 1, stride)
            for start, stride, size in zip(starts, strides, sizes, strict=True)
        )
        yield position, x[:, *spans]


def _dimension_numbers(
    x_shape: Sequence[int], kernel_shape: Sequence[int]
) -> jax.lax.ConvDimensionNumbers:
    """Channels last in input, kernel and output."""
    last = len(x_shape) - 1
    channels_last = (0, last, *range(1, last))
    return jax.lax.ConvDimensionNumbers(
        channels_last, (last, last - 1, *range(last - 1)), channels_last
    )


def _each_axis(value: int | Sequence[int], num_axes: int) -> tuple[int, ...]:
    return (value,) * num_axes if isinstance(value, int) else tuple(value)


def _pads(padding: Padding, num_axes: int) -> str | tuple[tuple[int, int], ...]:
    """Pairs for each axis, or "SAME" or "VALID"."""
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f'padding must be "SAME", "VALID" or numbers, got {padding!r}')
        return padding
    sides = (padding,) * num_axes if isinstance(padding, int) else tuple(padding)
    if len(sides) != num_axes:
        raise ValueError(f"padding {padding!r} must have one entry for each of {num_axes} axes")
    return tuple((side, side) if isinstance(side, int) else (side[0], side[1]) for side in sides)
