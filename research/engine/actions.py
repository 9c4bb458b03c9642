"""What happens every so often: evaluate, measure, show, stop early, save, profile.

At a step where anything is due the loop has read all metrics, and runs the actions in order;
each sees what those before it measured. What an action must remember it gives as JSON, which
is part of the checkpoint.
"""

import abc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from research.engine.checkpoint import Checkpoints
from research.engine.experiment import EarlyStopping, Population
from research.engine.files import check_space
from research.engine.objective import HasShow, Objective, Probe
from research.engine.parallel import Parallel
from research.engine.population import exploit_and_explore
from research.engine.program import evaluation_key
from research.engine.record import Record
from research.engine.state import TrainState
from research.errors import NonFiniteError

ORBAX_BYTES = 2**20  # for what a checkpoint holds beside its arrays


@dataclass
class Moment:
    """A step at which something is due, and what the actions make of it."""

    step: int
    last: bool
    state: TrainState
    measured: dict[str, Any] = field(default_factory=dict)
    stop: bool = False

    @property
    def ending(self) -> bool:
        """Whether training ends here."""
        return self.last or self.stop


class Action(abc.ABC):
    """Something that happens every so often."""

    def __init__(self, every: int):
        self.every = every

    def next_step(self, step: int) -> int:
        """The first step after `step` at which this is due."""
        return (step // self.every + 1) * self.every

    def is_due(self, moment: Moment) -> bool:
        """Whether it is due now; the end always counts."""
        return moment.ending or moment.step % self.every == 0

    @abc.abstractmethod
    def __call__(self, moment: Moment) -> None:
        """Does it."""

    def memory(self) -> dict[str, Any]:
        """What a resumed run must know, as JSON."""
        return {}

    def remember(self, memory: Mapping[str, Any]) -> None:  # noqa: B027
        """Takes back what `memory` gave."""

    def close(self) -> None:  # noqa: B027
        """Ends what is under way, when training ends in whatever way."""


@final
class Evaluate(Action):
    """Metrics of one data set, written as "<name>/<metric>"."""

    def __init__(
        self,
        name: str,
        every: int,
        evaluate: Callable[[TrainState], Mapping[str, Any]],
        record: Record,
    ):
        super().__init__(every)
        self._name, self._evaluate, self._record = name, evaluate, record

    def __call__(self, moment: Moment) -> None:
        _take(moment, self._name, self._evaluate(moment.state), self._record)


@final
class Measure(Action):
    """A probe's numbers, written as "<name>/<number>"."""

    def __init__(
        self,
        name: str,
        every: int,
        probe: Probe,
        objective: Objective,
        parallel: Parallel,
        seed: int,
        data_dir: Path,
        record: Record,
    ):
        super().__init__(every)
        self._name, self._probe, self._objective = name, probe, objective
        self._parallel, self._seed, self._data_dir = parallel, seed, data_dir
        self._record = record

    def __call__(self, moment: Moment) -> None:
        states = self._parallel.trials(self._parallel.to_logical(moment.state))
        trials = [self._measure(state) for state in states]
        stacked = {key: np.asarray([trial[key] for trial in trials]) for key in trials[0]}
        values = {key: x if len(trials) > 1 else float(x[0]) for key, x in stacked.items()}
        _take(moment, self._name, values, self._record)

    def _measure(self, state: TrainState) -> Mapping[str, float]:
        rng = evaluation_key(state.hyperparameters.get("seed", self._seed))
        return self._probe(self._objective, _variables(state), rng, str(self._data_dir))


@final
class Show(Action):
    """What the objective finds worth looking at, from evaluation examples; of the first trial."""

    def __init__(
        self,
        every: int,
        objective: HasShow,
        batch: Callable[[], Any],
        parallel: Parallel,
        seed: int,
        record: Record,
    ):
        super().__init__(every)
        self._objective, self._batch, self._parallel = objective, batch, parallel
        self._seed, self._record = seed, record

    def __call__(self, moment: Moment) -> None:
        state = self._parallel.trials(self._parallel.to_logical(moment.state))[0]
        rng = evaluation_key(self._seed)
        displays = self._objective.show(
            state.evaluated_params, state.evaluated_collections, self._batch(), rng
        )
        self._record.displays(moment.step, displays)


@final
class StopEarly(Action):
    """Stops when a metric has not improved in `patience` evaluations."""

    def __init__(self, every: int, settings: EarlyStopping):
        super().__init__(every)
        self._settings = settings
        self._best: float | None = None
        self._bad = 0

    def __call__(self, moment: Moment) -> None:
        value = moment.measured.get(self._settings.metric)
        if value is None:
            return
        value = mean_over_trials(value)
        sign = 1 if self._settings.mode == "min" else -1
        best = math.inf if self._best is None else sign * self._best
        if sign * value < best - self._settings.min_delta:
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        moment.stop = self.reached

    @property
    def reached(self) -> bool:
        """Whether patience has run out."""
        return self._bad >= self._settings.patience

    def memory(self) -> dict[str, Any]:
        return {"best": self._best, "bad": self._bad}

    def remember(self, memory: Mapping[str, Any]) -> None:
        self._best, self._bad = memory["best"], memory["bad"]


@dataclass(frozen=True)
class Watcher:
    """Who watches a run from outside: `watch(step, value)` is told every value of a metric (an
    array with one entry a trial under vmap), and whether it returns True decides that the run
    ends there."""

    metric: str
    watch: Callable[[int, Any], bool]


@final
class Watch(Action):
    """Tells a watcher."""

    def __init__(self, every: int, watcher: Watcher):
        super().__init__(every)
        self._watcher = watcher

    def __call__(self, moment: Moment) -> None:
        if self._watcher.metric in moment.measured:
            stop = self._watcher.watch(moment.step, moment.measured[self._watcher.metric])
            moment.stop = moment.stop or stop


@final
class Evolve(Action):
    """A round of population-based training, whenever the metric was measured but at the end."""

    def __init__(self, every: int, settings: Population, seed: int, record: Record):
        super().__init__(every)
        self._settings, self._seed, self._record = settings, seed, record

        def evolve(step: jax.Array, state: TrainState, scores: jax.Array) -> Any:
            rng = jax.random.fold_in(jax.random.key(seed), step)
            return exploit_and_explore(
                rng, state, scores, settings.quantile, settings.factors, settings.bounds
            )

        self._evolve = jax.jit(evolve, donate_argnums=1)

    def __call__(self, moment: Moment) -> None:
        if moment.ending or self._settings.metric not in moment.measured:
            return
        sign = 1 if self._settings.mode == "max" else -1
        scores = sign * np.asarray(moment.measured[self._settings.metric], np.float32)
        moment.state, parent = self._evolve(np.int32(moment.step), moment.state, scores)
        explored = {path: moment.state.hyperparameters[path] for path in self._settings.bounds}
        values = {f"population/{name}": x for name, x in ({"parent": parent} | explored).items()}
        self._record.metrics(moment.step, values)


@final
class Save(Action):
    """A checkpoint of state, data position and all that the run remembers."""

    def __init__(
        self,
        every: int,
        checkpoints: Checkpoints,
        parallel: Parallel,
        extra: Callable[[Moment], Mapping[str, Any]],
        best_metric: str | None,
        workdir: Path,
    ):
        super().__init__(every)
        self._checkpoints, self._parallel, self._extra = checkpoints, parallel, extra
        self._workdir = workdir
        self._best_metric = best_metric
        self._saved_step = -1
        self._finite = jax.jit(parallel.over_trials(_all_finite))

    def __call__(self, moment: Moment) -> None:
        if moment.step == self._saved_step:
            return
        state = self._parallel.to_logical(moment.state)
        # Of several trials those that diverged are kept as they are, beside the others.
        if not np.any(jax.device_get(self._finite(state.params))):
            raise NonFiniteError(moment.step, {"params": "NaN or infinite after the update"})
        self._check_space(state)
        self._saved_step = moment.step
        metric = moment.measured.get(self._best_metric or "")
        self._checkpoints.save(
            moment.step,
            state,
            dict(self._extra(moment)),
            None if metric is None else mean_over_trials(metric),
        )

    def _check_space(self, state: TrainState) -> None:
        """Refuses to begin what will not fit: orbax follows a full disk with a page of errors."""
        self._checkpoints.wait()
        if jax.process_count() == 1:  # several would have to agree
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            check_space(self._workdir, size + ORBAX_BYTES)

    def memory(self) -> dict[str, Any]:
        return {"saved_step": self._saved_step}

    def remember(self, memory: Mapping[str, Any]) -> None:
        self._saved_step = memory["saved_step"]


@final
class Trace(Action):
    """A profiler trace from one step to another, in the run's folder."""

    def __init__(self, start: int, end: int, folder: Path):
        super().__init__(end)
        self._start, self._end, self._folder = start, end, folder
        self._running = False

    def next_step(self, step: int) -> int:
        later = [boundary for boundary in (self._start, self._end) if boundary > step]
        return min(later, default=2**62)

    def is_due(self, moment: Moment) -> bool:
        return moment.step in (self._start, self._end) or moment.ending

    def __call__(self, moment: Moment) -> None:
        if moment.step == self._start and not moment.ending:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        elif self._running:
            jax.block_until_ready(moment.state)
            self.close()

    def close(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False


def _take(moment: Moment, name: str, values: Mapping[str, Any], record: Record) -> None:
    measured = {f"{name}/{key}": value for key, value in values.items()}
    moment.measured |= measured
    record.metrics(moment.step, measured)


def _all_finite(params: Any) -> jax.Array:
    finite = jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), params)
    return jax.tree.reduce(jnp.logical_and, finite, jnp.array(True))


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.evaluated_params, **state.evaluated_collections}


def mean_over_trials(value: Any) -> float:
    """One number of a metric that may have one a trial."""
    return float(np.mean(value))
