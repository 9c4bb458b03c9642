"""All that a run is, together with the position in its data."""

from collections.abc import Mapping
from typing import Any

from flax import struct
from jaxtyping import Array, Int, PRNGKeyArray

from research.engine.objective import Collections, Params


@struct.dataclass
class TrainState:
    """Everything that a step reads and writes.

    `opt_state` has one entry a player; an objective without players has the one player "model".
    `ema` is an average of `params` over steps, exponential or even, or None. `ema_collections` are
    the collections that are averaged along with it: the statistics of batch norm, where the average
    is exponential. `rng` never changes: a step's key is `fold_in(rng, step)`. `hyperparameters` are
    the settings in which trials of one program differ, by path; it is empty but under vmap.
    """

    step: Int[Array, ""]
    params: Params
    collections: Collections
    opt_state: Mapping[str, Any]
    ema: Params | None
    ema_collections: Collections
    rng: PRNGKeyArray
    hyperparameters: Mapping[str, Any]

    @property
    def evaluated_params(self) -> Params:
        """What is evaluated: the average where there is one."""
        return self.params if self.ema is None else self.ema

    @property
    def evaluated_collections(self) -> Collections:
        """What is evaluated with them."""
        return {**self.collections, **self.ema_collections}
