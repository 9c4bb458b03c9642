"""The trials of a sweep in Optuna's storage: who runs which, and how each ended.

Workers are processes that share nothing but the sweep's folder. A worker claims a trial under the
folder's lock and holds the lock of the trial's own folder while it runs, which the kernel releases
however the worker ends. So a trial that is RUNNING and not locked was left by a worker that was
killed: whoever claims next goes on with it, from its checkpoint.
"""

import fcntl
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from launch.sweeps.draw import Params, decode, distributions, draw_grid, draw_random
from launch.sweeps.journal import open_journal
from launch.sweeps.specification import Specification
from research.engine.checkpoint_folder import list_steps
from research.engine.files import cannot_write
from research.engine.lock import InUseError, WorkdirLock
from research.errors import UserError

MAX_ATTEMPTS = 3
"""So often a trial is begun before its workers' deaths count as its own failure."""

KindOf = Callable[[FrozenTrial], Hashable]
"""An int is a program that was begun: it keeps all of its trials."""

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs; `settings` are by path, the seed among them."""

    number: int
    settings: Mapping[str, Any]
    workdir: Path
    lock: WorkdirLock
    trial: optuna.trial.Trial

    def release(self) -> None:
        """Lets another worker have the trial's folder."""
        self.lock.__exit__()


@final
class Study:
    """The trials of the sweep in a folder."""

    def __init__(self, folder: Path, specification: Specification):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.specification = folder, specification
        self._storage = _open_storage(folder, specification.storage)
        self._distributions = distributions(specification.sweep.space)
        pruner = specification.pruner
        self._study = optuna.create_study(
            study_name=specification.study,
            storage=self._storage,
            direction="maximize" if specification.sweep.mode == "max" else "minimize",
            pruner=optuna.pruners.NopPruner()
            if pruner is None
            else optuna.pruners.SuccessiveHalvingPruner(
                min_resource=pruner.min_steps, reduction_factor=pruner.reduction_factor
            ),
            load_if_exists=True,
        )

    def frozen(self) -> list[FrozenTrial]:
        """All trials there are, in their order."""
        return self._study.get_trials(deepcopy=False)

    def settings(self, trial: FrozenTrial) -> dict[str, Any]:
        """A trial's settings by path, the seed among them."""
        sweep = self.specification.sweep
        seed = sweep.seeds[trial.number % len(sweep.seeds)]
        return {**decode(sweep.space, trial.params), "seed": seed}

    def workdir(self, number: int) -> Path:
        """The folder of a trial's run."""
        return self.folder / "trials" / f"{number:04d}"

    def program(self, number: int) -> Path:
        """The folder of the program that runs a trial and those after it together."""
        return self.folder / "programs" / f"{number:04d}"

    def add_known(self) -> None:
        """Adds the trials that are known from the start: all but those that TPE will suggest."""
        points, seeds = known_points(self.specification), self.specification.sweep.seeds
        with self._claiming():
            for number in range(len(self.frozen()), len(points) * len(seeds)):
                self._add(points[number // len(seeds)])

    def claim(self, most: int = 1, kind_of: KindOf = lambda trial: None) -> list[Claim]:
        """Takes up to `most` trials of one kind, those first that a killed worker left and all of
        a program; none where all have ended or others run them."""
        with self._claiming():
            claims: list[Claim] = []
            kind: Hashable = None
            for trial in self._unclaimed(most):
                if claims and kind_of(trial) != kind:
                    continue
                claim = self._begin(trial)
                if claim is not None:
                    claims, kind = [*claims, claim], kind_of(trial)
                if len(claims) >= most and not isinstance(kind, int):
                    break
            return claims

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Notes a value of the metric; whether the pruner ends the trial there."""
        seen = self._storage.get_trial(claim.trial._trial_id).intermediate_values
        if step not in seen:
            claim.trial.report(value, step)
        return self.specification.pruner is not None and claim.trial.should_prune()

    def note(self, claim: Claim, **values: Any) -> None:
        """Keeps JSON values with a trial."""
        for name, value in values.items():
            claim.trial.set_user_attr(name, value)

    def finish(self, claim: Claim, state: str, value: float | None = None, **notes: Any) -> None:
        """Ends a trial: complete, pruned, diverged or failed."""
        self.note(claim, state=state, **notes)
        # Of a pruned one Optuna takes the last value that was reported.
        final = value if state == "complete" else None
        self._study.tell(claim.number, final, _STATES.get(state, TrialState.FAIL))
        claim.release()

    def unfinished(self) -> int:
        """How many trials have not ended, those among them that are yet to be suggested."""
        ended = sum(trial.state.is_finished() for trial in self.frozen())
        return self.specification.trials - ended

    def _unclaimed(self, most: int) -> Iterator[FrozenTrial]:
        """Trials that a worker may have left, then waiting ones, then up to `most` suggestions:
        what is suggested before there are results is no better than random."""
        trials = self.frozen()
        yield from (trial for trial in trials if trial.state == TrialState.RUNNING)
        yield from (trial for trial in trials if trial.state == TrialState.WAITING)
        missing = self.specification.trials - len(trials)
        if self.specification.sampler == "tpe":
            yield from (self._suggest() for _ in range(min(most, missing)))

    def _suggest(self) -> FrozenTrial:
        """A new waiting trial: the next seed of the last configuration, or one by TPE."""
        trials, seeds = self.frozen(), self.specification.sweep.seeds
        if len(trials) % len(seeds):
            self._add(trials[-1].params)
        else:
            # A sampler of its own for every suggestion: workers would draw the same numbers.
            sampler = optuna.samplers.TPESampler(
                seed=(self.specification.seed << 20) + len(trials), constant_liar=True
            )
            draft = optuna.create_study(sampler=sampler, direction=self._study.direction)
            draft.add_trials([trial for trial in trials if trial.state != TrialState.WAITING])
            self._add(draft.ask(self._distributions).params)
        return self.frozen()[-1]

    def _add(self, params: Params) -> None:
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING, params=params, distributions=self._distributions
            )
        )

    def leave(self, claim: Claim) -> None:
        """Lets another worker go on with a trial, which was stopped after saving."""
        self.note(claim, attempts=0)
        claim.release()

    def _begin(self, trial: FrozenTrial) -> Claim | None:
        """Locks a trial and marks it as running; None where another worker has it, or where it is
        given up because it ended its workers."""
        lock = WorkdirLock(self.workdir(trial.number))
        try:
            lock.__enter__()
        except InUseError:
            return None
        # Its worker may have ended it, and let go of it, since the trials were listed.
        trial = self._storage.get_trial(trial._trial_id)
        if trial.state.is_finished():
            lock.__exit__()
            return None
        if trial.state == TrialState.WAITING:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        running = optuna.trial.Trial(self._study, trial._trial_id)
        workdir = self.workdir(trial.number)
        claim = Claim(trial.number, self.settings(trial), workdir, lock, running)
        notes = trial.user_attrs
        program = notes.get("program")
        saved = list_steps((workdir if program is None else self.program(program)) / "checkpoints")
        # Whoever got further since then is not what ends its workers.
        began_at, attempts = (saved[0] if saved else 0), notes.get("attempts", 0)
        if began_at > notes.get("began_at", 0):
            attempts = 0
        if attempts >= MAX_ATTEMPTS:
            self.finish(claim, "failed", reason=f"its worker was killed {attempts} times")
            return None
        self.note(claim, attempts=attempts + 1, began_at=began_at)
        return claim

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        """While entered, no other worker claims or adds a trial."""
        path = self.folder / "claims.lock"
        try:
            file = open(path, "w")  # noqa: SIM115
        except OSError as error:
            raise cannot_write(path, error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def known_points(specification: Specification) -> list[Params]:
    """The configurations that are known from the start: all but those that TPE will suggest."""
    space = specification.sweep.space
    match specification.sampler:
        case "grid":
            return draw_grid(space)
        case "random" | "pbt":
            return draw_random(space, specification.seed, specification.configurations)
        case "tpe":
            return []


def _open_storage(folder: Path, url: str | None) -> BaseStorage:
    if url is None:
        return open_journal(folder / "journal.log")
    try:
        return optuna.storages.get_storage(url)  # keeps what does not change
    except Exception as error:
        raise UserError(f"--storage: can't open the database: {error}") from error
