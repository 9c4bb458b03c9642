"""What the tests of generative objectives share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from research.engine import metrics


@pytest.fixture
def evaluate_in_parts() -> Callable:
    """Metrics of a batch of 6 as a whole, and merged from two batches of 4, the rest padding."""

    def evaluate(objective, params, collections, batch):
        compiled = jax.jit(objective.evaluate)
        rng = jax.random.key(3)
        padded = {name: jnp.concatenate([x, x[:2]]) for name, x in batch.items()}
        padded["mask"] = padded["mask"].at[6:].set(0)
        parts = [
            compiled(params, collections, {name: x[i : i + 4] for name, x in padded.items()}, rng)
            for i in (0, 4)
        ]
        return compiled(params, collections, batch, rng), metrics.merge(*parts)

    return evaluate
