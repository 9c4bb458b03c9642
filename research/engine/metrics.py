"""Exact weighted means: what every metric is, on device and across batches."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Num


@struct.dataclass
class Mean:
    """A mean kept as its sum and weight, so that batches and devices add up exactly.

    `finish="exp"` reports the exponential of the mean (perplexity from a log-likelihood).
    """

    total: Num[Array, "*axes"]
    weight: Num[Array, "*axes"]
    finish: Literal["mean", "exp"] = struct.field(pytree_node=False, default="mean")

    def merge(self, other: "Mean") -> "Mean":
        """The mean over both collections of examples."""
        return self.replace(total=self.total + other.total, weight=self.weight + other.weight)  # type: ignore[attr-defined]

    def compute(self) -> np.ndarray:
        """The number itself, in float64 on the host; NaN where nothing was seen."""
        total, weight = np.asarray(self.total, np.float64), np.asarray(self.weight, np.float64)
        mean = np.divide(total, weight, out=np.full_like(total, math.nan), where=weight != 0)
        if self.finish == "mean":
            return mean
        with np.errstate(over="ignore"):  # a perplexity may well be infinite
            return np.exp(mean)


Metrics = Mapping[str, Mean]


@struct.dataclass
class Packed:
    """Metrics as one array, which travels to the host in one copy."""

    values: Float[Array, "*axes metrics 2"]
    names: tuple[tuple[str, str], ...] = struct.field(pytree_node=False)

    def means(self) -> dict[str, Mean]:
        """The metrics in float64 on the host; waits for them."""
        values = np.asarray(self.values, np.float64)
        return {
            name: Mean(values[..., i, 0], values[..., i, 1], finish)  # type: ignore[arg-type]
            for i, (name, finish) in enumerate(self.names)
        }


def pack(metrics: Metrics) -> Packed:
    """Metrics in the order of their names as one float32 array of sums and weights."""
    means = [metrics[name] for name in sorted(metrics)]
    values = jnp.asarray([[mean.total, mean.weight] for mean in means], jnp.float32)
    names = tuple((name, metrics[name].finish) for name in sorted(metrics))
    return Packed(values, names)


def mean_of(
    values: Num[Array, "..."],
    mask: Num[Array, "..."] | Bool[Array, "..."] | None = None,
    finish: Literal["mean", "exp"] = "mean",
) -> Mean:
    """The mean of `values` where `mask` is true (everywhere without one), summed in float32.

    A mask with fewer dimensions than `values` masks leading dimensions.
    """
    values = values.astype(jnp.float32)
    if mask is None:
        return Mean(jnp.sum(values), jnp.asarray(values.size, jnp.float32), finish)
    mask = mask.astype(jnp.float32)
    shape = mask.shape + (1,) * (values.ndim - mask.ndim)
    mask = jnp.broadcast_to(mask.reshape(shape), values.shape)
    return Mean(jnp.sum(jnp.where(mask > 0, values * mask, 0.0)), jnp.sum(mask), finish)


def accuracy(
    logits: Float[Array, "*batch classes"],
    labels: Int[Array, "*batch"],
    mask: Num[Array, "..."] | Bool[Array, "..."] | None = None,
) -> Mean:
    """The share of examples whose largest logit is the label's, in [0, 1]."""
    return mean_of(jnp.argmax(logits, -1) == labels, mask)


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Negative log-likelihood of each label in nats, in float32 whatever the logits are."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)


def merge(first: Metrics, second: Metrics) -> dict[str, Mean]:
    """The means over both collections of examples, name by name; a name may be in one only."""
    merged: dict[str, Mean] = {**first, **second}
    for name in first.keys() & second.keys():
        merged[name] = first[name].merge(second[name])
    return merged


def compute(metrics: Metrics) -> dict[str, Any]:
    """The numbers themselves: floats, or an array with one entry a trial."""
    computed = {name: mean.compute() for name, mean in metrics.items()}
    return {name: value if value.ndim else float(value) for name, value in computed.items()}
