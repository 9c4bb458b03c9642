"""A finished or stopped run, loaded to be evaluated, drawn from or composed into another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from research.data.augment.transform import apply_transforms
from research.engine import checkpoint
from research.engine.actions import Moment
from research.engine.checkpoint import Restored
from research.engine.config import build, check_experiment
from research.engine.duration import Steps
from research.engine.experiment import Checkpoints, Experiment, Parallelism
from research.engine.files import read_json
from research.engine.fingerprint import check_fingerprints
from research.engine.loop import measuring_actions
from research.engine.objective import Batch, Collections, Objective, Params, Variables
from research.engine.parallel import Jit, Parallel, Vmap
from research.engine.prepare import prepare, trial_arrays
from research.engine.program import make_program
from research.engine.record import Record
from research.engine.state import TrainState
from research.errors import UserError

Which = int | Literal["latest", "best"]


@dataclass(frozen=True)
class LoadedRun:
    """A run's objective and the parameters of one of its checkpoints (its first trial's)."""

    experiment: Experiment
    objective: Objective
    step: int
    params: Params
    collections: Collections
    transforms: tuple[Any, ...]

    @property
    def variables(self) -> Variables:
        """Parameters and collections together."""
        return {"params": self.params, **self.collections}

    def preprocess(self, batch: Batch) -> Batch:
        """A batch as the run's evaluation sees it; its transforms must need no randomness."""
        return apply_transforms(self.transforms, jax.random.key(0), batch)


def load_run(workdir: str | Path, step: Which = "latest") -> LoadedRun:
    """Loads a run's objective and evaluated parameters, on one device, without its data.

    Raises:
      UserError: where the folder holds no run, or no good checkpoint of this step, and where a
        file that the objective reads has changed since.
    """
    workdir = Path(workdir)
    experiment = read_experiment(workdir)
    check_fingerprints(experiment.objective, workdir, "objective")
    parallel, restored = load_checkpoint(experiment, workdir, step)
    state = parallel.trials(restored.state)[0]
    evaluations = [*experiment.evaluations.items()]
    transforms: tuple[Any, ...] = ()
    if evaluations:
        name, settings = evaluations[0]
        transforms = build(settings.transforms, f"evaluations.{name}.transforms")
    objective = build(experiment.objective, "objective")
    return LoadedRun(
        experiment,
        objective,
        restored.step,
        state.evaluated_params,
        state.evaluated_collections,
        transforms,
    )


def evaluate_run(
    workdir: Path, step: Which, data_dir: Path, names: Sequence[str]
) -> tuple[int, dict[str, Any]]:
    """The numbers of a run's evaluations and probes of these names, and the step they are of."""
    experiment = read_experiment(workdir)
    wanted = replace(
        experiment,
        evaluations={k: v for k, v in experiment.evaluations.items() if k in names},
        probes={k: v for k, v in experiment.probes.items() if k in names},
        reference=None,
        early_stopping=None,
        checkpoints=Checkpoints(),
    )
    check_fingerprints(wanted, workdir)
    run = prepare(wanted, data_dir)
    run.check_examples(workdir)
    _, restored = load_checkpoint(experiment, workdir, step)
    moment = Moment(restored.step, last=True, state=restored.state)
    with Record(workdir, enabled=False) as record:
        for action in measuring_actions(run, data_dir, record).values():
            action(moment)
    measured = {name: np.asarray(value).tolist() for name, value in moment.measured.items()}
    return restored.step, measured


def read_experiment(workdir: Path) -> Experiment:
    """The experiment of a run's folder, to run on one device whatever it was trained on."""
    if not (workdir / "config.json").is_file():
        raise UserError(
            f"{workdir}: no run here (no config.json); give the folder of a run, its --workdir"
        )
    experiment = check_experiment(read_json(workdir / "config.json"))
    if experiment.parallelism.mode == "vmap":
        return experiment
    return replace(experiment, parallelism=Parallelism())


def load_checkpoint(
    experiment: Experiment, workdir: Path, step: Which
) -> tuple[Parallel, Restored[TrainState]]:
    """One of a run's checkpoints, with the logical state."""
    data: Mapping[str, Any] = read_json(workdir / "data.json")
    steps = Steps(data["total_steps"], data["steps_per_epoch"], experiment.data.batch_size)
    program = make_program(experiment, steps, None)
    example = {name: jnp.zeros(shape, dtype) for name, (shape, dtype) in data["example"].items()}
    parallel = Vmap() if experiment.parallelism.mode == "vmap" else Jit()
    target = parallel.restore_target(program.init, trial_arrays(experiment), example)
    if step == "best" and experiment.checkpoints.best_metric is None:
        raise UserError(
            f"{workdir}: the run named no checkpoints.best_metric, so none is best; "
            "say latest or a step"
        )
    return parallel, checkpoint.restore(workdir / "checkpoints", target, step)
