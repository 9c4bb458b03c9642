"""What a compiled step costs: operations, memory, and what the device offers."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from research.engine.feeds import Feeds
from research.engine.prepare import Prepared

PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA L4": 121e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}
"""Dense bfloat16 operations per second by the vendors' data sheets, by device kind."""


@dataclass(frozen=True)
class Cost:
    """What XLA reports of the compiled step, for one device."""

    flops: float | None
    peak_bytes: int | None


def training_call(run: Prepared, state: Any) -> tuple[Any, tuple[Any, ...]]:
    """The jitted training call, and the arguments after the state to call it with."""
    train: Any = run.parallel.compile_train(
        lambda *arguments: run.program.train(run.dataset, *arguments), state
    )
    arrays = run.parallel.put_arrays(run.dataset.arrays if run.on_device else {})
    length = min(run.experiment.steps_per_call, run.steps.total)
    # The widest batch is what must fit.
    first_epoch = range(min(run.orders[0].steps_per_epoch, run.steps.total))
    widest = max(first_epoch, key=lambda step: run.orders[0].width(step) or 0)
    with closing(Feeds(run, widest, lambda step: length)) as feeds:
        _, feed = feeds.take()
    return train, (arrays, feed, np.int32(length))


def compile_step(run: Prepared, state: Any) -> tuple[Any, tuple[Any, ...]]:
    """The compiled training call, and the arguments after the state to call it with."""
    train, arguments = training_call(run, state)
    return train.lower(state, *arguments).compile(), arguments


def cost_of(compiled: Any) -> Cost:
    """FLOPs of one step and peak memory; None where the backend does not say."""
    analysis = compiled.cost_analysis()
    if isinstance(analysis, list):
        analysis = analysis[0] if analysis else None
    flops = analysis.get("flops") if analysis else None
    memory = compiled.memory_analysis()
    peak = None
    if memory is not None:
        peak = getattr(memory, "peak_memory_in_bytes", 0) or (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        )
    return Cost(flops, peak)


def device_memory() -> int:
    """Bytes of memory of one device; a CPU's is the machine's, shared by its devices."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    import psutil

    return int(psutil.virtual_memory().total)


def peak_flops() -> float | None:
    """Operations per second of one device where they are known."""
    kind = jax.local_devices()[0].device_kind
    matches = [name for name in PEAK_FLOPS if kind.startswith(name)]
    return PEAK_FLOPS[max(matches, key=len)] if matches else None
