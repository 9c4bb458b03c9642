"""What a run optimises: the protocol every objective of every family follows.

An objective is a frozen dataclass that holds Linen modules and numbers and offers pure
functions. `Objective` is what each one must have; the protocols below it are what one may
have besides, found by `isinstance`, so that adversarial and teacher-student training are
data in the one train step instead of other trainers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float, PRNGKeyArray

from research.engine.display import Displays
from research.engine.metrics import Mean

Batch = Mapping[str, Array]
Params = Mapping[str, Any]
Collections = Mapping[str, Any]
Variables = Mapping[str, Any]


class Aux(NamedTuple):
    """What a loss returns beside its value.

    `weight` is the number of units the loss is a mean over (examples, tokens). It may stay 1
    where every micro-batch and device sees equally many; with masked tokens it is what makes
    the accumulated gradient that of the large batch.
    """

    metrics: Mapping[str, Mean] = FrozenDict()
    collections: Collections = FrozenDict()
    weight: Float[Array, ""] | float = 1.0


Loss = Callable[[Params, Collections, Batch, PRNGKeyArray], tuple[Float[Array, ""], Aux]]


@runtime_checkable
class Objective(Protocol):
    """What a run optimises."""

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """Linen's own dict: `params` and other collections (`batch_stats`, a teacher, …)."""
        ...

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean loss over the batch in float32, metrics, and the collections that changed."""
        ...

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Metrics over a padded batch: `batch["mask"]` is 0 where an example is padding.

        Noise must be drawn by `example_keys(rng, batch)`, so that an example's draw does not
        depend on the batch it is in.
        """
        ...


@dataclass(frozen=True)
class Player:
    """One of several players that take turns in a step: it trains `modules`, the top-level
    entries of params, on its own loss with its own optimizer."""

    name: str
    modules: tuple[str, ...]
    loss: Loss


@runtime_checkable
class HasPlayers(Protocol):
    """An objective whose parameter groups have losses of their own (GANs); `loss` is unused."""

    def players(self) -> tuple[Player, ...]:
        """The players in the order of their turns; each sees the updates of those before."""
        ...


@runtime_checkable
class HasCheckData(Protocol):
    """An objective that can tell whether data fit it, before anything is compiled."""

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where an opened data set's arrays (host, whole) do not fit."""
        ...


@runtime_checkable
class HasAfterUpdate(Protocol):
    """An objective with state that follows the parameters: teachers, codebooks."""

    def after_update(
        self, params: Params, collections: Collections, progress: Float[Array, ""]
    ) -> Collections:
        """The collections after an update; `progress` in [0, 1] is the share of training done."""
        ...


@runtime_checkable
class HasSummarize(Protocol):
    """An objective with metrics that follow from others, such as a mean over classes."""

    def summarize(self, metrics: Mapping[str, Any]) -> Mapping[str, Any]:
        """More metrics, by name, from those that `evaluate` gave over the whole data set: float64
        arrays, of one entry a trial or of none."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """An objective that learns a representation."""

    def features(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch features"]:
        """The representation of each example, as used downstream."""
        ...


@runtime_checkable
class HasProbabilities(Protocol):
    """A classifier that says which probabilities its logits stand for; else it is their softmax."""

    def probabilities(
        self, logits: Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch classes"]:
        """Those of the classes of these logits, in [0, 1]."""
        ...


@runtime_checkable
class HasShow(Protocol):
    """An objective with something to look at."""

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Pictures and texts of an evaluation batch, by name."""
        ...


@runtime_checkable
class HasGenerate(Protocol):
    """An objective that generates. Keyword arguments are the command's options."""

    def generate(
        self, params: Params, collections: Collections, rng: PRNGKeyArray, **options: Any
    ) -> Displays:
        """Samples by name; each implementation spells its keyword-only options out."""
        ...


@runtime_checkable
class HasStream(Protocol):
    """An objective that writes text while one looks on. Keyword arguments are the command's
    options."""

    def stream(
        self, params: Params, collections: Collections, rng: PRNGKeyArray, **options: Any
    ) -> Iterator[str]:
        """The text so far, again and again, each beginning with the one before; implementations
        spell their keyword-only options out."""
        ...


@runtime_checkable
class Probe(Protocol):
    """Something measured on trained parameters that is not a mean over one data set's examples:
    a linear probe on frozen features, a classifier's verdict on samples."""

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """Numbers by name."""
        ...

    def metric_names(self) -> Sequence[str]:
        """Those of the numbers that settings such as `checkpoints.best_metric` may name."""
        ...


@runtime_checkable
class HasCheck(Protocol):
    """A probe that can say before training whether it will be able to measure."""

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where it will not: data that is not there or does not fit, an objective
        that lacks what it needs. `variables` has shapes and types only."""
        ...


@runtime_checkable
class InitialVariables(Protocol):
    """Where a run's variables come from, some or all, instead of their initialisers."""

    def __call__(
        self, objective: Objective, variables: Mapping[str, jax.ShapeDtypeStruct]
    ) -> Mapping[str, np.ndarray]:
        """Arrays by path, such as "params/head/kernel", for those of these variables that are
        taken.

        Raises UserError where they do not fit.
        """
        ...


@runtime_checkable
class HasOrigin(Protocol):
    """Initial variables that may be those of another run."""

    def origin(self) -> Path | None:
        """The folder of the run whose tokens must be this one's; None where there is none."""
        ...


def split_variables(variables: Variables) -> tuple[Params, Collections]:
    """The parameters, and all other collections by name."""
    return variables["params"], {k: tree for k, tree in variables.items() if k != "params"}


def example_keys(rng: PRNGKeyArray, batch: Batch) -> PRNGKeyArray:
    """One key an example of an evaluation batch, from its place `batch["index"]` in the data."""
    return jax.vmap(lambda index: jax.random.fold_in(rng, index))(batch["index"])
