"""How far back in time a loss reaches."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.engine.display import Curve, Curves


def gradient_norms(
    losses: Callable[[Float[Array, "batch length features"]], Float[Array, " batch"]],
    inputs: Float[Array, "batch length features"],
) -> Float[Array, " length"]:
    """The norm of the gradient of an example's loss with respect to its input at each position, a
    mean over examples.

    Up to the input's own kernel it is what goes back through the states from the end to there: the
    product of Jacobians that vanishes or explodes (Bengio et al., 1994).
    """
    gradients = jax.grad(lambda inputs: losses(inputs).sum())(inputs)
    return jnp.linalg.norm(gradients.astype(jnp.float32), axis=-1).mean(0)


def gradient_curves(norms: Mapping[str, Float[Array, " length"]]) -> Curves:
    """A curve for each of these by label, on a logarithmic axis; a norm of 0 is a gap."""
    curves = []
    for label, values in norms.items():
        y = np.asarray(values, np.float64)
        curves.append(Curve(label, np.arange(len(y), dtype=float), np.where(y > 0, y, np.nan)))
    axes = ("position", "norm of the gradient")
    return Curves({"gradient of the loss by position": curves}, axes, logarithmic=True)
