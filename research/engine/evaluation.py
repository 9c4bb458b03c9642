"""Exact evaluation: every example counts once, whatever the batch size and the devices."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import jax
import numpy as np

from research.data.dataset import Dataset, Source
from research.data.pipeline import evaluation_batches
from research.engine import metrics
from research.engine.config import build
from research.engine.experiment import Evaluation
from research.engine.objective import HasSummarize
from research.engine.parallel import Parallel
from research.engine.program import Program
from research.engine.state import TrainState


def open_dataset(source: Any, data_dir: Path, path: str) -> Dataset:
    """Opens the data set of a source component written at `path` of the config."""
    opened: Source = build(source, f"{path}.source")
    return opened.open(data_dir)


def fits_on_device(dataset: Dataset) -> bool:
    """Whether a data set may stay on the device: an eighth of its memory, 1 GiB on a CPU."""
    limit = 1 << 30
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        limit = stats["bytes_limit"] // 8
    return dataset.on_device and dataset.nbytes <= limit


def first_batch(dataset: Dataset, size: int) -> dict[str, np.ndarray]:
    """The first examples of a data set, with the mask and index of an evaluation batch."""
    indices = np.arange(min(size, dataset.size), dtype=np.int32)
    batch = {name: np.asarray(x) for name, x in dataset.gather(dataset.arrays, indices).items()}
    return {**batch, "mask": np.ones(len(indices), np.float32), "index": indices}


def _plain(value: Any) -> Any:
    """A float, or an array with one entry a trial."""
    return value if np.ndim(value) else float(value)


@final
class Evaluator:
    """Evaluates one data set, compiled once."""

    def __init__(
        self,
        name: str,
        settings: Evaluation,
        program: Program,
        parallel: Parallel,
        data_dir: Path,
    ):
        path = f"evaluations.{name}"
        self.dataset = open_dataset(settings.source, data_dir, path)
        self.transforms = build(settings.transforms, f"{path}.transforms")
        self._parallel, self._objective = parallel, program.objective
        # No result depends on the batch size, so it may be rounded to what the devices need.
        size = min(settings.batch_size, self.dataset.size)
        self._batch_size = -(-size // parallel.batch_divisor) * parallel.batch_divisor
        self._on_device = fits_on_device(self.dataset)
        self._held = self.dataset.arrays if self._on_device else {}
        self._arrays: Any = None
        # The very function that is compiled, where it can be: JAX traces a function once.
        self._evaluate_alone = evaluate = self._bind(program.with_axis(None))
        if program.axis_name is not None:
            evaluate = self._bind(program)
        self._compiled = parallel.compile_evaluate(evaluate)

    def __call__(self, state: TrainState) -> dict[str, Any]:
        """The exact mean of every metric over the data set; arrays have one entry a trial."""
        if self._arrays is None:
            self._arrays = self._parallel.put_arrays(self._held)
        variables = (state.evaluated_params, state.evaluated_collections, state.hyperparameters)
        rows = self._parallel.local_rows(self._batch_size)
        feeds = (
            self._parallel.put_feed(self._feed(indices[rows], mask[rows]), 0)
            for indices, mask in evaluation_batches(self.dataset.size, self._batch_size)
        )
        parts = [self._compiled(variables, self._arrays, feed) for feed in feeds]
        total: dict[str, metrics.Mean] = {}
        for part in parts:
            total = metrics.merge(total, self._parallel.to_host(part).means())
        return self._with_summary(metrics.compute(total))

    def metric_names(self, state: Any) -> list[str]:
        """What evaluation reports, found without compiling anything; `state` may be shapes."""

        named = {name: math.nan for name, _ in self._trace(self._evaluate_alone, state).names}
        return list(self._with_summary(named))

    def trace(self, state: Any) -> None:
        """Traces what will be compiled, for the shapes of a logical state on one device."""
        self._trace(self._compiled, state)

    def _with_summary(self, computed: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(self._objective, HasSummarize):
            return computed
        arrays = {name: np.asarray(value) for name, value in computed.items()}
        more = self._objective.summarize(arrays)
        return {**computed, **{name: _plain(value) for name, value in more.items()}}

    def _trace(self, evaluate: Callable[..., Any], state: Any) -> Any:
        def shape(x: np.ndarray) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((self._batch_size, *x.shape[1:]), x.dtype)

        feed = jax.tree.map(shape, self._feed(np.zeros(1, int), np.ones(1)))
        variables = (state.evaluated_params, state.evaluated_collections, state.hyperparameters)
        return jax.eval_shape(evaluate, variables, dict(self._held), feed)

    def _bind(self, program: Program) -> Callable[..., Any]:
        def evaluate(variables: Any, arrays: Any, feed: Any) -> Any:
            return program.evaluate(self.dataset, self.transforms, variables, arrays, feed)

        return evaluate

    def _feed(self, indices: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        """What these rows of the data are for the compiled evaluation."""
        index, mask = indices.astype(np.int32), mask.astype(np.float32)
        if self._on_device:
            items = {"indices": index}
        else:
            items = dict(self.dataset.gather(self.dataset.arrays, index))
        return {**items, "mask": mask, "index": index}
