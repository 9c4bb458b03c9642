"""Stochastic depth (Huang et al., 2016): residual branches that are left out at random."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from research.nn.dropout import drop, is_off


class StochasticDepth(nn.Module):
    """Sets the branch of an example to 0 with probability `rate`, in [0, 1), and scales those that
    are kept by 1 / (1 - rate). Needs an rng named "dropout" unless it is deterministic or its rate
    is known to be 0; the rate may be traced."""

    rate: Any

    @nn.compact
    def __call__(
        self, branch: Float[Array, "batch ..."], deterministic: bool
    ) -> Float[Array, "batch ..."]:
        """The branch of each example, or 0."""
        if deterministic or is_off(self.rate):
            return branch
        shape = (branch.shape[0], *(1,) * (branch.ndim - 1))
        return drop(branch, self.rate, self.make_rng("dropout"), shape)
