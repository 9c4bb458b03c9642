"""Every test session has caches of its own, empty at the start and shared by its processes."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time goes into compiling programs that run for a moment.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "PYTEST_XDIST_WORKER" not in os.environ:
    cache = tempfile.mkdtemp(prefix="research_tests_")
    os.environ["RESEARCH_CACHE_DIR"] = cache
    atexit.register(shutil.rmtree, cache, ignore_errors=True)


@pytest.fixture
def evaluate_in_parts() -> Callable:
    """Metrics of a batch of 6 as a whole, and merged from two batches of 4, the rest padding."""
    # Imported late: what is set above must be set before JAX is.
    import jax
    import jax.numpy as jnp

    from research.engine import metrics

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
