"""Data parallel training by pmap."""

from collections.abc import Mapping
from typing import Any, final

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.engine.parallel import Function, Parallel, one_copy
from research.nn.devices import DEVICE_AXIS


@final
class Pmap(Parallel):
    """Data parallel: every device has the whole state, as a leading device axis.

    What pmap takes and returns has the axis of this process's devices only.
    """

    axis_name = DEVICE_AXIS

    def __init__(self, devices: list[jax.Device]):
        self.batch_divisor = len(devices)
        local = [device for device in devices if device.process_index == jax.process_index()]
        self._devices, self._num_local = devices, len(local)
        self._replicated = NamedSharding(Mesh(np.asarray(devices), (DEVICE_AXIS,)), PartitionSpec())
        self._split = NamedSharding(
            Mesh(np.asarray(local), (DEVICE_AXIS,)), PartitionSpec(DEVICE_AXIS)
        )

    def logical_shardings(self, state: Any) -> Any:
        return jax.tree.map(lambda _: self._replicated, state)

    def compile_train(self, train: Function, state: Any) -> Function:
        def train_on_numbers(state: Any, *rest: Any) -> Any:
            state = state.replace(rng=jax.random.wrap_key_data(state.rng))
            state, metrics = train(state, *rest)
            return state.replace(rng=jax.random.key_data(state.rng)), metrics

        return jax.pmap(
            train_on_numbers,
            axis_name=DEVICE_AXIS,
            in_axes=(0, 0, 0, None),
            donate_argnums=0,
            devices=self._devices,
        )

    def compile_evaluate(self, evaluate: Function) -> Function:
        return jax.pmap(evaluate, axis_name=DEVICE_AXIS, in_axes=(0, 0, 0), devices=self._devices)

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        def put(x: np.ndarray) -> jax.Array:
            shape = (self._num_local, *x.shape)
            return jax.make_array_from_callback(shape, self._split, lambda _: x[None])

        return {name: put(x) for name, x in arrays.items()}

    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        def put(x: np.ndarray) -> jax.Array:
            steps, (rows, *rest) = x.shape[:batch_axis], x.shape[batch_axis:]
            x = x.reshape(*steps, self._num_local, rows // self._num_local, *rest)
            return jax.device_put(np.moveaxis(x, batch_axis, 0), self._split)

        return jax.tree.map(put, feed)

    def to_logical(self, state: Any) -> Any:
        state = _relay(state, self._replicated, lambda x: x.shape[1:], lambda x: x[0])
        return state.replace(rng=jax.random.wrap_key_data(state.rng))

    def from_logical(self, state: Any) -> Any:
        # Over several processes pmap would fetch a key, and so wait for the step before.
        state = state.replace(rng=jax.random.key_data(state.rng))
        return _relay(state, self._split, lambda x: (self._num_local, *x.shape), lambda x: x[None])

    def to_host(self, metrics: Any) -> Any:
        return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], metrics)

    def trials(self, logical: Any) -> list[Any]:
        return [one_copy(logical)]


def _relay(state: Any, sharding: NamedSharding, shape: Any, shard: Any) -> Any:
    """The same data on the same devices under another sharding, device by device."""

    def relay(x: jax.Array) -> jax.Array:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(relay(jax.random.key_data(x)))
        shards = [shard(piece.data) for piece in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(shape(x), sharding, shards)

    return jax.tree.map(relay, state)
