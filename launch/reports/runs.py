"""Reads any set of run folders as the trials of a comparison."""

import copy
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launch.reports.curves import Row, holding, number_in, place_in_program, rows_with
from launch.reports.run_state import run_seconds, run_state
from launch.reports.values import natural
from launch.trials import Mode, Trial, Trials
from research.engine.config import flatten
from research.engine.config_file import set_place
from research.engine.files import read_json
from research.engine.record import METRICS, read_metrics
from research.errors import UserError
from research.suggestion import did_you_mean

# What changes nothing but what is written, how fast, and what it is held against.
NO_HYPERPARAMETERS = re.compile(
    r"(reference|checkpoints|profile|parallelism)(\..*)?"
    r"|log_every|log_norms|show_every|show_examples|steps_per_call"
    r"|data\.(on_device|prefetch|workers)"
    r"|evaluations\.[^.]+\.(every|batch_size)|probes\.[^.]+\.every"
)
HANDED_DOWN = re.compile(r"objective\.(.*\.)?dtype")
MODE_OF: Mapping[str, Mode] = {
    "loss": "min",
    "error": "min",
    "perplexity": "min",
    "bits_per_byte": "min",
    "accuracy": "max",
}


@dataclass(frozen=True)
class Run:
    """A run's folder and resolved config; in a program of several trials, one of them."""

    workdir: Path
    config: Mapping[str, Any]


def read_runs(
    folders: Sequence[Path], metric: str | None = None, mode: Mode | None = None
) -> Trials:
    """All runs in these folders and below them, compared by a metric, that of their configs'
    reference unless it is given.

    Raises:
      UserError: where there are no runs, no run has the metric, or it is not clear what is better.
    """
    workdirs = find_runs(folders)
    runs = [run for workdir in workdirs for run in _runs_in(workdir)]
    metric, mode = choose_metric([run.config for run in runs], workdirs, metric, mode)
    settings = differing_settings([run.config for run in runs])
    trials = tuple(
        _read_trial(number, run.workdir, settings[number], metric)
        for number, run in enumerate(runs)
    )
    title = ", ".join(folder.resolve().name for folder in folders)
    if len(title) > 60:
        title = f"{len(folders)} folders"
    found = Trials(title, metric, mode, trials)
    _check_measured(found)
    return found


def with_metric(trials: Trials, metric: str | None, mode: Mode | None) -> Trials:
    """The same trials compared by another metric of their runs. Raises UserError as `read_runs`."""
    if metric is None or metric == trials.metric:
        return replace(trials, mode=mode or trials.mode)
    workdirs = list(dict.fromkeys(trial.workdir for trial in trials.trials))
    files = [workdir / "config.json" for workdir in workdirs]
    configs = [read_json(file) for file in files if file.is_file()]
    metric, mode = choose_metric(configs, workdirs, metric, mode)
    changed = [
        replace(trial, value=_newest(rows_with(trial.workdir, metric), metric, trial))
        for trial in trials.trials
    ]
    found = Trials(trials.title, metric, mode, tuple(changed))
    _check_measured(found)
    return found


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The runs' folders, each once, run_2 before run_10.

    Raises UserError for a folder that is not there, and where there are no runs.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            beside = folder.parent.iterdir() if folder.parent.is_dir() else []
            known = [str(path) for path in beside if path.is_dir()]
            what = "is no folder" if folder.exists() else "does not exist"
            meant = did_you_mean(str(folder), known, listed=len(known) > 8)
            raise UserError(f"{folder} {what}{meant}")
        found |= {path.resolve(): path for path in _walk(folder)}
    if not found:
        listed = ", ".join(map(str, folders))
        raise UserError(
            f"no run in {listed} or below: a run's folder, the --workdir of research.train, has a "
            "config.json"
        )
    return list(found.values())


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each config the settings in which not all agree, by path, and nothing that is no
    hyperparameter. A list of plain values is one setting."""
    flat = [flatten(_lists_whole(config)) for config in configs]
    paths = list(dict.fromkeys(path for each in flat for path in each))

    def differs(path: str) -> bool:
        values = [each.get(path, _Missing) for each in flat]
        return any(value != values[0] for value in values)

    chosen = [path for path in paths if not NO_HYPERPARAMETERS.fullmatch(path) and differs(path)]
    if "compute_dtype" in chosen:
        # Models have it from there.
        chosen = [path for path in chosen if not HANDED_DOWN.fullmatch(path)]
    return [
        {path: _as_list(each[path]) for path in chosen if path in each and each[path] != {}}
        for each in flat
    ]


def choose_metric(
    configs: Iterable[Mapping[str, Any]],
    workdirs: Sequence[Path],
    metric: str | None,
    mode: Mode | None,
) -> tuple[str, Mode]:
    """What to compare by: as given, else as the configs' reference says.

    A mode that is not given is that of the config that names the metric, or of its last word, as
    in test/loss. Raises UserError where neither says.
    """
    configs = list(configs)
    named: dict[str, Mode] = {}
    for config in configs:
        checkpoints = config.get("checkpoints") or {}
        if checkpoints.get("best_metric"):
            named[checkpoints["best_metric"]] = checkpoints["best_mode"]
        for place in (config.get("early_stopping"), config.get("reference")):
            if place:
                named[place["metric"]] = place["mode"]
    if metric is None:
        references = {(config.get("reference") or {}).get("metric") for config in configs}
        if len(references) != 1 or None in references:
            why = "differ in their" if references - {None} else "have no"
            raise UserError(
                f"the configs {why} reference.metric: say what to compare by, --metric NAME"
                f"{_listed(workdirs)}"
            )
        (metric,) = references
        assert metric is not None
    chosen = mode or named.get(metric) or MODE_OF.get(metric.rpartition("/")[2])
    if chosen is None:
        raise UserError(f"{metric}: say whether less or more is better, --mode min or --mode max")
    return metric, chosen


class _Missing:
    """A setting that a config does not have."""


def _walk(folder: Path) -> list[Path]:
    if (folder / "config.json").is_file():
        return [folder]
    try:
        inside = [
            Path(entry) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)
        ]
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from error
    inside.sort(key=lambda path: natural(path.name))
    return [run for path in inside if not path.name.startswith(".") for run in _walk(path)]


def _runs_in(workdir: Path) -> list[Run]:
    """The run, or the trials of its one program."""
    config = read_json(workdir / "config.json")
    trials = config.get("parallelism", {}).get("trials", {})
    if not trials:
        return [Run(workdir, config)]
    runs = []
    for place in range(min(map(len, trials.values()))):
        own = copy.deepcopy(config)
        for path, values in trials.items():
            set_place(own, path, values[place])
        runs.append(Run(workdir, own))
    return runs


def _read_trial(number: int, workdir: Path, settings: Mapping[str, Any], metric: str) -> Trial:
    steps = rows_with(workdir, "step")
    newest_step = steps[-1].read()["step"] if steps else None
    trial = Trial(number, "waiting", settings, workdir)
    how = run_state(workdir, newest_step, place_in_program(trial))
    return replace(
        trial,
        state=how.state,
        value=_newest(holding(steps, metric), metric, trial),
        step=newest_step,
        seconds=run_seconds(workdir),
        reason=how.reason,
    )


def _newest(rows: Sequence[Row], metric: str, trial: Trial) -> float | None:
    return number_in(rows[-1].read(), metric, place_in_program(trial)) if rows else None


def _check_measured(trials: Trials) -> None:
    """Raises UserError where runs have metrics, and none this one."""
    workdirs = list(dict.fromkeys(trial.workdir for trial in trials.trials))
    if all(trial.value is None for trial in trials.trials):
        known = _known_metrics(workdirs)
        if known and trials.metric not in known:
            raise UserError(
                f"--metric {trials.metric}: no run has this metric"
                f"{did_you_mean(trials.metric, known, listed=True)}{_listed(workdirs)}"
            )


def _known_metrics(workdirs: Iterable[Path]) -> list[str]:
    rows = (row for path in workdirs if (path / METRICS).is_file() for row in read_metrics(path))
    return sorted({name for row in rows for name in row if name != "step"})


def _listed(workdirs: Iterable[Path]) -> str:
    """What there is: evaluations first, and no norms of single groups of parameters."""
    known = _known_metrics(workdirs)
    plain = [name for name in known if not re.match(r"(\w+_norm|learning_rate)(/|$)", name)]
    ordered = sorted(plain, key=lambda name: "/" not in name)
    return f". The runs have {', '.join(ordered)}" if ordered else ""


def _lists_whole(plain: Any) -> Any:
    """Plain data whose lists of plain values are tuples, which `flatten` leaves whole."""
    if isinstance(plain, Mapping):
        return {key: _lists_whole(value) for key, value in plain.items()}
    if isinstance(plain, list):
        inside = [_lists_whole(value) for value in plain]
        return inside if any(isinstance(value, Mapping | list) for value in inside) else (*inside,)
    return plain


def _as_list(value: Any) -> Any:
    return [_as_list(item) for item in value] if isinstance(value, tuple) else value
