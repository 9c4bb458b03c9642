"""What identifies a sweep: `sweep.json` in its folder."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launch.sweeps.space import Dimension, Sweep
from research.engine import config
from research.engine.experiment import Experiment
from research.engine.files import read_json, write_json
from research.errors import UserError

Sampler = Literal["grid", "random", "tpe", "pbt"]
FILE = "sweep.json"


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving (Li et al. 2020): of the trials that have come to
    `min_steps`, and to it times each power of `reduction_factor`, the best 1 / `reduction_factor`
    go on."""

    min_steps: int
    reduction_factor: int


@dataclass(frozen=True)
class Specification:
    """A sweep of an experiment. `storage` is the URL of a database; None is Optuna's journal file
    in the sweep's folder. `study` is the name there."""

    config: str
    experiment: Experiment
    sweep: Sweep
    sampler: Sampler
    seed: int
    trials: int
    pruner: Asha | None
    storage: str | None
    study: str

    @property
    def configurations(self) -> int:
        """How many points of the space there are, each of which runs with every seed."""
        return self.trials // len(self.sweep.seeds)


def taken_up(specification: Specification, folder: Path) -> Specification:
    """The sweep of a folder where there is one; it may have got more trials.

    Raises:
      UserError: where the folder holds another sweep, with what differs.
    """
    file = folder / FILE
    if not file.exists():
        return specification
    before = read_specification(folder)
    same = dataclasses.replace(
        specification, study=before.study, trials=max(before.trials, specification.trials)
    )
    changes = config.differences(config.to_plain(before), config.to_plain(same))
    changes = [change for change in changes if not change.startswith("trials:")]
    if changes:
        listed = "\n  ".join(changes)
        raise UserError(
            f"{folder} holds another sweep:\n  {listed}\nTake another --sweepdir, or the "
            "command that this one was begun with."
        )
    return same


def write_specification(specification: Specification, folder: Path) -> None:
    """Writes `sweep.json`; raises UserError."""
    write_json(folder / FILE, config.to_plain(specification))


def read_specification(folder: Path) -> Specification:
    """The sweep of a folder; UserError where there is none."""
    if not (folder / FILE).is_file():
        raise UserError(f"{folder}: no sweep here (no {FILE})")
    plain = read_json(folder / FILE)
    sweep, pruner = plain["sweep"], plain["pruner"]
    space = tuple(
        Dimension(**{**item, "values": tuple(map(_as_written, item["values"]))})
        for item in sweep["space"]
    )
    return Specification(
        **{
            **plain,
            "experiment": config.check_experiment(plain["experiment"]),
            "sweep": Sweep(**{**sweep, "space": space, "seeds": tuple(sweep["seeds"])}),
            "pruner": Asha(**pruner) if pruner else None,
        }
    )


def _as_written(value: Any) -> Any:
    """Lists of JSON as the tuples that a search space holds."""
    if isinstance(value, list):
        return tuple(map(_as_written, value))
    if isinstance(value, Mapping):
        return {key: _as_written(item) for key, item in value.items()}
    return value
