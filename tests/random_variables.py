"""Variables for tests to which it doesn't matter how a model starts, and how many a model has: an
initialiser compiles a generator of random numbers for every parameter, which takes longer than what
such tests do."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def random_variables(init: Callable[..., Any], *args: Any) -> Any:
    """What `init(key, *args)` returns in structure, shapes and dtypes, as `random_arrays`."""
    return random_arrays(jax.eval_shape(init, jax.random.key(0), *args))


def random_arrays(shapes: Any) -> Any:
    """Variables of these shapes: kernels at LeCun's scale, scales and variances around 1, biases
    and means around 0, but none of them there."""
    generator = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        values = generator.normal(size=leaf.shape)
        if name in ("scale", "var"):
            values = np.exp(0.1 * values)
        elif name in ("bias", "mean"):
            values = 0.1 * values
        else:
            values = values / math.sqrt(math.prod(leaf.shape[:-1]))
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def num_params(model: Any, shape: tuple[int, ...]) -> int:
    """Parameters of a model of inputs of this shape."""
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
