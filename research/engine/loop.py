"""The training loop: data in, state out, actions in between."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.data.augment.transform import apply_transforms
from research.data.order import check_position
from research.engine.actions import (
    Action,
    Evaluate,
    Evolve,
    Measure,
    Moment,
    Save,
    Show,
    StopEarly,
    Trace,
    Watch,
    Watcher,
)
from research.engine.checkpoint import (
    Checkpoints,
    clean_up,
    list_steps,
    restore,
    set_aside_damaged,
)
from research.engine.clock import Clock
from research.engine.config import build, changes_since, to_plain
from research.engine.evaluation import first_batch
from research.engine.experiment import Experiment
from research.engine.failure import write_failure
from research.engine.feeds import Feeds
from research.engine.files import write_json
from research.engine.fingerprint import check_fingerprints, fingerprints
from research.engine.objective import HasShow
from research.engine.prepare import Prepared, prepare
from research.engine.program import evaluation_key
from research.engine.record import METRICS, Record, read_metrics
from research.engine.state import TrainState
from research.engine.stopping import StopSignal
from research.engine.window import Window
from research.errors import NonFiniteError, UserError


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: `metrics` are the newest of every evaluation and probe."""

    step: int
    total_steps: int
    stopped: bool
    metrics: Mapping[str, Any]


def train(
    experiment: Experiment,
    workdir: Path,
    data_dir: Path,
    record: Record,
    progress: Callable[[int, int], Any],
    watcher: Watcher | None = None,
) -> Outcome:
    """Trains to the end, or until told to stop, from the newest good checkpoint in `workdir`.

    `progress(step, total_steps)` makes the progress bar, a `Progress` or what does as it does.
    With a `watcher` nothing is drawn: the run is one of many.

    Raises:
      UserError: for what `prepare` refuses, and for checkpoints of which none is good.
      NonFiniteError: after writing `failure/` in the workdir.
    """
    folder = workdir / "checkpoints"
    if list_steps(folder):
        check_fingerprints(experiment, workdir)
    run = prepare(experiment, data_dir)
    settings = experiment.checkpoints
    try:
        with closing(
            Checkpoints(folder, settings.keep_latest, settings.keep_best, settings.best_mode)
        ) as checkpoints:
            return _train(run, workdir, data_dir, record, progress, checkpoints, watcher)
    except NonFiniteError as error:
        write_failure(run, error, workdir)
        raise
    except jax.errors.ConcretizationTypeError as error:
        differing = [path for path in experiment.parallelism.trials if path != "seed"]
        if not differing:
            raise
        raise UserError(
            f"parallelism.trials: the value of {' or '.join(differing)} decides in Python what is "
            "computed, so that trials of one program can't differ in it; run them one by one"
        ) from error


def _train(
    run: Prepared,
    workdir: Path,
    data_dir: Path,
    record: Record,
    progress: Callable[[int, int], Any],
    checkpoints: Checkpoints,
    watcher: Watcher | None,
) -> Outcome:
    experiment, parallel, total = run.experiment, run.parallel, run.steps.total
    window = Window(run.steps(experiment.log_every), parallel.to_host, record.metrics)
    clock = Clock(run.steps(experiment.log_every), experiment.data.batch_size, record.timing)
    newest: dict[str, Any] = {}

    def extra(moment: Moment) -> dict[str, Any]:
        record.sync()
        return {
            "position": [{"step": moment.step, "order": order.settings()} for order in run.orders],
            "window": window.memory(),
            "actions": {name: action.memory() for name, action in actions.items()},
            "newest": {name: np.asarray(value).tolist() for name, value in newest.items()},
        }

    actions = make_actions(run, workdir, data_dir, record, checkpoints, extra, watcher)
    # Asked before `_begin`, where processes wait.
    changed = changes_since(workdir, experiment, reference=False)
    state, step, memory = _begin(run, workdir)
    # Only now: a run whose checkpoints do not fit this config keeps its own.
    _write_run(run, workdir, data_dir, record)
    record.rewind(step)
    newest |= memory.get("newest", {})
    window.remember(memory.get("window", {}))
    for name, remembered in memory.get("actions", {}).items():
        if name in actions:
            actions[name].remember(remembered)
    stopping = actions.get("early_stopping")
    if memory:
        if step >= total or (isinstance(stopping, StopEarly) and stopping.reached):
            finished = f"Finished at step {step} already; nothing is left to train."
            if changed:
                _say(f"{finished} Measuring again, for the config has changed.")
                return Outcome(step, total, False, _measure_again(actions, step, state))
            _say(finished)
            measured = _measured_at(step, experiment, workdir)
            return Outcome(step, total, False, measured or newest)
        _say(f"Going on from the checkpoint of step {step}.")
    record.reopen()

    compiled = parallel.compile_train(_bind(run), state)
    arrays = parallel.put_arrays(run.dataset.arrays if run.on_device else {})
    moment = Moment(step, step == total, state)

    def boundary(step: int) -> int:
        return min(total, *(action.next_step(step) for action in actions.values()))

    def count_at(step: int) -> int:
        return min(experiment.steps_per_call, boundary(step) - step)

    with (
        ExitStack() as stack,
        closing(Feeds(run, step, count_at)) as feeds,
        StopSignal() as stop,
        progress(step, total) as bar,
    ):
        for action in actions.values():
            stack.callback(action.close)
        if moment.last:  # a training of no steps: the initial state is measured and saved
            _act(actions, moment, newest, bar, window)
        while not moment.ending and not stop.agreed():
            with clock.waiting():
                count, feed = feeds.take()
            feeds.look_ahead()
            state, history = compiled(state, arrays, feed, np.int32(count))
            window.add(step, count, history)
            step += count
            moment = Moment(step, step == total, state)
            due = step == boundary(step - count)
            if due:
                window.drain()
            clock.stepped(step, count)
            bar.update(step, window.loss, data_wait=clock.data_wait)
            if due:
                with clock.pause():
                    _act(actions, moment, newest, bar, window)
                state = moment.state  # a population's has evolved
        if not moment.ending:
            window.drain()
            actions["checkpoints"](Moment(step, False, state))
            return Outcome(step, total, True, newest)
    return Outcome(step, total, False, newest)


def make_actions(
    run: Prepared,
    workdir: Path,
    data_dir: Path,
    record: Record,
    checkpoints: Checkpoints,
    extra: Callable[[Moment], Mapping[str, Any]],
    watcher: Watcher | None,
) -> dict[str, Action]:
    """The experiment's actions in their order; a checkpoint comes last and holds the others'
    memories."""
    experiment, steps, parallel = run.experiment, run.steps, run.parallel
    objective = run.program.objective
    actions = measuring_actions(run, data_dir, record, watcher)
    if isinstance(objective, HasShow) and watcher is None:
        every = steps(experiment.show_every) if experiment.show_every else max(1, steps.total)
        batch = lambda: show_batch(run)  # noqa: E731
        actions["show"] = Show(every, objective, batch, parallel, experiment.seed, record)
    if experiment.profile:
        start = max(1, steps(experiment.profile.start))
        end = start + steps(experiment.profile.length)
        actions["profile"] = Trace(start, end, workdir / "profile")
    population = experiment.parallelism.population
    if population is not None:
        every = actions[measured_by(run, population.metric)].every
        actions["population"] = Evolve(every, population, experiment.seed, record)
    best_metric = experiment.checkpoints.best_metric
    actions["checkpoints"] = Save(
        steps(experiment.checkpoints.every), checkpoints, parallel, extra, best_metric, workdir
    )
    return actions


def measuring_actions(
    run: Prepared, data_dir: Path, record: Record, watcher: Watcher | None = None
) -> dict[str, Action]:
    """Evaluations, probes, early stopping and who watches one of their metrics."""
    experiment, steps = run.experiment, run.steps
    actions: dict[str, Action] = {
        f"evaluations.{name}": Evaluate(
            name, steps(experiment.evaluations[name].every), evaluator, record
        )
        for name, evaluator in run.evaluators.items()
    }
    for name, settings in experiment.probes.items():
        actions[f"probes.{name}"] = Measure(
            name,
            steps(settings.every),
            build(settings.probe, f"probes.{name}.probe"),
            run.program.objective,
            run.parallel,
            experiment.seed,
            data_dir,
            record,
        )
    # Whether to stop is known before anything else is done, so that the end counts everywhere.
    watched: dict[str, Action] = {}
    deciding: dict[str, Action] = {}
    if experiment.early_stopping is not None:
        name = measured_by(run, experiment.early_stopping.metric)
        watched[name] = actions[name]
        deciding["early_stopping"] = StopEarly(actions[name].every, experiment.early_stopping)
    if watcher is not None:
        name = measured_by(run, watcher.metric)
        watched[name] = actions[name]
        deciding["watcher"] = Watch(actions[name].every, watcher)
    return watched | deciding | actions


def measured_by(run: Prepared, metric: str) -> str:
    """The name of the action that measures "NAME/METRIC"."""
    name = metric.partition("/")[0]
    return f"evaluations.{name}" if name in run.evaluators else f"probes.{name}"


def show_batch(run: Prepared) -> Any:
    """The first examples of the first evaluation, or of the training data without one."""
    rng = evaluation_key(run.experiment.seed)
    for evaluator in run.evaluators.values():
        batch = first_batch(evaluator.dataset, run.experiment.show_examples)
        return apply_transforms(evaluator.transforms, rng, jax.device_put(batch))
    batch = first_batch(run.dataset, run.experiment.show_examples)
    return apply_transforms(run.program.train_transforms, rng, jax.device_put(batch))


def _write_run(run: Prepared, workdir: Path, data_dir: Path, record: Record) -> None:
    """What identifies the run, and what loading it without its data takes."""
    if jax.process_index() != 0:
        return
    record.config(to_plain(run.experiment))
    record.environment(data_dir)
    content = {
        "example": run.example_shapes,
        "fingerprints": fingerprints(run.experiment),
        "size": run.dataset.size,
        "steps_per_epoch": run.steps.per_epoch,
        "total_steps": run.steps.total,
    }
    write_json(workdir / "data.json", content)


def _measure_again(actions: Mapping[str, Action], step: int, state: TrainState) -> dict[str, Any]:
    """What every evaluation and probe says of a finished run."""
    moment = Moment(step, True, state)
    for action in actions.values():
        if isinstance(action, Evaluate | Measure):
            action(moment)
    return moment.measured


def _measured_at(step: int, experiment: Experiment, workdir: Path) -> dict[str, Any]:
    """The last numbers recorded of a step: a checkpoint does not know what was measured again."""
    names = {*experiment.evaluations, *experiment.probes}
    rows = read_metrics(workdir) if (workdir / METRICS).is_file() else []
    return {
        metric: value
        for row in rows
        if row["step"] == step
        for metric, value in row.items()
        if metric.partition("/")[0] in names
    }


def _begin(run: Prepared, workdir: Path) -> tuple[TrainState, int, Mapping[str, Any]]:
    """The state to go on from, its step, and what the run remembers."""
    folder = workdir / "checkpoints"
    if jax.process_index() == 0:
        clean_up(folder)
    if not list_steps(folder):
        return run.init(), 0, {}
    run.check_examples(workdir)
    damaged = []
    restored = restore(
        folder, run.restore_target(), on_damage=lambda *defect: damaged.append(defect)
    )
    for step, reason in damaged:
        _say(f"The checkpoint of step {step} is damaged and set aside: {reason}")
        set_aside_damaged(folder, step)
    for order, position in zip(run.orders, restored.extra["position"], strict=True):
        check_position(position, order)
    return run.parallel.from_logical(restored.state), restored.step, restored.extra


def _bind(run: Prepared) -> Callable[..., Any]:
    return lambda *arguments: run.program.train(run.dataset, *arguments)


def _act(
    actions: Mapping[str, Action],
    moment: Moment,
    newest: dict[str, Any],
    bar: Any,
    window: Window,
) -> None:
    for action in actions.values():
        if moment.ending:
            window.flush(moment.step)
        if action.is_due(moment):
            action(moment)
            newest |= moment.measured
    if moment.measured:
        shown = "  ".join(f"{k} {np.mean(v):.4g}" for k, v in moment.measured.items())
        bar.message(f"step {moment.step}: {shown}")


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)
