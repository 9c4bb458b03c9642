"""How far back in time a loss reaches."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.engine.display import Curve, Curves
from research.engine.objective import Params

Losses = Callable[[Params, Float[Array, "batch length features"]], Float[Array, " batch"]]
"""The loss of each example by parameters and inputs."""


def gradient_by_time(
    losses: Losses,
    params: Mapping[str, Params],
    inputs: Float[Array, "batch length features"],
) -> Curves:
    """`gradient_norms` for each of these parameters by label, on a logarithmic axis; a norm of 0 is
    a gap."""
    norms = jax.jit(lambda params, inputs: gradient_norms(losses, params, inputs))
    curves = []
    for label, tree in params.items():
        y = np.asarray(norms(tree, jnp.asarray(inputs)), np.float64)
        curves.append(Curve(label, np.arange(len(y), dtype=float), np.where(y > 0, y, np.nan)))
    axes = ("position", "norm of the gradient")
    return Curves({"gradient of the loss by position": curves}, axes, logarithmic=True)


def gradient_norms(
    losses: Losses, params: Params, inputs: Float[Array, "batch length features"]
) -> Float[Array, " length"]:
    """The norm of the gradient of an example's loss with respect to its input at each position, a
    mean over examples.

    Up to the input's own kernel it is what comes back through the states from the end to there:
    the product of Jacobians that vanishes or explodes (Bengio et al., 1994).
    """
    gradients = jax.grad(lambda inputs: losses(params, inputs).sum())(inputs)
    return jnp.linalg.norm(gradients.astype(jnp.float32), axis=-1).mean(0)
