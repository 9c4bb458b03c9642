"""The trials of a sweep's folder, as reports take them."""

from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from launch.sweeps.specification import read_specification
from launch.sweeps.study import Study
from launch.trials import Trial, Trials
from launch.trials import TrialState as State

_STATES: dict[Any, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def read_sweep(folder: Path) -> Trials:
    """The trials of a sweep; UserError where the folder holds none."""
    return trials_of(Study(folder, read_specification(folder)))


def trials_of(study: Study) -> Trials:
    """The trials as they are now."""
    sweep = study.specification.sweep
    return Trials(
        title=str(study.folder.name),
        metric=sweep.metric,
        mode=sweep.mode,
        trials=tuple(_trial(study, trial) for trial in study.frozen()),
    )


def _trial(study: Study, frozen: Any) -> Trial:
    notes, seen = frozen.user_attrs, frozen.intermediate_values
    last = max(seen, default=None)
    state = "diverged" if notes.get("state") == "diverged" else _STATES[frozen.state]
    return Trial(
        number=frozen.number,
        state=state,
        settings={**study.settings(frozen), **notes.get("settings", {})},
        workdir=study.workdir(frozen.number),
        value=seen[last] if frozen.value is None and last is not None else frozen.value,
        step=notes.get("step", last),
        seconds=notes.get("seconds"),
        reason=notes.get("reason", ""),
    )
