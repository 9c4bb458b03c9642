"""How the one step runs on the devices: jit, pmap, a mesh, or trials under vmap.

A `Parallel` compiles the same pure functions and knows how state and batches are laid out for
them. What is checkpointed is always the logical state, each parameter once and
in its own shape, so that a checkpoint of one mode restores into every other.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any, final

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

Function = Callable[..., Any]


class Parallel(abc.ABC):
    """One way to run a step."""

    axis_name: str | None = None  # over which the step itself must average
    batch_divisor: int = 1  # what every batch size must be divisible by

    @abc.abstractmethod
    def logical_shardings(self, state: Any) -> Any:
        """Where each leaf of the logical state (arrays or shapes) lives."""

    @abc.abstractmethod
    def compile_train(self, train: Function, state: Any) -> Function:
        """`train(state, arrays, feed, count) -> (state, metrics)`; state is donated."""

    @abc.abstractmethod
    def compile_evaluate(self, evaluate: Function) -> Function:
        """`evaluate(state, arrays, feed) -> metrics`."""

    @abc.abstractmethod
    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """A whole data set on every device."""

    @abc.abstractmethod
    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        """This process's rows of batches on its devices, split along `batch_axis`."""

    def over_trials(self, function: Function) -> Function:
        """`function(first, …)` for every trial at once; `first` has the axis of trials."""
        return function

    def to_logical(self, state: Any) -> Any:
        """The state as it is checkpointed and shown."""
        return state

    def from_logical(self, state: Any) -> Any:
        """The inverse of `to_logical`."""
        return state

    def to_host(self, metrics: Any) -> Any:
        """Metrics as NumPy arrays; waits for them."""
        return jax.device_get(metrics)

    def trials(self, logical: Any) -> list[Any]:
        """Every trial's part of a logical state, on one local device, for eager use."""
        return [jax.device_put(logical, jax.local_devices()[0])]

    def init(self, init: Function, *args: Any) -> Any:
        """The initial state, each leaf made where it lives."""
        init = self.over_trials(init)
        shardings = self.logical_shardings(jax.eval_shape(init, *args))
        return self.from_logical(jax.jit(init, out_shardings=shardings)(*args))

    def restore_target(self, init: Function, *args: Any) -> Any:
        """Shapes, dtypes and places of the logical state, for a checkpoint to restore into."""
        shapes = jax.eval_shape(self.over_trials(init), *args)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self.logical_shardings(shapes),
        )

    def local_rows(self, batch_size: int) -> slice:
        """Which rows of a global batch this process feeds."""
        share = batch_size // jax.process_count()
        return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


@final
class Jit(Parallel):
    """One device, one program."""

    def logical_shardings(self, state: Any) -> Any:
        return _all_on_one_device(state)

    def compile_train(self, train: Function, state: Any) -> Function:
        return jax.jit(train, donate_argnums=0)

    def compile_evaluate(self, evaluate: Function) -> Function:
        return jax.jit(evaluate)

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        return jax.device_put(dict(arrays))

    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        return jax.device_put(feed)


@final
class Vmap(Parallel):
    """Independent trials in one program: the state has a leading trial axis.

    Training feeds have the trial axis after the steps, since every trial has its own order of
    the data; evaluation feeds have none.
    """

    def logical_shardings(self, state: Any) -> Any:
        return _all_on_one_device(state)

    def over_trials(self, function: Function) -> Function:
        return lambda first, *rest: jax.vmap(lambda one: function(one, *rest))(first)

    def compile_train(self, train: Function, state: Any) -> Function:
        mapped = jax.vmap(train, in_axes=(0, None, 1, None), out_axes=(0, 1))
        return jax.jit(mapped, donate_argnums=0)

    def compile_evaluate(self, evaluate: Function) -> Function:
        return jax.jit(jax.vmap(evaluate, in_axes=(0, None, None)))

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        return jax.device_put(dict(arrays))

    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        return jax.device_put(feed)

    def trials(self, logical: Any) -> list[Any]:
        count = jax.tree.leaves(logical)[0].shape[0]
        return [jax.tree.map(lambda x, k=k: x[k], logical) for k in range(count)]


def one_copy(replicated: Any) -> Any:
    """A replicated tree as arrays on the first local device."""

    def copy(x: jax.Array) -> jax.Array:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(copy(jax.random.key_data(x)))
        return x.addressable_shards[0].data

    return jax.tree.map(copy, replicated)


def _all_on_one_device(state: Any) -> Any:
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda _: sharding, state)
