"""A trained classifier's verdict on a generative model's samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Images
from research.engine.objective import (
    Batch,
    Collections,
    HasGenerate,
    HasProbabilities,
    Objective,
    Params,
    Variables,
    split_variables,
)
from research.errors import UserError

_BATCH_SIZE = 500


@runtime_checkable
class Classifier(Protocol):
    """An objective that names the class of an image."""

    def logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch classes"]:
        """Logits of the classes, in evaluation mode."""
        ...


@dataclass(frozen=True)
class ClassifierProbe:
    """How sure a finished run's classifier is of samples, and how evenly they fall into classes.

    `workdir` is that run's folder and `step` the checkpoint. The samples, with values in [0, 1],
    go through the transforms of the run's first evaluation. Returned are, as shares of
    `num_samples`: `confident`, samples whose most probable class has a probability of at least
    `confidence`; `class_0`, `class_1`, …, samples whose most probable class it is; and
    `smallest_class`, the least of these.
    """

    workdir: str
    num_samples: int = 10_000
    confidence: float = 0.9
    step: Literal["latest", "best"] = "latest"

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """The shares, each in [0, 1].

        Raises UserError as `check`.
        """
        run = self._load(objective)
        probabilities = jax.jit(_probabilities_of(objective, run))
        theirs = run.params, run.collections
        count = -(-self.num_samples // _BATCH_SIZE)
        parts = [probabilities(variables, *theirs, key) for key in jax.random.split(rng, count)]
        return shares(np.concatenate(parts)[: self.num_samples], self.confidence)

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where the run is missing or no classifier, or the objective does not
        generate images under the name `samples`."""
        run = self._load(objective)
        arguments = variables, run.params, run.collections, jax.random.key(0)
        jax.eval_shape(_probabilities_of(objective, run), *arguments)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns for every classifier."""
        return ("confident", "smallest_class")

    def _load(self, objective: Objective) -> Any:
        from research.engine.restore import load_run

        if not isinstance(objective, HasGenerate):
            raise UserError(f"ClassifierProbe: {type(objective).__name__} does not generate")
        run = load_run(self.workdir, self.step)
        if not isinstance(run.objective, Classifier):
            raise UserError(
                f"ClassifierProbe: workdir={self.workdir!r} is a run of "
                f"{type(run.objective).__name__}, which has no `logits`; name a classifier's run"
            )
        return run


def _probabilities_of(
    objective: Any, run: Any
) -> Callable[[Variables, Params, Collections, PRNGKeyArray], Float[Array, "batch classes"]]:
    """What the run's classifier, with its variables, says of samples of the objective."""
    normalise: Any = (
        run.objective.probabilities
        if isinstance(run.objective, HasProbabilities)
        else jax.nn.softmax
    )

    def probabilities_of(
        variables: Variables, run_params: Params, run_collections: Collections, rng: PRNGKeyArray
    ) -> Float[Array, "batch classes"]:
        params, collections = split_variables(variables)
        options: dict[str, Any] = {"num_samples": _BATCH_SIZE}
        displays = objective.generate(params, collections, rng, **options)
        samples = displays.get("samples")
        if not isinstance(samples, Images):
            raise UserError(
                f"ClassifierProbe: {type(objective).__name__}.generate returned no images "
                f"named `samples`, but {sorted(displays)}"
            )
        batch = run.preprocess({"image": jnp.asarray(samples.images)})
        return normalise(run.objective.logits(run_params, run_collections, batch))

    return probabilities_of


def shares(
    probabilities: Float[np.ndarray, "samples classes"], confidence: float
) -> dict[str, float]:
    """The numbers of `ClassifierProbe` from each sample's class probabilities."""
    num_samples, num_classes = probabilities.shape
    counts = np.bincount(probabilities.argmax(-1), minlength=num_classes)
    per_class = {f"class_{i}": float(count / num_samples) for i, count in enumerate(counts)}
    return {
        "confident": float(np.mean(probabilities.max(-1) >= confidence)),
        "smallest_class": min(per_class.values()),
        **per_class,
    }
