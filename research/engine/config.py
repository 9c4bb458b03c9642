"""From a config file and overrides to a checked `Experiment`, and back to plain data."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.engine.checks import check_settings
from research.engine.component import Component
from research.engine.component import build as build
from research.engine.config_file import parse_value, read_file, set_place
from research.engine.consistency import check_together, hand_down_dtype
from research.engine.duration import Duration
from research.engine.experiment import Experiment
from research.engine.files import read_json
from research.engine.setting import describe, settings_of
from research.errors import UserError


def load(location: str, overrides: Sequence[tuple[str, str]] = ()) -> Experiment:
    """The checked experiment of `FILE.py` or `FILE.py:variant`, with overrides applied.

    Overrides are (path, text) pairs such as ("optimizer.learning_rate", "3e-4").

    Raises:
      UserError: naming the file or the path of the setting, and what was expected.
    """
    plain = read_file(location)
    for path, text in overrides:
        set_place(plain, path, parse_value(text))
    return check_experiment(plain)


def override(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """The experiment with settings, given by their paths, set to other values and checked."""
    plain = to_plain(experiment)
    for path, value in settings.items():
        set_place(plain, path, value)
    return check_experiment(plain)


def check_experiment(plain: Mapping[str, Any]) -> Experiment:
    """Plain data as an `Experiment`; UserError with the path of the first thing wrong."""
    experiment = hand_down_dtype(check_settings(plain, Experiment, ""))
    check_together(experiment)
    _check_trials(experiment)
    return experiment


def to_plain(value: Any) -> Any:
    """Settings as JSON-ready data that `check_experiment` reads back to the same experiment."""
    if isinstance(value, Component):
        return {"name": value.path} | {k: to_plain(v) for k, v in value.arguments.items()}
    if isinstance(value, Duration):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def flatten(plain: Any, path: str = "") -> dict[str, Any]:
    """Nested plain data as {dotted path: leaf}."""
    items: Any = ()
    if isinstance(plain, Mapping):
        items = plain.items()
    elif isinstance(plain, list):
        items = list(enumerate(plain))
    if not items:
        return {path: plain}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{path}.{key}" if path else str(key))
    return flat


def differences(old: Any, new: Any) -> list[str]:
    """One line a setting that differs: its path, the old value and the new."""
    before, after = flatten(old), flatten(new)

    def shown(flat: Mapping[str, Any], path: str) -> str:
        return repr(flat[path]) if path in flat else "(not there)"

    return [
        f"{path}: {shown(before, path)} -> {shown(after, path)}"
        for path in sorted(before.keys() | after.keys())
        if path not in before or path not in after or before[path] != after[path]
    ]


def changes_since(workdir: Path, experiment: Experiment, *, reference: bool = True) -> list[str]:
    """The `differences` of an experiment from that of the run in a folder; none where no run is.

    Without `reference` that is left aside: no number of a run depends on it.
    """
    file = workdir / "config.json"
    if not file.is_file():
        return []
    before, now = brought_up_to_date(read_json(file)), to_plain(experiment)
    if not reference:
        before, now = ({**plain, "reference": None} for plain in (before, now))
    return differences(before, now)


def brought_up_to_date(recorded: Mapping[str, Any]) -> Any:
    """The plain data of a run's config.json with the settings that were added to the code since,
    at their defaults; as it is where a setting has gone or means something else."""
    try:
        return to_plain(check_experiment(recorded))
    except UserError:
        return recorded


def document() -> list[tuple[str, str, str]]:
    """(path, default, documentation) of every setting, for --settings."""
    rows = []
    for item in settings_of(Experiment):
        required = item.default is dataclasses.MISSING
        default = "(required)" if required else repr(to_plain(item.default))
        bounds = [f"{words} {bound:g}" for words, bound in item.bounds.items()]
        kind = ", ".join([describe(item.hint), *bounds])
        rows.append((item.path, default, f"{item.doc} ({kind})"))
    return rows


def _check_trials(experiment: Experiment) -> None:
    """Each trial must be possible on its own, and differ only in what one program can share."""
    trials = experiment.parallelism.trials
    lengths = sorted({len(values) for values in trials.values()})
    if len(lengths) > 1 or 0 in lengths:
        listed = ", ".join(f"{path} has {len(values)}" for path, values in trials.items())
        raise UserError(f"parallelism.trials: every setting needs one value a trial; {listed}")
    for index in range(max(lengths, default=0)):
        settings = {path: values[index] for path, values in trials.items()}
        alone = {"parallelism": {"mode": "jit"}}
        try:
            trial = override(experiment, settings | alone)
        except UserError as error:
            raise UserError(f"parallelism.trials, trial {index}: {error}") from None
        for path in settings:
            if not may_differ(trial, path):
                raise UserError(
                    f"parallelism.trials.{path}: can't differ between trials of one program; "
                    "`seed` can, `ema_decay`, and float settings of optimizer, players, objective "
                    "and data.transforms"
                )


def may_differ(experiment: Experiment, path: str) -> bool:
    """Whether trials of one program may differ in a setting: the seed, or a float inside the
    step."""
    if path == "seed":
        return True
    names = path.split(".")
    owner: Any = experiment
    if names[0] == "objective":
        owner, names = build(experiment.objective, "objective"), names[1:]
    elif names[:2] == ["data", "transforms"]:
        owner, names = build(experiment.data.transforms, "data.transforms"), names[2:]
    elif names[0] not in ("optimizer", "players", "ema_decay"):
        return False
    for name in names:
        if isinstance(owner, Mapping):
            owner = owner.get(name)
        elif isinstance(owner, tuple) and name.isdecimal():
            owner = owner[int(name)]
        elif dataclasses.is_dataclass(owner) and name in owner.__dataclass_fields__:
            owner = getattr(owner, name)
        else:
            return False
    return type(owner) is float
