"""Training on a mesh of devices: data, fsdp and tensor parallel by shardings."""

from collections.abc import Mapping
from typing import Any, final

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.engine.experiment import Parallelism
from research.engine.parallel import Function, Parallel, one_copy
from research.engine.rules import apply_rules, path_of
from research.errors import UserError

_SMALLEST_SPLIT = 4096
"""Parameters with fewer elements are copied to every device: splitting them costs more."""


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
        return jax.jit(train, donate_argnums=0, out_shardings=(places, everywhere))

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
        return [one_copy(jax.jit(lambda x: x, out_shardings=everywhere)(logical))]

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


def make_mesh(settings: Parallelism, devices: list[jax.Device]) -> MeshParallel:
    """All devices as a mesh of the settings' shape; UserError where they don't make one."""
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
