"""Population-based training (Jaderberg et al. 2017) as a pure function of the trials' states."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.engine.state import TrainState

Bounds = Mapping[str, tuple[float, float]]


def exploit_and_explore(
    rng: PRNGKeyArray,
    state: TrainState,
    scores: Float[Array, " trials"],
    quantile: float,
    factors: tuple[float, float],
    bounds: Bounds,
) -> tuple[TrainState, Int[Array, " trials"]]:
    """The population after a round, and which member each now descends from.

    Members in the worst `quantile` (at least one) and all that are not finite, in their score or
    a parameter, go on from one of the best `quantile`: with its parameters, collections, optimizer
    state, average and hyperparameters, each of these multiplied by one of the two `factors` and
    kept within its `bounds`. Everyone keeps its own seed, and with it its order of the data and
    its random numbers. The higher a score, the better; where nobody is finite, nobody is replaced.
    """
    trials = len(scores)
    finite = jnp.isfinite(scores) & _finite(state.params, trials)
    best_first = jnp.argsort(jnp.where(finite, -scores, jnp.inf))
    rank = jnp.argsort(best_first)
    share = max(1, int(quantile * trials))
    parents = jnp.minimum(share, finite.sum())
    replaced = ((rank >= trials - share) | ~finite) & (rank >= parents) & finite.any()

    parent_rng, *factor_rngs = jax.random.split(rng, 1 + len(bounds))
    drawn = best_first[jax.random.randint(parent_rng, (trials,), 0, jnp.maximum(parents, 1))]
    parent = jnp.where(replaced, drawn, jnp.arange(trials))
    hyperparameters = dict(state.hyperparameters)
    for factor_rng, path in zip(factor_rngs, sorted(bounds), strict=True):
        inherited = hyperparameters[path][parent]
        factor = jax.random.choice(factor_rng, jnp.asarray(factors), (trials,))
        explored = jnp.clip(inherited * factor, *bounds[path])
        hyperparameters[path] = jnp.where(replaced, explored, inherited)
    state = state.replace(  # type: ignore[attr-defined]
        hyperparameters=hyperparameters,
        **{
            name: jax.tree.map(lambda x: x[parent], getattr(state, name))
            for name in ("params", "collections", "opt_state", "ema", "ema_collections")
        },
    )
    return state, parent


def _finite(params: object, trials: int) -> Bool[Array, " trials"]:
    leaves = [jnp.isfinite(x).reshape(trials, -1).all(1) for x in jax.tree.leaves(params)]
    return jnp.stack(leaves).all(0)
