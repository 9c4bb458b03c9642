"""Which settings the value depends on."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.reports.axes import Axis, axes_of
from launch.reports.seeds import SEED
from launch.reports.values import score, wants_logarithm
from launch.trials import Trial, Trials

MIN_TRIALS = 8
EVALUATOR = "fANOVA"


@dataclass(frozen=True)
class Importance:
    """Shares of the variance of the value, or of its logarithm, by setting, the largest first; or
    why there are none."""

    axes: tuple[Axis, ...] = ()
    shares: tuple[float, ...] = ()
    num_trials: int = 0
    of_logarithm: bool = False
    missing: str = ""


def importance_of(trials: Trials) -> Importance:
    """How much of the variance of the complete trials' values each setting explains, by Optuna's
    fANOVA (a random forest over the settings), the same at every call.

    The seed is among them where every seed has several trials: it tells what chance amounts to.
    """
    ended = [trial for trial in trials.trials if score(trial) is not None]
    values = [value for value in map(score, ended) if value is not None]
    axes = axes_of(ended, () if seeds_repeat(ended) else (SEED,))
    if len(ended) < MIN_TRIALS:
        return Importance(
            missing=f"Importance needs at least {MIN_TRIALS} complete trials; there are "
            f"{len(ended)}."
        )
    if len(axes) < 2:
        which = f"only {axes[0].path} varies" if axes else "none varies but the seed"
        return Importance(missing=f"Importance compares settings; {which}.")
    if len(set(values)) == 1:
        return Importance(missing="All trials have the same value: no setting is important.")
    logarithm = wants_logarithm(values, trials.mode)
    shares = _fanova(axes, [math.log(value) for value in values] if logarithm else values)
    order = sorted(range(len(axes)), key=lambda place: -shares[place])
    return Importance(
        tuple(axes[place] for place in order),
        tuple(shares[place] for place in order),
        len(ended),
        logarithm,
    )


def axes_by_importance(trials: Trials, importance: Importance) -> list[Axis]:
    """The axes of the complete trials without the seed, the most important first."""
    ended = [trial for trial in trials.trials if score(trial) is not None]
    order = [axis.path for axis in importance.axes]
    axes = axes_of(ended, (SEED,))
    return sorted(axes, key=lambda axis: order.index(axis.path)) if order else axes


def seeds_repeat(trials: Sequence[Trial]) -> bool:
    """Whether every seed has several trials, so that seeds can be compared."""
    seeds = [trial.settings.get(SEED) for trial in trials]
    return all(seeds.count(seed) > 1 for seed in set(seeds))


def _fanova(axes: Sequence[Axis], values: Sequence[float]) -> list[float]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distributions = {axis.path: _distribution(axis) for axis in axes}
            study = optuna.create_study()
            for row, value in enumerate(values):
                params = {axis.path: _value(axis, row) for axis in axes}
                study.add_trial(
                    optuna.trial.create_trial(
                        params=params, distributions=distributions, value=value
                    )
                )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(before)
    return [float(shares[axis.path]) for axis in axes]


def _distribution(axis: Axis) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.kind == "category":
        return CategoricalDistribution(axis.categories)
    low, high = min(axis.places), max(axis.places)
    if axis.whole:
        return IntDistribution(int(low), int(high), log=axis.kind == "log")
    return FloatDistribution(low, high, log=axis.kind == "log")


def _value(axis: Axis, row: int) -> Any:
    place = axis.places[row]
    if axis.kind == "category":
        return axis.categories[int(place)]
    return int(place) if axis.whole else place
