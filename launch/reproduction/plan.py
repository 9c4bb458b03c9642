"""Which runs there are to make, by which commands, in which order, and which are made already."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launch.reproduction.target import Target, read_target
from research.engine import config
from research.engine.checkpoint_folder import list_steps
from research.engine.config_file import parse_value
from research.engine.files import read_json
from research.engine.record import RESULT
from research.errors import UserError

RunState = Literal["waiting", "begun", "finished", "diverged"]
Vmap = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Run:
    """One run of a target: of one seed, or of several as trials of one program.

    `needs` are the folders of runs that must be finished before, by the setting they go to;
    `blocked` says why it can't be made here.
    """

    target: Target
    seeds: tuple[int, ...]
    folder: Path
    needs: tuple[tuple[str, Path], ...] = ()
    blocked: str = ""

    @property
    def title(self) -> str:
        """What it is called in messages."""
        listed = ", ".join(map(str, self.seeds))
        return f"{self.target.name}, seed{'s' if self.vmapped else ''} {listed}"

    @property
    def vmapped(self) -> bool:
        """Whether its seeds are trials of one program."""
        return len(self.seeds) > 1

    @property
    def overrides(self) -> tuple[tuple[str, str], ...]:
        """The settings in which it differs from its config file."""
        if self.vmapped:
            trials = str({"seed": self.seeds})
            seeds = [("parallelism.mode", "vmap"), ("parallelism.trials", trials)]
        else:
            seeds = [(path, str(self.seeds[0])) for path in ("seed", *self.target.seeds)]
        return (*((path, _text(str(folder))) for path, folder in self.needs), *seeds)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `python -m research.train`."""
        settings = (f"--config.{path}={value}" for path, value in self.overrides)
        return ("--config", self.target.location, "--workdir", str(self.folder), *settings)

    @property
    def command(self) -> str:
        """The command, for a shell."""
        return shlex.join(("python", "-m", "research.train", *self.arguments))

    def apart(self) -> list["Run"]:
        """Its seeds as runs of their own."""
        folder = self.folder.parent
        return [
            Run(self.target, (seed,), folder / _folder_name((seed,)), self.needs, self.blocked)
            for seed in self.seeds
        ]


def plan(
    targets: Sequence[Target], seeds: int, workdir: Path, *, accelerator: bool, vmap: Vmap = "auto"
) -> list[Run]:
    """All runs of the targets and of what they build on, in the order in which to make them.

    What was begun comes first; then the first seed of every target comes before the second of
    any, so that a budget that ends early leaves a number for as many as it can. Whatever builds
    on another run comes after it.

    Raises:
      UserError: for a config that can't be run so, and for folders that hold runs with other
        settings.
    """
    required: dict[Path, Run] = {}
    needs = {
        target.name: _needs(target, workdir, accelerator, required, (target.location,))
        for target in targets
    }
    wanted: list[Run] = []
    for target in targets:
        folder, blocked = workdir / target.folder, _blocked(target, accelerator)
        alone = {seed for seed in range(seeds) if folder / _folder_name((seed,)) in required}
        together = _fits_vmap(target, vmap, accelerator)
        for chosen in _choose(folder, range(seeds), alone, together):
            place = folder / _folder_name(chosen)
            wanted.append(Run(target, chosen, place, needs[target.name], blocked))
    wanted.sort(key=lambda run: run.seeds[0])
    runs = {run.folder: run for run in (*wanted, *required.values())}
    _refuse_changes(runs.values())
    return _in_order(sorted(runs.values(), key=lambda run: state_of(run.folder) != "begun"))


def state_of(folder: Path) -> RunState:
    """How far the run in a folder is, by what it left there."""
    if (folder / RESULT).is_file():
        return "finished"
    report = folder / "failure" / "report.json"
    if report.is_file():
        saved = list_steps(folder / "checkpoints")
        # One that is past the step by now has been mended.
        if not saved or saved[0] < read_json(report)["step"]:
            return "diverged"
    return "begun" if (folder / "config.json").is_file() else "waiting"


def _needs(
    target: Target,
    workdir: Path,
    accelerator: bool,
    required: dict[Path, Run],
    chain: tuple[str, ...],
) -> tuple[tuple[str, Path], ...]:
    """Folders of the runs that a target builds on, each of seed 0; adds these to `required`."""
    needs = []
    for path, location in target.requires.items():
        other = read_target(location)
        if other.location in chain:
            raise UserError(f"REQUIRES goes in a circle: {' -> '.join((*chain, other.location))}")
        folder = workdir / other.folder / _folder_name((0,))
        theirs = _needs(other, workdir, accelerator, required, (*chain, other.location))
        required[folder] = Run(other, (0,), folder, theirs, _blocked(other, accelerator))
        needs.append((path, folder))
    return tuple(needs)


def _blocked(target: Target, accelerator: bool) -> str:
    return "needs a GPU or TPU" if target.needs_accelerator and not accelerator else ""


def _fits_vmap(target: Target, vmap: Vmap, accelerator: bool) -> bool:
    """Whether seeds are to share a program. On a CPU they are no faster so, and by themselves
    they have the very bits of the command that the config's docstring gives."""
    experiment = target.experiment
    possible = (
        experiment.parallelism.mode == "jit"
        # Data are the same for all trials of a program.
        and not target.seeds
        # What these decide would be decided by the mean over the trials.
        and experiment.early_stopping is None
        and experiment.checkpoints.best_metric is None
    )
    return possible and (vmap == "always" or (vmap == "auto" and accelerator))


def _choose(
    folder: Path, seeds: Iterable[int], alone: set[int], together: bool
) -> list[tuple[int, ...]]:
    """Seeds run by run: as the runs in the folder have them, and the others as asked."""
    left = set(seeds)
    chosen: list[tuple[int, ...]] = []
    for name in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ():
        kind, _, numbers = name.partition("_")
        if kind not in ("seed", "seeds") or not re.fullmatch(r"\d+(_\d+)*", numbers):
            continue
        have, state = tuple(map(int, numbers.split("_"))), state_of(folder / name)
        if len(have) > 1 and state == "diverged":
            # One trial ended them all: by themselves the others come to their end.
            alone = alone.union(have)
        elif state != "waiting" and left.issuperset(have):
            chosen.append(have)
            left -= set(have)
    shared = tuple(sorted(left - alone)) if together else ()
    chosen += [(seed,) for seed in sorted(left.difference(shared))]
    return [*chosen, shared] if shared else chosen


def _folder_name(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''}_{'_'.join(map(str, seeds))}"


def _refuse_changes(runs: Iterable[Run]) -> None:
    """Checks every run's settings, and that its folder holds no run with others.

    A finished run's reference may differ: no number of the run depends on it.
    """
    complaints = []
    for run in runs:
        experiment = config.load(run.target.location, run.overrides)
        ended = state_of(run.folder) == "finished"
        changes = config.changes_since(run.folder, experiment, reference=not ended)
        if changes:
            complaints.append("\n  ".join([f"{run.folder}:", *changes]))
    if complaints:
        listed = "\n".join(complaints)
        raise UserError(
            f"these folders hold runs with another config:\n{listed}\n"
            "Move them away, or take another --workdir."
        )


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """The runs with whatever they need before them, otherwise as they are."""
    by_folder = {run.folder: run for run in runs}
    ordered: dict[Path, Run] = {}

    def add(run: Run) -> None:
        for _, folder in run.needs:
            add(by_folder[folder])
        ordered.setdefault(run.folder, run)

    for run in runs:
        add(run)
    return list(ordered.values())


def _text(value: str) -> str:
    """A string as an override that is read back as this string."""
    return value if parse_value(value) == value else repr(value)
