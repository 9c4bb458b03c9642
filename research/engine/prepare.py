"""From an experiment to all that training needs: data opened, everything checked, nothing
compiled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.data.dataset import Dataset
from research.data.order import LengthBuckets, Order
from research.engine.config import build
from research.engine.consistency import check_metric_name, named_metrics
from research.engine.duration import Steps
from research.engine.evaluation import Evaluator, first_batch, fits_on_device, open_dataset
from research.engine.experiment import Experiment
from research.engine.files import read_json
from research.engine.initial import initial_arrays, with_arrays
from research.engine.objective import HasCheck, HasCheckData
from research.engine.parallel import Jit, Parallel, Vmap
from research.engine.parallel_mesh import make_mesh
from research.engine.parallel_pmap import Pmap
from research.engine.program import Program, Trial, make_program
from research.engine.state import TrainState
from research.engine.tokenizers import check_tokenizers
from research.engine.traced import told_by_path, told_by_setting
from research.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """An experiment ready to run. `orders` has one order of the data a trial."""

    experiment: Experiment
    parallel: Parallel
    dataset: Dataset
    on_device: bool
    orders: tuple[Order, ...]
    steps: Steps
    program: Program
    trial: Trial
    evaluators: Mapping[str, Evaluator]

    @property
    def example(self) -> dict[str, np.ndarray]:
        """Two training examples, from which the objective learns the shapes of its input."""
        indices = np.arange(min(2, self.dataset.size))
        gathered = self.dataset.gather(self.dataset.arrays, indices)
        return {name: np.asarray(x) for name, x in gathered.items()}

    @property
    def example_shapes(self) -> dict[str, list[Any]]:
        """Shape and type of every array of those examples, as JSON."""
        return {name: [list(x.shape), x.dtype.name] for name, x in self.example.items()}

    def check_examples(self, workdir: Path) -> None:
        """Raises UserError where the run in this folder was trained on examples of other shapes."""
        trained_on, here = read_json(workdir / "data.json")["example"], self.example_shapes
        if trained_on != here:
            raise UserError(
                f"data.source: gives examples of {_told(here)}; the run in {workdir} was trained "
                f"on {_told(trained_on)}. Give it the data it had"
            )

    @cached_property
    def _traced_init(self) -> Callable[..., TrainState]:
        """The program's `init`; one object, since JAX traces a function once."""
        return self.program.init

    def initial_shapes(self) -> TrainState:
        """The shapes of one trial's initial state; UserError where a transform or a model of ours
        refuses its settings or the data."""
        objective, transforms = self.experiment.objective, self.program.train_transforms
        with told_by_setting(objective, "data", transforms, self.example):
            return jax.eval_shape(self._traced_init, {}, self.example)

    def init(self) -> TrainState:
        """The state before the first step, on the devices."""
        arrays = self.initial_arrays  # what is wrong with them is told before anything compiles
        state = self.parallel.init(self._traced_init, self.trial, self.example)
        if not arrays:
            return state
        return self.parallel.from_logical(with_arrays(self.parallel.to_logical(state), arrays))

    @cached_property
    def initial_arrays(self) -> Mapping[str, np.ndarray]:
        """Variables by path that come from `init_from`; UserError where they do not fit."""
        return initial_arrays(self.experiment, self.program.objective, self.initial_shapes())

    def restore_target(self) -> TrainState:
        """The shapes and places of that state, for a checkpoint to restore into."""
        return self.parallel.restore_target(self._traced_init, self.trial, self.example)


def prepare(experiment: Experiment, data_dir: Path) -> Prepared:
    """Opens the data and checks all that needs it: tokens, lengths, rules, names of metrics.

    Raises:
      UserError: naming the setting or the file.
    """
    data, parallel = experiment.data, make_parallel(experiment)
    trials = experiment.parallelism.trials
    check_tokenizers(experiment)
    dataset = open_dataset(data.source, data_dir, "data")
    if data.on_device and not dataset.on_device:
        raise UserError("data.on_device = True: this source reads files, on the host")
    if data.batch_size > dataset.size:
        raise UserError(
            f"data.batch_size = {data.batch_size}: larger than the data set of "
            f"{dataset.size} examples (data.source)"
        )
    count = max((len(values) for values in trials.values()), default=1)
    buckets = _length_buckets(experiment, dataset)
    orders = tuple(
        Order(dataset.size, data.batch_size, seed, data.shuffle, buckets)
        for seed in trials.get("seed", (experiment.seed,) * count)
    )
    per_epoch = orders[0].steps_per_epoch
    total = experiment.duration.steps(data.batch_size, per_epoch)
    steps = Steps(total, per_epoch, data.batch_size)
    start = experiment.swa_start
    if start is not None and steps(start) >= total > 0:
        raise UserError(
            f'swa_start = "{start}": {steps(start)} steps, not before the end of the training of '
            f"{total}"
        )
    program = make_program(experiment, steps, parallel.axis_name)
    trial = trial_arrays(experiment)
    evaluators = {
        name: Evaluator(name, settings, program, parallel, data_dir)
        for name, settings in experiment.evaluations.items()
    }
    on_device = fits_on_device(dataset) if data.on_device is None else data.on_device
    on_device = on_device and buckets is None
    prepared = Prepared(
        experiment, parallel, dataset, on_device, orders, steps, program, trial, evaluators
    )
    _check_data(prepared)
    _check_names(prepared)
    _check_probes(prepared, data_dir)
    return prepared


def _length_buckets(experiment: Experiment, dataset: Dataset) -> LengthBuckets | None:
    widths = experiment.data.length_buckets
    if not widths:
        return None
    where = f"data.length_buckets = {widths}:"
    if dataset.lengths is None:
        raise UserError(f"{where} the examples of this source have no lengths; leave it ()")
    if experiment.data.on_device:
        raise UserError(f"{where} batches of several widths are cut on the host; on_device must go")
    if experiment.steps_per_call != 1:
        raise UserError(f"{where} batches differ in width; steps_per_call must be 1")
    if "seed" in experiment.parallelism.trials:
        raise UserError(f"{where} the batches of trials with different seeds differ in width")
    try:
        return LengthBuckets.of(widths, dataset.lengths)
    except UserError as error:
        raise UserError(f"{where} {error}") from error


def _told(shapes: Mapping[str, list[Any]]) -> str:
    return ", ".join(
        f"{name} {tuple(shape[1:])} {dtype}" for name, (shape, dtype) in shapes.items()
    )


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
            parallel = make_mesh(settings, devices)
    divisor = parallel.batch_divisor * experiment.micro_batches
    if experiment.data.batch_size % divisor:
        raise UserError(
            f"data.batch_size = {experiment.data.batch_size}: not divisible by "
            f"{parallel.batch_divisor} devices x {experiment.micro_batches} micro-batches"
        )
    return parallel


def trial_arrays(experiment: Experiment) -> dict[str, np.ndarray]:
    """The settings in which trials differ, one entry a trial."""
    return {
        path: np.asarray(values, np.uint32 if path == "seed" else np.float32)
        for path, values in experiment.parallelism.trials.items()
    }


def _check_data(prepared: Prepared) -> None:
    """Asks the objective whether it can learn from the data and be evaluated on it."""
    datasets = {"data": prepared.dataset} | {
        f"evaluations.{name}": evaluator.dataset for name, evaluator in prepared.evaluators.items()
    }
    objective = prepared.program.objective
    for path, dataset in datasets.items():
        if dataset.size == 0:
            raise UserError(f"{path}.source: the data set has no examples")
        if isinstance(objective, HasCheckData):
            try:
                objective.check_data(dataset.arrays)
            except UserError as error:
                raise UserError(f"{path}.source: {error}") from error


def _check_names(prepared: Prepared) -> None:
    """Traces initialisation and evaluation: rules must match parameters, metrics must exist."""
    experiment, single = prepared.experiment, prepared.initial_shapes()
    prepared.parallel.logical_shardings(single)
    for name, evaluator in prepared.evaluators.items():
        example = first_batch(evaluator.dataset, 2)
        with told_by_setting(
            experiment.objective, f"evaluations.{name}", evaluator.transforms, example
        ):
            known = evaluator.metric_names(single)
        for path, metric in named_metrics(experiment).items():
            if metric.partition("/")[0] == name:
                check_metric_name(path, metric, known)


def _check_probes(prepared: Prepared, data_dir: Path) -> None:
    """Asks each probe whether it will be able to measure: hours later is too late to hear it."""
    objective, state = prepared.program.objective, prepared.initial_shapes()
    variables = {"params": state.params, **state.collections}
    for name, settings in prepared.experiment.probes.items():
        path = f"probes.{name}.probe"
        probe = build(settings.probe, path)
        if isinstance(probe, HasCheck):
            with told_by_path(path):
                probe.check(objective, variables, str(data_dir))
