"""How the one step runs on the devices: jit, pmap, a mesh, or trials under vmap.

A `Parallel` compiles the same pure functions and knows how state and batches are laid out for
them. All of these functions take `trial` first, the settings in which trials differ; it is
empty but under vmap. What is checkpointed is always the logical state, each parameter once and
in its own shape, so that a checkpoint of one mode restores into every other.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any, final

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from research.engine.experiment import Experiment
from research.engine.rules import apply_rules, path_of
from research.errors import UserError
from research.nn.devices import DEVICE_AXIS

_SMALLEST_SPLIT = 4096
"""Parameters with fewer elements are copied to every device: splitting them costs more."""

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
        """`train(trial, state, arrays, feed, count) -> (state, metrics)`; state is donated."""

    @abc.abstractmethod
    def compile_evaluate(self, evaluate: Function) -> Function:
        """`evaluate(trial, state, arrays, feed) -> metrics`."""

    @abc.abstractmethod
    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """A whole data set on every device."""

    @abc.abstractmethod
    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        """This process's rows of batches on its devices, split along `batch_axis`."""

    def over_trials(self, function: Function) -> Function:
        """`function(trial, …)` for every trial at once."""
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
        return jax.jit(train, donate_argnums=1)

    def compile_evaluate(self, evaluate: Function) -> Function:
        return jax.jit(evaluate)

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        return jax.device_put(dict(arrays))

    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        return jax.device_put(feed)


@final
class Vmap(Parallel):
    """Independent trials in one program: `trial` and state have a leading trial axis.

    Training feeds have the trial axis after the steps, since every trial has its own order of
    the data; evaluation feeds have none.
    """

    def logical_shardings(self, state: Any) -> Any:
        return _all_on_one_device(state)

    def over_trials(self, function: Function) -> Function:
        return lambda trial, *rest: jax.vmap(lambda trial: function(trial, *rest))(trial)

    def compile_train(self, train: Function, state: Any) -> Function:
        mapped = jax.vmap(train, in_axes=(0, 0, None, 1, None), out_axes=(0, 1))
        return jax.jit(mapped, donate_argnums=1)

    def compile_evaluate(self, evaluate: Function) -> Function:
        return jax.jit(jax.vmap(evaluate, in_axes=(0, 0, None, None)))

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        return jax.device_put(dict(arrays))

    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        return jax.device_put(feed)

    def trials(self, logical: Any) -> list[Any]:
        count = jax.tree.leaves(logical)[0].shape[0]
        return [jax.tree.map(lambda x, k=k: x[k], logical) for k in range(count)]


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
        def train_on_numbers(trial: Any, state: Any, *rest: Any) -> Any:
            state = state.replace(rng=jax.random.wrap_key_data(state.rng))
            state, metrics = train(trial, state, *rest)
            return state.replace(rng=jax.random.key_data(state.rng)), metrics

        return jax.pmap(
            train_on_numbers,
            axis_name=DEVICE_AXIS,
            in_axes=(None, 0, 0, 0, None),
            donate_argnums=1,
            devices=self._devices,
        )

    def compile_evaluate(self, evaluate: Function) -> Function:
        return jax.pmap(
            evaluate, axis_name=DEVICE_AXIS, in_axes=(None, 0, 0, 0), devices=self._devices
        )

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
        return [_one_copy(logical)]


@final
class MeshParallel(Parallel):
    """jit over a mesh with axes data, fsdp and tensor; the compiler adds the communication.

    Batches are split over data and fsdp together. Parameters, and all state shaped like them,
    follow the rules; what no rule matches is split over fsdp along its largest dimension.
    """

    def __init__(self, mesh: Mesh, rules: tuple[tuple[str, tuple[str | None, ...]], ...]):
        self._mesh, self._rules = mesh, rules
        self.batch_divisor = mesh.shape["data"] * mesh.shape["fsdp"]

    def logical_shardings(self, state: Any) -> Any:
        specs = apply_rules(self._rules, state.params, None, "parallelism.rules")
        by_path = {
            path_of(path): (leaf.shape, self._spec(path_of(path), leaf.shape, spec))
            for (path, leaf), spec in zip(
                jax.tree_util.tree_leaves_with_path(state.params),
                jax.tree.leaves(specs, is_leaf=lambda x: x is None or isinstance(x, tuple)),
                strict=True,
            )
        }

        def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            # The state of an optimizer or a teacher holds trees like the parameters', so a
            # parameter's path is the tail of the paths of all that belongs to it.
            names = path_of(path).split("/")
            for start in range(len(names)):
                shape, spec = by_path.get("/".join(names[start:]), (None, None))
                if spec is not None and shape == leaf.shape:
                    return NamedSharding(self._mesh, spec)
            return NamedSharding(self._mesh, PartitionSpec())

        return jax.tree_util.tree_map_with_path(sharding, state)

    def compile_train(self, train: Function, state: Any) -> Function:
        places = jax.tree.map(lambda x: x.sharding, state)
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        return jax.jit(train, donate_argnums=1, out_shardings=(places, everywhere))

    def compile_evaluate(self, evaluate: Function) -> Function:
        return jax.jit(evaluate, out_shardings=NamedSharding(self._mesh, PartitionSpec()))

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        everywhere = NamedSharding(self._mesh, PartitionSpec())

        def put(x: np.ndarray) -> jax.Array:
            return jax.make_array_from_callback(x.shape, everywhere, lambda index: x[index])

        return {name: put(x) for name, x in arrays.items()}

    def put_feed(self, feed: Any, batch_axis: int) -> Any:
        spec = PartitionSpec(*(None for _ in range(batch_axis)), ("data", "fsdp"))
        sharding = NamedSharding(self._mesh, spec)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), feed)

    def trials(self, logical: Any) -> list[Any]:
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        return [_one_copy(jax.jit(lambda x: x, out_shardings=everywhere)(logical))]

    def local_rows(self, batch_size: int) -> slice:
        sharding = NamedSharding(self._mesh, PartitionSpec(("data", "fsdp")))
        places = sharding.addressable_devices_indices_map((batch_size,)).values()
        rows = [place[0].indices(batch_size) for place in places if place is not None]
        return slice(min(row[0] for row in rows), max(row[1] for row in rows))

    def _spec(
        self, path: str, shape: tuple[int, ...], axes: tuple[str | None, ...] | None
    ) -> PartitionSpec:
        sizes = self._mesh.shape
        if axes is not None:
            wrong = [axis for axis in axes if axis is not None and axis not in sizes]
            if len(axes) != len(shape) or wrong:
                raise UserError(
                    f"parallelism.rules: {axes} for {path} of shape {shape}; give one of "
                    f"{', '.join(sizes)} or None for each dimension"
                )
            for axis, length in zip(axes, shape, strict=True):
                if axis is not None and length % sizes[axis]:
                    raise UserError(
                        f"parallelism.rules: {path} of shape {shape} can't be split over "
                        f"{sizes[axis]} devices by {axes}"
                    )
            return PartitionSpec(*axes)
        divisible = [i for i, length in enumerate(shape) if length % sizes["fsdp"] == 0]
        if sizes["fsdp"] == 1 or not divisible or np.prod(shape) < _SMALLEST_SPLIT:
            return PartitionSpec()
        largest = max(divisible, key=lambda i: shape[i])
        return PartitionSpec(*("fsdp" if i == largest else None for i in range(len(shape))))


def make_parallel(experiment: Experiment) -> Parallel:
    """The experiment's mode on the devices at hand.

    Raises:
      UserError: where batch, micro-batches and devices don't divide, or devices are missing.
    """
    settings, devices = experiment.parallelism, jax.devices()
    if settings.mode in ("jit", "vmap") and jax.process_count() > 1:
        raise UserError(
            f"parallelism.mode = {settings.mode!r}: runs in one process; for "
            f"{jax.process_count()} processes write 'mesh' or 'pmap'"
        )
    parallel: Parallel
    match settings.mode:
        case "jit":
            parallel = Jit()
        case "vmap":
            parallel = Vmap()
        case "pmap":
            parallel = Pmap(devices)
        case "mesh":
            parallel = _mesh(experiment, devices)
    divisor = parallel.batch_divisor * experiment.micro_batches
    if experiment.data.batch_size % divisor:
        raise UserError(
            f"data.batch_size = {experiment.data.batch_size}: not divisible by "
            f"{parallel.batch_divisor} devices x {experiment.micro_batches} micro-batches"
        )
    return parallel


def _mesh(experiment: Experiment, devices: list[jax.Device]) -> MeshParallel:
    settings = experiment.parallelism
    others = settings.fsdp * settings.tensor
    data = max(1, len(devices) // others) if settings.data == -1 else settings.data
    if data < 1 or data * others != len(devices):
        raise UserError(
            f"parallelism: data {settings.data} x fsdp {settings.fsdp} x tensor "
            f"{settings.tensor} is not the number of devices, {len(devices)}"
        )
    shape = (data, settings.fsdp, settings.tensor)
    mesh = Mesh(np.asarray(devices).reshape(shape), ("data", "fsdp", "tensor"))
    return MeshParallel(mesh, settings.rules)


def _all_on_one_device(state: Any) -> Any:
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda _: sharding, state)


def _one_copy(replicated: Any) -> Any:
    """A replicated tree as arrays on the first local device."""

    def copy(x: jax.Array) -> jax.Array:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(copy(jax.random.key_data(x)))
        return x.addressable_shards[0].data

    return jax.tree.map(copy, replicated)


def _relay(state: Any, sharding: NamedSharding, shape: Any, shard: Any) -> Any:
    """The same data on the same devices under another sharding, device by device."""

    def relay(x: jax.Array) -> jax.Array:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(relay(jax.random.key_data(x)))
        shards = [shard(piece.data) for piece in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(shape(x), sharding, shards)

    return jax.tree.map(relay, state)
