"""Several trials as one program, and then as the runs they would be alone."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.sweeps.failures import reason_of
from launch.sweeps.grouping import structure_of
from launch.sweeps.quiet import Quiet
from launch.sweeps.specification import Specification
from launch.sweeps.split import split
from launch.sweeps.study import Claim, Study
from research.engine.actions import Watcher
from research.engine.config import override
from research.engine.experiment import Experiment
from research.engine.loop import train
from research.engine.record import Record
from research.errors import NonFiniteError


def run_together(
    study: Study, claims: Sequence[Claim], traced: frozenset[str], data_dir: Path
) -> bool:
    """Runs trials of one structure to their ends; False where they were stopped after saving."""
    numbers, settings = _members(study, claims)
    folder, started = study.program(numbers[0]), time.monotonic()
    places = {number: place for place, number in enumerate(numbers)}

    def watch(step: int, values: Any) -> bool:
        for claim in claims:
            value = float(np.ravel(values)[places[claim.number]])
            if np.isfinite(value):
                study.report(claim, step, value)
        return False

    failure = ""
    try:
        experiment = _program(study.specification, settings, traced)
        with Record(folder) as record:
            outcome = train(
                experiment,
                folder,
                data_dir,
                record,
                lambda start, total: Quiet(),
                Watcher(study.specification.sweep.metric, watch),
            )
        if outcome.stopped:
            for claim in claims:
                study.leave(claim)
            return False
    except NonFiniteError as error:
        failure = str(error)  # of those that were left; the others diverged before
    except Exception as error:
        reason = reason_of(error, folder)
        for claim in claims:
            study.finish(claim, "failed", reason=reason)
        return True
    workdirs = [study.workdir(number) for number in numbers]
    ends = split(folder, study.specification.experiment, settings, workdirs, failure)
    seconds = (time.monotonic() - started) / len(numbers)
    for claim in claims:
        end = ends[places[claim.number]]
        value = end.metrics.get(study.specification.sweep.metric)
        notes: dict[str, Any] = {
            "step": end.step,
            "seconds": seconds,
            "settings": dict(end.settings),
        }
        if end.reason:
            study.finish(claim, "diverged", reason=end.reason, **notes)
        elif value is None or not np.isfinite(value):
            reason = f"{study.specification.sweep.metric} = {value} at the end"
            study.finish(claim, "failed", reason=reason, **notes)
        else:
            study.finish(claim, "complete", value, **notes)
    return True


def _members(study: Study, claims: Sequence[Claim]) -> tuple[list[int], list[dict[str, Any]]]:
    """Numbers and settings of all trials of the claims' program, also of those that have ended."""
    frozen = study.frozen()
    program = frozen[claims[0].number].user_attrs.get("program")
    if program is None:
        program = claims[0].number
        for claim in claims:
            study.note(claim, program=program)
        frozen = study.frozen()
    members = [trial for trial in frozen if trial.user_attrs.get("program") == program]
    return [trial.number for trial in members], [study.settings(trial) for trial in members]


def _program(
    specification: Specification, settings: Sequence[dict[str, Any]], traced: frozenset[str]
) -> Experiment:
    """The experiment of all trials together."""
    structure, sweep = structure_of(settings[0], traced), specification.sweep
    differing = [path for path in settings[0] if path not in structure]
    changed: dict[str, Any] = {
        **structure,
        "parallelism.mode": "vmap",
        "parallelism.trials": {path: [each[path] for each in settings] for path in differing},
    }
    if specification.sampler == "pbt":
        changed["parallelism.population"] = {
            "metric": sweep.metric,
            "mode": sweep.mode,
            "bounds": {
                dimension.path: [min(dimension.values), max(dimension.values)]
                for dimension in sweep.space
            },
        }
    # A trial's own value is in the structure or below: what the config says gives way.
    base = {path: settings[0][path] for path in differing}
    return override(specification.experiment, {**base, **changed})
