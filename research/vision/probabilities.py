"""What a finished classifier or segmentation says of a batch, for the reports on it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array

from research.data.augment.transform import Transform, apply_transforms
from research.engine.objective import (
    Batch,
    HasProbabilities,
    Objective,
    Variables,
    split_variables,
)
from research.errors import UserError


def probabilities_of(
    objective: Objective, transforms: Sequence[Transform], asked_by: object
) -> Callable[[Variables, Batch], tuple[Array, Batch]]:
    """The function that gives the probabilities of the classes, last axis, of a batch after the
    transforms, and that batch: the softmax of the logits, or what the objective takes them for.

    Raises UserError, in the name of the report that asked, where the objective has no `logits`.
    """
    logits_of: Any = getattr(objective, "logits", None)
    if logits_of is None:
        raise UserError(f"{type(asked_by).__name__}: {type(objective).__name__} has no `logits`")
    normalise: Any = (
        objective.probabilities if isinstance(objective, HasProbabilities) else jax.nn.softmax
    )

    def probabilities(variables: Variables, batch: Batch) -> tuple[Array, Batch]:
        batch = apply_transforms(transforms, jax.random.key(0), batch)
        return normalise(logits_of(*split_variables(variables), batch)), batch

    return probabilities
