"""Knowledge distillation (Hinton, Vinyals, Dean, 2015)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.errors import ScopeParamShapeError
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Displays
from research.engine.metrics import Mean, accuracy, cross_entropy
from research.engine.objective import Aux, Batch, Collections, Params, Variables, split_variables
from research.errors import UserError
from research.vision.classification import Classification

_TEACHER = "teacher"


@dataclass(frozen=True)
class Distillation:
    """A small model learns from a trained one's probabilities.

    `teacher` is the folder of a finished run of a classifier, and `step` the checkpoint. It sees
    the batches as this run's transforms make them: those of its own evaluation, and augmentation.
    Its variables are in the checkpoints of this run.

    The loss is (1 - `soft_weight`) · cross-entropy + `soft_weight` · T² · KL(teacher ‖ student),
    both softmaxes of the latter at temperature T: the paper's section 2. A training batch's
    `label_probs` (mixed images) take the place of its labels. `test_time_augmentation` is the
    student's, as in `Classification`.
    """

    model: nn.Module
    teacher: str
    temperature: float = 4.0
    soft_weight: float = 0.9
    step: Literal["latest", "best"] = "latest"
    test_time_augmentation: Literal["none", "flip", "shift"] = "none"

    def __post_init__(self) -> None:
        for name, value, fits in (
            ("temperature", self.temperature, lambda x: x > 0),
            ("soft_weight", self.soft_weight, lambda x: 0 <= x <= 1),
        ):
            if isinstance(value, int | float) and not fits(value):
                raise UserError(f"{name} = {value}: a temperature is above 0, a weight in [0, 1]")
        if getattr(self.model, "auxiliary", False):
            raise UserError(
                "model.auxiliary = True: distillation would not train the auxiliary classifiers "
                f"of {type(self.model).__name__}; set it to False"
            )

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The student's variables, and the teacher's in a collection of their own.

        Raises UserError where the teacher takes no such images, or knows other classes.
        """
        teacher, variables = self._teacher.variables, self._student.init(rng, batch)
        try:
            theirs = jax.eval_shape(self._teacher_logits, teacher, batch).shape
        except (ValueError, ScopeParamShapeError) as error:
            raise UserError(
                f"teacher = {self.teacher!r}: does not take images of "
                f"{'×'.join(map(str, batch['image'].shape[1:]))}; it was trained on other data "
                f"({error})"
            ) from error
        ours = jax.eval_shape(self._student.logits, *split_variables(variables), batch).shape
        if theirs != ours:
            raise UserError(
                f"teacher = {self.teacher!r}: has {theirs[-1]} classes, the model {ours[-1]}"
            )
        return {**variables, _TEACHER: teacher}

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """As `Classification`'s."""
        self._student.check_data(arrays)

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean loss in nats; also `teacher_accuracy` and `agreement` of the two."""
        teacher, own = _apart(collections)
        soft = self._teacher_logits(teacher, batch)
        logits, own = self.model.apply(
            {"params": params, **own},
            batch["image"],
            train=True,
            mutable=list(own),
            rngs={"dropout": rng},
        )
        logits = logits.astype(jnp.float32)
        if "label_probs" in batch:
            hard = optax.softmax_cross_entropy(logits, batch["label_probs"])
            labels = batch["label_probs"].argmax(-1)
        else:
            hard, labels = cross_entropy(logits, batch["label"]), batch["label"]
        distance = optax.kl_divergence(
            jax.nn.log_softmax(logits / self.temperature), jax.nn.softmax(soft / self.temperature)
        )
        losses = (1 - self.soft_weight) * hard
        losses += self.soft_weight * self.temperature**2 * distance
        metrics = {
            "accuracy": accuracy(logits, labels),
            "teacher_accuracy": accuracy(soft, labels),
            "agreement": accuracy(logits, soft.argmax(-1)),
        }
        return losses.mean(), Aux(metrics, {**own, _TEACHER: teacher})

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The student's cross-entropy and accuracy, the teacher's accuracy, and how often the two
        agree."""
        teacher, own = _apart(collections)
        soft, logits = self._teacher_logits(teacher, batch), self.logits(params, own, batch)
        mask = batch.get("mask")
        return {
            **self._student.evaluate(params, own, batch, rng),
            "teacher_accuracy": accuracy(soft, batch["label"], mask),
            "agreement": accuracy(logits, soft.argmax(-1), mask),
        }

    def logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch classes"]:
        """The student's."""
        return self._student.logits(params, _apart(collections)[1], batch)

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch features"]:
        """What the student's last layer sees."""
        return self._student.features(params, _apart(collections)[1], batch)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """The student's confusion matrix and mistakes."""
        return self._student.show(params, _apart(collections)[1], batch, rng)

    def _teacher_logits(self, teacher: Variables, batch: Batch) -> Array:
        logits = self._teacher.objective.logits(*split_variables(teacher), batch)
        return jax.lax.stop_gradient(logits.astype(jnp.float32))

    @cached_property
    def _student(self) -> Classification:
        return Classification(self.model, test_time_augmentation=self.test_time_augmentation)

    @cached_property
    def _teacher(self) -> Any:
        from research.engine.restore import load_run

        try:
            with jax.ensure_compile_time_eval():  # `init` is traced, and reads files here
                run = load_run(self.teacher, self.step)
        except UserError as error:
            raise UserError(f"teacher: {error}") from error
        if not hasattr(run.objective, "logits"):
            kind = type(run.objective).__name__
            raise UserError(f"teacher = {self.teacher!r}: a run of {kind}, which has no `logits`")
        kind = getattr(run.objective, "loss_function", "softmax")
        if kind != "softmax":
            raise UserError(
                f"teacher = {self.teacher!r}: was trained with loss_function = {kind!r}, by which "
                "each class has a probability of its own; take a teacher whose are a softmax"
            )
        return run


def _apart(collections: Collections) -> tuple[Variables, Collections]:
    """The teacher's variables, and the student's collections."""
    own = {name: tree for name, tree in collections.items() if name != _TEACHER}
    return collections.get(_TEACHER, {}), own
