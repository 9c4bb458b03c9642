"""From the folder of a program of several trials to a run's folder for each of them."""

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.engine.checkpoint import Checkpoints, list_steps
from research.engine.config import override, to_plain
from research.engine.experiment import Experiment
from research.engine.files import encode_json, read_json, write_atomically, write_json
from research.engine.record import METRICS, RESULT, read_metrics
from research.engine.restore import load_checkpoint, read_experiment
from research.engine.result import result_of
from research.engine.window import is_watched

Row = dict[str, Any]


@dataclass(frozen=True)
class End:
    """How a trial ended: its newest metrics, the settings it ended with, and, where it diverged,
    the reason."""

    step: int
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]
    reason: str = ""


def split(
    program: Path,
    base: Experiment,
    settings: Sequence[Mapping[str, Any]],
    workdirs: Sequence[Path],
    failure: str = "",
) -> list[End]:
    """Writes what each trial of a program would have written alone: config, metrics, result and
    its last checkpoint. A trial that diverged has its metrics up to there, and no checkpoint.
    `failure` says how the program ended where the last of its trials diverged."""
    experiment, rows = read_experiment(program), read_metrics(program)
    state, extra = None, {}
    if list_steps(program / "checkpoints"):
        _, restored = load_checkpoint(experiment, program, "latest")
        state, extra = jax.device_get(restored.state), restored.extra
    measured = (*experiment.evaluations, *experiment.probes)
    total = read_json(program / "data.json")["total_steps"]
    ends = []
    for index, (own, workdir) in enumerate(zip(settings, workdirs, strict=True)):
        good, reason = _of_trial(rows, index), ""
        if experiment.parallelism.population is None:
            good, reason = _until_diverged(good, measured)
        elif state is not None:
            # A member of a population is replaced where it diverges, and changes its settings.
            own = {**own, **_hyperparameters(state, index)}
        if state is not None and not reason and not _finite(state.params, index):
            reason = f"not finite at step {good[-1]['step']}: params"
        reason = reason or failure
        newest = {k: x for row in good for k, x in row.items() if k.partition("/")[0] in measured}
        step = good[-1]["step"] if good else 0
        ends.append(End(step, newest, own, reason))
        _clear(workdir)
        alone = override(base, own)
        write_json(workdir / "config.json", to_plain(alone))
        for name in ("environment.json", "data.json"):
            write_json(workdir / name, read_json(program / name))
        lines = [encode_json(row).encode() + b"\n" for row in good]
        write_atomically(workdir / METRICS, b"".join(lines))
        if reason:
            report = {"step": step, "reason": reason, "program": str(program)}
            write_json(workdir / "failure" / "report.json", report)
            continue
        if state is not None:
            _save(workdir, alone, state, extra, index, step)
        write_json(workdir / RESULT, result_of(step, total, newest, alone.reference))
    return ends


def _of_trial(rows: Sequence[Row], index: int) -> list[Row]:
    return [
        {name: x[index] if isinstance(x, list) else x for name, x in row.items()} for row in rows
    ]


def _until_diverged(rows: Sequence[Row], measured: Sequence[str]) -> tuple[list[Row], str]:
    """The rows before a loss or gradient norm of training is not finite, and which that is;
    `measured` are the names of evaluations and probes."""
    for place, row in enumerate(rows):
        for name, value in row.items():
            training = name.partition("/")[0] not in measured
            if training and is_watched(name) and not math.isfinite(value):
                return list(rows[:place]), f"not finite by step {row['step']}: {name} = {value}"
    return list(rows), ""


def _hyperparameters(state: Any, index: int) -> dict[str, float]:
    return {
        path: float(values[index])
        for path, values in state.hyperparameters.items()
        if path != "seed"
    }


def _finite(params: Any, index: int) -> bool:
    return all(np.isfinite(leaf[index]).all() for leaf in jax.tree.leaves(params))


def _clear(workdir: Path) -> None:
    """Forgets an earlier attempt; the lock stays."""
    for name in ("checkpoints", "failure"):
        shutil.rmtree(workdir / name, ignore_errors=True)


def _save(
    workdir: Path, alone: Experiment, state: Any, extra: Mapping[str, Any], index: int, step: int
) -> None:
    """The trial's part of the program's checkpoint, as the trial alone would have saved it."""
    own = jax.tree.map(lambda x: x[index], state.replace(hyperparameters={}))
    window = {
        name: [total[index], weight[index], finish]
        for name, (total, weight, finish) in extra["window"].items()
    }
    own_extra = {
        **extra,
        "position": [extra["position"][index]],
        "window": window,
        "newest": {name: values[index] for name, values in extra["newest"].items()},
    }
    kept = alone.checkpoints
    with closing(
        Checkpoints(workdir / "checkpoints", kept.keep_latest, kept.keep_best, kept.best_mode)
    ) as checkpoints:
        checkpoints.save(step, jax.device_put(own), own_extra)
