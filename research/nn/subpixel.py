"""Strided transposed convolution as a convolution and a pixel shuffle.

A transposed convolution of stride s inserts s-1 zeros between inputs. Outputs at positions of
equal remainder modulo s (a phase) see only every s-th kernel element: they are a convolution of
the input itself by that sub-kernel (Shi et al., 2016, "Is the deconvolution layer the same as a
convolutional layer?"). All phases run as one convolution, and their outputs are interleaved.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class _Axis(NamedTuple):
    """How one spatial axis is computed: `taps` elements a sub-kernel, `size` outputs."""

    stride: int
    taps: int
    size: int
    residues: tuple[int, ...]  # of each phase: its sub-kernel holds elements residue + stride * i
    offsets: tuple[int, ...]  # of each phase: the input position of its first window

    @property
    def per_phase(self) -> int:
        return -(-self.size // self.stride)

    @property
    def pads(self) -> tuple[int, int]:
        """The first input position of any window, and one past the last."""
        return min(self.offsets), max(self.offsets) + self.per_phase + self.taps - 1


def convolve_transposed(
    x: Float[Array, "batch *space channels"],
    kernel: Float[Array, "*window channels features"],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
) -> Float[Array, "batch *space features"]:
    """What `jax.lax.conv_transpose` computes, of any window, strides and padding."""
    window, space = kernel.shape[:-2], x.shape[1:-1]
    if isinstance(padding, str):
        padding = [
            _named_padding(padding, size, stride)
            for size, stride in zip(window, strides, strict=True)
        ]
    axes = [_plan(*sizes) for sizes in zip(space, window, strides, padding, strict=True)]
    x = jax.lax.pad(
        x,
        jnp.zeros((), x.dtype),
        (
            (0, 0, 0),
            *(
                (-axis.pads[0], axis.pads[1] - size, 0)
                for axis, size in zip(axes, space, strict=True)
            ),
            (0, 0, 0),
        ),
    )
    num_axes = len(axes)
    last = num_axes + 1
    channels_last = (0, last, *range(1, last))
    y = jax.lax.conv_general_dilated(
        x,
        _sub_kernels(kernel, axes),
        (1,) * num_axes,
        "VALID",
        dimension_numbers=jax.lax.ConvDimensionNumbers(
            channels_last, (last, num_axes, *range(num_axes)), channels_last
        ),
    )
    y = y.reshape(*y.shape[:-1], *(axis.stride for axis in axes), kernel.shape[-1])
    for i, axis in enumerate(axes):
        y = _interleave(y, 1 + i, last, axis)
    return y


def _named_padding(name: str, window: int, stride: int) -> tuple[int, int]:
    """The padding of the dilated input that `jax.lax.conv_transpose` means by the name."""
    if name == "SAME":
        total = window + stride - 2
        low = window - 1 if stride > window - 1 else -(-total // 2)
    else:
        total = window + stride - 2 + max(window - stride, 0)
        low = window - 1
    return low, total - low


def _plan(size: int, window: int, stride: int, padding: tuple[int, int]) -> _Axis:
    low, high = padding
    residues = tuple((low - phase) % stride for phase in range(stride))
    offsets = tuple((phase + residue - low) // stride for phase, residue in enumerate(residues))
    out_size = (size - 1) * stride + 1 + low + high - (window - 1)
    if out_size < 1:
        raise ValueError(f"padding {padding} of a window of {window} leaves no output")
    return _Axis(stride, -(-window // stride), out_size, residues, offsets)


def _sub_kernels(kernel: Array, axes: Sequence[_Axis]) -> Array:
    """(*window, channels, features) to (*taps, channels, residues * features)."""
    num_axes = len(axes)
    *window, channels, features = kernel.shape
    grow = [(0, axis.taps * axis.stride - size) for axis, size in zip(axes, window, strict=True)]
    kernel = jnp.pad(kernel, (*grow, (0, 0), (0, 0)))
    split = [size for axis in axes for size in (axis.taps, axis.stride)]
    kernel = kernel.reshape(*split, channels, features)
    taps, residues = range(0, 2 * num_axes, 2), range(1, 2 * num_axes, 2)
    kernel = kernel.transpose(*taps, 2 * num_axes, *residues, 2 * num_axes + 1)
    return kernel.reshape(*(axis.taps for axis in axes), channels, -1)


def _interleave(y: Array, position: int, residue_axis: int, axis: _Axis) -> Array:
    """Takes each phase of a spatial axis at its offset and lays the phases side by side."""
    phases = []
    for residue, offset in zip(axis.residues, axis.offsets, strict=True):
        start = offset - min(axis.offsets)
        phase = jax.lax.index_in_dim(y, residue, residue_axis, keepdims=False)
        phases.append(jax.lax.slice_in_dim(phase, start, start + axis.per_phase, axis=position))
    y = jnp.stack(phases, axis=position + 1)
    y = y.reshape(*y.shape[:position], -1, *y.shape[position + 2 :])
    return jax.lax.slice_in_dim(y, 0, axis.size, axis=position)
