"""How a parameter lies in a published file and how it lies in ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Layout:
    """Conversions of one of our arrays from those of theirs that it is made of, and back."""

    to_ours: Callable[[Arrays], np.ndarray]
    to_theirs: Callable[[np.ndarray], Arrays]


def single(
    to_ours: Callable[[np.ndarray], np.ndarray], to_theirs: Callable[[np.ndarray], np.ndarray]
) -> Layout:
    """A layout of one array there and one here."""
    return Layout(lambda arrays: to_ours(arrays[0]), lambda array: [to_theirs(array)])


SAME = single(lambda x: x, lambda x: x)

CONV = single(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
"""(out, in, rows, columns) there; (rows, columns, in, out) here. Depthwise ones too."""

LINEAR = single(lambda x: x.T, lambda x: x.T)
"""(out, in) there; (in, out) here."""

LINEAR_AS_CONV = single(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
"""(out, in, 1, 1) there; (in, out) here."""


def flattened(rows: int, columns: int) -> Layout:
    """A dense layer over flattened maps: (out, channels · rows · columns) there; (rows · columns ·
    channels, out) here."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        maps = x.reshape(x.shape[0], -1, rows, columns)
        return maps.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])

    def to_theirs(x: np.ndarray) -> np.ndarray:
        maps = x.reshape(rows, columns, -1, x.shape[1])
        return maps.transpose(3, 2, 0, 1).reshape(x.shape[1], -1)

    return single(to_ours, to_theirs)


def flattened_as_conv(rows: int, columns: int) -> Layout:
    """A dense layer over flattened maps: (out, channels, rows, columns) there; (rows · columns ·
    channels, out) here."""
    return single(
        lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(rows, columns, -1, x.shape[1]).transpose(3, 2, 0, 1),
    )


def with_axes(before: int = 0, behind: int = 0) -> Layout:
    """Axes of length 1 there that are not here."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        return x.reshape(x.shape[before : x.ndim - behind])

    def to_theirs(x: np.ndarray) -> np.ndarray:
        return x.reshape((1,) * before + x.shape + (1,) * behind)

    return single(to_ours, to_theirs)


def qkv_kernel(num_heads: int) -> Layout:
    """(3 · heads · head_dim, in) there; (in, 3, heads, head_dim) here."""
    return single(
        lambda x: x.T.reshape(x.shape[1], 3, num_heads, -1),
        lambda x: x.reshape(x.shape[0], -1).T,
    )


def qkv_bias(num_heads: int) -> Layout:
    """(3 · heads · head_dim) there; (3, heads, head_dim) here."""
    return single(lambda x: x.reshape(3, num_heads, -1), lambda x: x.reshape(-1))


def stacked_kernels(num_heads: int) -> Layout:
    """Query, key and value, or key and value, apart there, (heads · head_dim, in) each; (in, 3 or
    2, heads, head_dim) here."""

    def to_ours(arrays: Arrays) -> np.ndarray:
        return np.stack([x.T.reshape(x.shape[1], num_heads, -1) for x in arrays], axis=1)

    def to_theirs(x: np.ndarray) -> Arrays:
        return [x[:, i].reshape(x.shape[0], -1).T for i in range(x.shape[1])]

    return Layout(to_ours, to_theirs)


def qkv_biases(num_heads: int) -> Layout:
    """Query, key and value apart there, (heads · head_dim) each; (3, heads, head_dim) here."""
    return Layout(
        lambda arrays: np.stack([x.reshape(num_heads, -1) for x in arrays]),
        lambda x: [x[i].reshape(-1) for i in range(3)],
    )


def attention_out(num_heads: int) -> Layout:
    """(out, heads · head_dim) there; (heads, head_dim, out) here."""
    return single(
        lambda x: x.T.reshape(num_heads, -1, x.shape[0]),
        lambda x: x.reshape(-1, x.shape[-1]).T,
    )


def heads_kernel(num_heads: int) -> Layout:
    """One of query, key and value: (heads · head_dim, in) there; (in, heads, head_dim) here."""
    return single(
        lambda x: x.T.reshape(x.shape[1], num_heads, -1),
        lambda x: x.reshape(x.shape[0], -1).T,
    )


def transposed_qkv_kernel(num_heads: int) -> Layout:
    """(in, 3 · heads · head_dim) there, GPT-2's; (in, 3, heads, head_dim) here."""
    return single(
        lambda x: x.reshape(x.shape[0], 3, num_heads, -1), lambda x: x.reshape(x.shape[0], -1)
    )


def transposed_attention_out(num_heads: int) -> Layout:
    """(heads · head_dim, out) there, GPT-2's; (heads, head_dim, out) here."""
    return single(
        lambda x: x.reshape(num_heads, -1, x.shape[1]), lambda x: x.reshape(-1, x.shape[-1])
    )
