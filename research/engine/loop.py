"""The training loop: data in, state out, actions in between."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.data.augment.transform import apply_transforms
from research.data.pipeline import check_position
from research.engine.actions import (
    Action,
    Evaluate,
    Measure,
    Moment,
    Save,
    Show,
    StopEarly,
    Trace,
)
from research.engine.checkpoint import (
    Checkpoints,
    clean_up,
    list_steps,
    restore,
    set_aside_damaged,
)
from research.engine.clock import Clock
from research.engine.config import build, to_plain
from research.engine.errors import NonFiniteError
from research.engine.evaluation import first_batch
from research.engine.experiment import Experiment
from research.engine.feeds import Feeds
from research.engine.objective import HasShow
from research.engine.prepare import Prepared, prepare
from research.engine.program import evaluation_key
from research.engine.progress import Progress
from research.engine.record import Record, write_json
from research.engine.state import TrainState
from research.engine.stopping import StopSignal
from research.engine.window import Window


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
    progress: Callable[[int, int], Progress],
) -> Outcome:
    """Trains to the end, or until told to stop, from the newest good checkpoint in `workdir`.

    Raises:
      UserError: for what `prepare` refuses, and for checkpoints of which none is good.
      NonFiniteError: after writing `failure/` in the workdir.
    """
    run = prepare(experiment, data_dir)
    folder = workdir / "checkpoints"
    settings = experiment.checkpoints
    if jax.process_index() == 0:
        _write_run(run, workdir, data_dir, record)
    with closing(
        Checkpoints(folder, settings.keep_latest, settings.keep_best, settings.best_mode)
    ) as checkpoints:
        return _train(run, workdir, data_dir, record, progress, checkpoints)


def _train(
    run: Prepared,
    workdir: Path,
    data_dir: Path,
    record: Record,
    progress: Callable[[int, int], Progress],
    checkpoints: Checkpoints,
) -> Outcome:
    experiment, parallel, total = run.experiment, run.parallel, run.steps.total
    window = Window(run.steps(experiment.log_every), parallel.to_host, record.metrics)
    clock = Clock(
        run.steps(experiment.log_every), experiment.data.batch_size, record.timing
    )
    newest: dict[str, Any] = {}

    def extra(moment: Moment) -> dict[str, Any]:
        record.sync()
        return {
            "position": [{"step": moment.step, "order": asdict(order)} for order in run.orders],
            "window": window.memory(),
            "actions": {name: action.memory() for name, action in actions.items()},
            "newest": {name: np.asarray(value).tolist() for name, value in newest.items()},
            "stopped_early": moment.stop,
        }

    actions = make_actions(run, workdir, data_dir, record, checkpoints, extra)
    state, step, memory = _begin(run, workdir / "checkpoints")
    record.rewind(step)
    newest |= memory.get("newest", {})
    window.remember(memory.get("window", {}))
    for name, remembered in memory.get("actions", {}).items():
        if name in actions:
            actions[name].remember(remembered)
    if step >= total or (memory.get("stopped_early") and experiment.early_stopping):
        return Outcome(step, total, False, newest)

    compiled = parallel.compile_train(_bind(run), state)
    arrays = parallel.put_arrays(run.dataset.arrays if run.on_device else {})
    moment = Moment(step, False, state)
    with closing(Feeds(run, step)) as feeds, StopSignal() as stop, progress(step, total) as bar:
        while not moment.ending and not stop.agreed():
            boundary = min(total, *(action.next_step(step) for action in actions.values()))
            count = min(experiment.steps_per_call, boundary - step)
            with clock.waiting():
                feed = feeds.take(count)
            state, history = compiled(run.trial, state, arrays, feed, np.int32(count))
            try:
                window.add(step, count, history)
                step += count
                moment = Moment(step, step == total, state)
                if step == boundary:
                    window.drain()
            except NonFiniteError as error:
                _write_failure(run, error, workdir)
                raise
            clock.stepped(step, count)
            bar.update(step, window.loss, data_wait=clock.data_wait)
            if step == boundary:
                if moment.last:
                    window.flush(step)
                with clock.pause():
                    _act(actions, moment, newest, bar)
        if not moment.ending:
            window.drain()
            moment = Moment(step, False, state)
            if actions["checkpoints"].saved_step != step:
                actions["checkpoints"](moment)
            return Outcome(step, total, True, newest)
    return Outcome(step, total, False, newest)


def make_actions(
    run: Prepared,
    workdir: Path,
    data_dir: Path,
    record: Record,
    checkpoints: Checkpoints,
    extra: Callable[[Moment], Mapping[str, Any]],
) -> dict[str, Action]:
    """The experiment's actions in their order; a checkpoint comes last and holds the others'
    memories."""
    experiment, steps, parallel = run.experiment, run.steps, run.parallel
    objective = run.program.objective
    actions = measuring_actions(run, data_dir, record)
    if isinstance(objective, HasShow):
        every = steps(experiment.show_every) if experiment.show_every else max(1, steps.total)
        batch = lambda: show_batch(run)  # noqa: E731
        actions["show"] = Show(every, objective, batch, parallel, experiment.seed, record)
    if experiment.profile:
        start = max(1, steps(experiment.profile.start))
        end = start + steps(experiment.profile.length)
        actions["profile"] = Trace(start, end, workdir / "profile")
    best_metric = experiment.checkpoints.best_metric
    actions["checkpoints"] = Save(
        steps(experiment.checkpoints.every), checkpoints, parallel, extra, best_metric
    )
    return actions


def measuring_actions(run: Prepared, data_dir: Path, record: Record) -> dict[str, Action]:
    """Evaluations, early stopping and probes."""
    experiment, steps = run.experiment, run.steps
    actions: dict[str, Action] = {}
    stopping = experiment.early_stopping
    watched = stopping.metric.partition("/")[0] if stopping else None
    # Whether to stop is known before anything else is done, so that the end counts everywhere.
    for name in sorted(run.evaluators, key=lambda name: name != watched):
        every = steps(experiment.evaluations[name].every)
        actions[f"evaluations.{name}"] = Evaluate(name, every, run.evaluators[name], record)
        if stopping and name == watched:
            actions["early_stopping"] = StopEarly(every, stopping)
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
    return actions


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
    record.config(to_plain(run.experiment))
    record.environment(data_dir)
    example = {name: [list(x.shape), x.dtype.name] for name, x in run.example.items()}
    content = {
        "example": example,
        "size": run.dataset.size,
        "steps_per_epoch": run.steps.per_epoch,
        "total_steps": run.steps.total,
    }
    write_json(workdir / "data.json", content)


def _begin(run: Prepared, folder: Path) -> tuple[TrainState, int, Mapping[str, Any]]:
    """The state to go on from, its step, and what the run remembers."""
    if jax.process_index() == 0:
        clean_up(folder)
    if not list_steps(folder):
        return run.init(), 0, {}
    damaged = []
    restored = restore(
        folder, run.restore_target(), on_damage=lambda *defect: damaged.append(defect)
    )
    for step, reason in damaged:
        print(f"The checkpoint of step {step} is damaged and set aside: {reason}")
        set_aside_damaged(folder, step)
    print(f"Going on from the checkpoint of step {restored.step}.")
    for order, position in zip(run.orders, restored.extra["position"], strict=True):
        check_position(position, order)
    return run.parallel.from_logical(restored.state), restored.step, restored.extra


def _bind(run: Prepared) -> Callable[..., Any]:
    return lambda *arguments: run.program.train(run.dataset, *arguments)


def _act(
    actions: Mapping[str, Action], moment: Moment, newest: dict[str, Any], bar: Progress
) -> None:
    for action in actions.values():
        if action.is_due(moment):
            action(moment)
            newest |= moment.measured
    if moment.measured:
        shown = "  ".join(f"{k} {np.mean(v):.4g}" for k, v in moment.measured.items())
        bar.message(f"step {moment.step}: {shown}")


def _write_failure(run: Prepared, error: NonFiniteError, workdir: Path) -> None:
    """The step, its metrics and its batch, to look into what went wrong."""
    if jax.process_index() != 0:
        return
    folder = workdir / "failure"
    folder.mkdir(exist_ok=True)
    indices = run.orders[0].indices(error.step - 1)
    batch = run.dataset.gather(run.dataset.arrays, indices)
    np.savez(folder / "batch.npz", **batch)
    kept = list_steps(workdir / "checkpoints")
    report = {
        "step": error.step,
        "metrics": dict(error.metrics),
        "example_indices": indices.tolist(),
        "newest_checkpoint": kept[0] if kept else None,
        "replay": "the same command goes on from the newest checkpoint and reaches the same "
        "step with the same numbers; JAX_DEBUG_NANS=True stops it at the operation",
    }
    write_json(folder / "report.json", report)
