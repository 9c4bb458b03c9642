"""Exact evaluation: every example counts once, whatever the batch size and the devices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import jax
import numpy as np

from research.data.dataset import Dataset, Source
from research.data.pipeline import evaluation_batches
from research.engine import metrics
from research.engine.config import build
from research.engine.experiment import Evaluation
from research.engine.parallel import Parallel
from research.engine.program import Program, Trial
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


@final
class Evaluator:
    """Evaluates one data set, compiled once."""

    def __init__(
        self,
        name: str,
        settings: Evaluation,
        program: Program,
        parallel: Parallel,
        trial: Trial,
        data_dir: Path,
    ):
        path = f"evaluations.{name}"
        self.dataset = open_dataset(settings.source, data_dir, path)
        self.transforms = build(settings.transforms, f"{path}.transforms")
        self._program, self._parallel, self._trial = program, parallel, trial
        # No result depends on the batch size, so it may be rounded to what the devices need.
        size = min(settings.batch_size, self.dataset.size)
        self._batch_size = -(-size // parallel.batch_divisor) * parallel.batch_divisor
        self._on_device = fits_on_device(self.dataset)
        self._arrays: Any = None
        self._compiled = parallel.compile_evaluate(self._evaluate)

    def __call__(self, state: TrainState) -> dict[str, Any]:
        """The exact mean of every metric over the data set; arrays have one entry a trial."""
        if self._arrays is None:
            held = self.dataset.arrays if self._on_device else {}
            self._arrays = self._parallel.put_arrays(held)
        variables = (state.evaluated_params, state.collections)
        rows = self._parallel.local_rows(self._batch_size)
        parts = [
            self._compiled(self._trial, variables, self._arrays, self._feed(indices, mask, rows))
            for indices, mask in evaluation_batches(self.dataset.size, self._batch_size)
        ]
        total: dict[str, metrics.Mean] = {}
        for part in parts:
            total = metrics.merge(total, self._parallel.to_host(part).means())
        return metrics.compute(total)

    def metric_names(self, state: Any) -> list[str]:
        """What evaluation reports, found without compiling anything; `state` may be shapes."""
        indices = np.zeros(self._parallel.batch_divisor, np.int32)
        batch = self.dataset.gather(self.dataset.arrays, indices)
        feed = {**batch, "mask": np.ones(len(indices), np.float32), "index": indices}
        evaluate = self._program.with_axis(None).evaluate
        variables = (state.evaluated_params, state.collections)
        packed = jax.eval_shape(
            lambda variables: evaluate(self.dataset, self.transforms, {}, variables, {}, feed),
            variables,
        )
        return [name for name, _ in packed.names]

    def _evaluate(self, trial: Trial, variables: Any, arrays: Any, feed: Any) -> Any:
        return self._program.evaluate(self.dataset, self.transforms, trial, variables, arrays, feed)

    def _feed(self, indices: np.ndarray, mask: np.ndarray, rows: slice) -> Mapping[str, Any]:
        indices, mask = indices[rows].astype(np.int32), mask[rows].astype(np.float32)
        if self._on_device:
            items: dict[str, Any] = {"indices": indices}
        else:
            items = dict(self.dataset.gather(self.dataset.arrays, indices))
        return self._parallel.put_feed({**items, "mask": mask, "index": indices}, 0)
