"""Linear evaluation: how well a linear classifier does on frozen features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.data.augment.transform import apply_transforms
from research.data.dataset import Dataset, Source
from research.engine.objective import Batch, HasFeatures, Objective, Variables, split_variables
from research.errors import UserError
from research.selfsupervised.byol import feature_std

_BATCH_SIZE = 500
Features = Float[np.ndarray, "examples features"]
Labels = Int[np.ndarray, " examples"]


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on the features of `train`, scored on `test`.

    Features are standardised by the training set's mean and standard deviation. The penalty is
    regularization / 2 · ‖W‖² beside the *mean* cross-entropy, so it means the same for any
    number of examples. `transforms` are applied to the images first and must need no
    randomness; `max_train` takes that many training examples, chosen by a fixed permutation.

    The same classifier is fitted to the features of the untrained network and to the raw
    pixels: a representation that does not beat both has not been learnt.
    """

    train: Source
    test: Source
    transforms: tuple[Any, ...] = ()
    max_train: int | None = None
    regularization: float = 1e-4
    max_iterations: int = 1000

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`accuracy`, `accuracy_untrained` and `accuracy_pixels` on `test`, and `feature_std`.

        Raises UserError where the objective has no features.
        """
        datasets, features_of = self._open(data_dir), self._features_of(objective)
        order = np.random.default_rng(0).permutation(datasets[0].size)
        rows = [np.sort(order[: self.max_train]), np.arange(datasets[1].size)]

        of_network = jax.jit(features_of)

        @jax.jit
        def of_pixels(batch: Batch) -> Array:
            return self._transform(batch)["image"]

        def accuracy(featurize: Callable[[Batch], Array]) -> tuple[float, Features]:
            train, test = (
                _featurize(featurize, dataset, indices)
                for dataset, indices in zip(datasets, rows, strict=True)
            )
            score = self.fit_and_score(*train, *test)
            return score, test[0]

        first = self._transform(datasets[0].gather(datasets[0].arrays, rows[0][:2]))
        learned, features = accuracy(partial(of_network, variables))
        untrained, _ = accuracy(partial(of_network, jax.jit(objective.init)(rng, first)))
        pixels, _ = accuracy(of_pixels)
        return {
            "accuracy": learned,
            "accuracy_untrained": untrained,
            "accuracy_pixels": pixels,
            "feature_std": float(feature_std(jnp.asarray(features))),
        }

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing or does not fit the objective's features."""
        for name, dataset in zip(("train", "test"), self._open(data_dir), strict=True):
            batch = dataset.gather(dataset.arrays, np.arange(min(2, dataset.size)))
            if "label" not in batch:
                raise UserError(f"{name}: its examples have no `label`")
            jax.eval_shape(self._features_of(objective), variables, batch)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns."""
        return ("accuracy", "accuracy_untrained", "accuracy_pixels", "feature_std")

    def fit_and_score(
        self, features: Features, labels: Labels, test_features: Features, test_labels: Labels
    ) -> float:
        """The accuracy on the test examples of a classifier fitted to the others."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        classifier = LogisticRegression(
            C=1.0 / (self.regularization * len(labels)), max_iter=self.max_iterations
        )
        fitted = make_pipeline(StandardScaler(), classifier).fit(features, labels)
        return float(fitted.score(test_features, test_labels))

    def _open(self, data_dir: str) -> list[Dataset]:
        return [source.open(Path(data_dir)) for source in (self.train, self.test)]

    def _transform(self, batch: Batch) -> Batch:
        return apply_transforms(self.transforms, jax.random.key(0), batch)

    def _features_of(self, objective: Objective) -> Callable[[Variables, Batch], Array]:
        if not isinstance(objective, HasFeatures):
            raise UserError(f"LinearProbe: {type(objective).__name__} has no `features`")

        def features_of(variables: Variables, batch: Batch) -> Array:
            return objective.features(*split_variables(variables), self._transform(batch))

        return features_of


def _featurize(
    featurize: Callable[[Batch], Array], dataset: Any, indices: Int[np.ndarray, " examples"]
) -> tuple[Features, Labels]:
    features, labels = [], []
    for start in range(0, len(indices), _BATCH_SIZE):
        batch = dataset.gather(dataset.arrays, indices[start : start + _BATCH_SIZE])
        labels.append(np.asarray(batch["label"]))
        outputs = np.asarray(featurize(batch))
        features.append(outputs.reshape(len(outputs), -1))
    return np.concatenate(features), np.concatenate(labels)
