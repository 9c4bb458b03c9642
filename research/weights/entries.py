"""Which arrays of a published file are which of ours."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from research.weights import layout
from research.weights.layout import Layout

Path = tuple[str, ...]
"""Of one of our arrays: ("params", "stem", "conv", "kernel")."""


@dataclass(frozen=True)
class Entry:
    """One of our arrays, and the names of theirs that it is made of."""

    path: Path
    names: tuple[str, ...]
    layout: Layout = layout.SAME


Entries = Iterator[Entry]
"""A naming may give entries for arrays that a model's settings leave out."""


@final
class Modules:
    """The modules that have parameters, as "stage_0_block_1/conv_0", without those inside."""

    def __init__(self, paths: Sequence[Path]):
        """From the paths of arrays, layers side by side."""
        self.paths = paths
        inside = ["/".join(path[1:end]) for path in paths for end in range(2, len(path))]
        self._names = dict.fromkeys(inside)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names(self, pattern: str) -> list[tuple[str, ...]]:
        """The groups of a pattern in each module that it matches wholly."""
        matches = (re.fullmatch(pattern, name) for name in self._names)
        return [match.groups() for match in matches if match]

    def found(self, pattern: str) -> list[tuple[int, ...]]:
        """The same as numbers, in order."""
        return sorted(tuple(map(int, groups)) for groups in self.names(pattern))


def conv(name: str, *path: str) -> Entries:
    """A convolution, of any number of groups."""
    return _layer(name, path, layout.CONV)


def linear(name: str, *path: str) -> Entries:
    """A dense layer."""
    return _layer(name, path, layout.LINEAR)


def linear_as_conv(name: str, *path: str) -> Entries:
    """A dense layer that is a 1×1 convolution there."""
    return _layer(name, path, layout.LINEAR_AS_CONV)


def flattened_linear(name: str, rows: int, columns: int, *path: str) -> Entries:
    """A dense layer over flattened maps of so many rows and columns."""
    return _layer(name, path, layout.flattened(rows, columns))


def flattened_linear_as_conv(name: str, rows: int, columns: int, *path: str) -> Entries:
    """The same, which is a convolution as large as the maps there."""
    return _layer(name, path, layout.flattened_as_conv(rows, columns))


def layer_norm(name: str, *path: str) -> Entries:
    """A layer normalisation."""
    yield Entry(("params", *path, "scale"), (f"{name}.weight",))
    yield Entry(("params", *path, "bias"), (f"{name}.bias",))


def batch_norm(name: str, *path: str) -> Entries:
    """A batch normalisation with its running statistics."""
    yield from layer_norm(name, *path)
    yield Entry(("batch_stats", *path, "mean"), (f"{name}.running_mean",))
    yield Entry(("batch_stats", *path, "var"), (f"{name}.running_var",))


def conv_norm(conv_name: str, norm_name: str, *path: str) -> Entries:
    """A `ConvNorm`."""
    yield from conv(conv_name, *path, "conv")
    yield from batch_norm(norm_name, *path, "norm")


def embedding(name: str, *path: str) -> Entries:
    """An embedding."""
    yield Entry(("params", *path, "embedding"), (f"{name}.weight",))


def array(name: str, *path: str, how: Layout = layout.SAME) -> Entries:
    """A parameter of no layer."""
    yield Entry(("params", *path), (name,), how)


def packed_attention(qkv: str, out: str, num_heads: int, *path: str) -> Entries:
    """A `MultiHeadAttention` whose query, key and value are one array there, called `qkv` and
    "weight" or "bias"."""
    yield Entry(("params", *path, "qkv", "kernel"), (f"{qkv}weight",), layout.qkv_kernel(num_heads))
    yield Entry(("params", *path, "qkv", "bias"), (f"{qkv}bias",), layout.qkv_bias(num_heads))
    yield from _layer(out, (*path, "out"), layout.attention_out(num_heads))


def grouped_attention(
    names: Sequence[str], out: str, num_heads: int, num_kv_heads: int, *path: str
) -> Entries:
    """A `MultiHeadAttention` with `num_kv_heads`; query, key and value are the layers `names`."""
    query, *others = (f"{name}.weight" for name in names)
    yield Entry(("params", *path, "query", "kernel"), (query,), layout.heads_kernel(num_heads))
    pair = layout.stacked_kernels(num_kv_heads)
    yield Entry(("params", *path, "key_value", "kernel"), tuple(others), pair)
    yield from _layer(out, (*path, "out"), layout.attention_out(num_heads))


def separate_attention(names: Sequence[str], out: str, num_heads: int, *path: str) -> Entries:
    """A `MultiHeadAttention` whose query, key and value are the layers `names` there."""
    weights, biases = (tuple(f"{name}.{kind}" for name in names) for kind in ("weight", "bias"))
    yield Entry(("params", *path, "qkv", "kernel"), weights, layout.stacked_kernels(num_heads))
    yield Entry(("params", *path, "qkv", "bias"), biases, layout.qkv_biases(num_heads))
    yield from _layer(out, (*path, "out"), layout.attention_out(num_heads))


def _layer(name: str, path: Path, kernel: Layout) -> Entries:
    yield Entry(("params", *path, "kernel"), (f"{name}.weight",), kernel)
    yield Entry(("params", *path, "bias"), (f"{name}.bias",))
