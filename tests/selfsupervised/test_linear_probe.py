"""LinearProbe: a converged, standardised fit, and honest baselines beside it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.dataset import Dataset
from research.errors import UserError
from research.selfsupervised import LinearProbe


@dataclass(frozen=True)
class Source:
    """Images of noise; the class is whether the first two pixels have the same sign."""

    size: int
    seed: int

    def open(self, data_dir):
        images = np.random.default_rng(self.seed).normal(size=(self.size, 2, 2, 1))
        labels = (images[:, 0, 0, 0] * images[:, 0, 1, 0] > 0).astype(np.int32)
        arrays = {"image": images.astype(np.float32) + 7.0, "label": labels}
        return Dataset(self.size, arrays)


@dataclass(frozen=True)
class Shift:
    by: float

    def __call__(self, rng, batch):
        return {**batch, "image": batch["image"] + self.by}


@dataclass(frozen=True)
class ProductFeatures:
    """Features that tell the classes where `params` is 1 and nothing where it is 0."""

    def init(self, rng, batch):
        assert batch["image"].shape == (2, 2, 2, 1)
        return {"params": jnp.zeros(())}

    def loss(self, params, collections, batch, rng):
        raise NotImplementedError

    def evaluate(self, params, collections, batch, rng):
        raise NotImplementedError

    def features(self, params, collections, batch):
        pixels = batch["image"].reshape(-1, 4)
        product = params * pixels[:, 0] * pixels[:, 1]
        return jnp.stack([1e3 * product, pixels[:, 2]], axis=-1)


def run(probe, objective: Any = None, params=1.0):
    objective = ProductFeatures() if objective is None else objective
    return probe(objective, {"params": jnp.float32(params)}, jax.random.key(0), "")


def test_beats_both_baselines_where_the_features_tell_the_classes():
    got = run(LinearProbe(Source(600, 0), Source(301, 1), transforms=(Shift(-7.0),)))
    assert got["accuracy"] > 0.97
    assert got["accuracy_untrained"] < 0.65
    assert got["accuracy_pixels"] < 0.65
    assert 0 < got["feature_std"] < 1.5


def test_transforms_come_before_the_features():
    """Around 7 the product no longer tells the signs apart."""
    got = run(LinearProbe(Source(600, 0), Source(300, 1)))
    assert got["accuracy"] < 0.8


def test_does_not_depend_on_the_features_scale():
    rows = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    labels = (rows.sum(-1) > 0).astype(np.int32)
    probe = LinearProbe(Source(2, 0), Source(2, 1))
    plain = probe.fit_and_score(rows[:200], labels[:200], rows[200:], labels[200:])
    scaled = rows * np.float32([1e3, 1.0, 1e-3]) + np.float32([50.0, 0.0, 0.0])
    assert plain > 0.97
    np.testing.assert_allclose(
        probe.fit_and_score(scaled[:200], labels[:200], scaled[200:], labels[200:]),
        plain,
        atol=0.01,
    )


def test_the_penalty_is_beside_the_mean_loss():
    """The same examples ten times over are the same problem, so they get the same answer."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 5)).astype(np.float32)
    labels = (rows[:, 0] + generator.normal(size=60) > 0).astype(np.int32)
    test_rows = generator.normal(size=(2000, 5)).astype(np.float32)
    probe = LinearProbe(Source(2, 0), Source(2, 1), regularization=1.0)
    guess = (test_rows[:, 0] > 0).astype(np.int32)
    once = probe.fit_and_score(rows, labels, test_rows, guess)
    tenfold = probe.fit_and_score(np.tile(rows, (10, 1)), np.tile(labels, 10), test_rows, guess)
    weak = LinearProbe(Source(2, 0), Source(2, 1), regularization=0.1)
    assert once == tenfold != weak.fit_and_score(rows, labels, test_rows, guess)


def test_max_train_takes_that_many_and_always_the_same(monkeypatch):
    fits = []

    def fit_and_score(self, features, labels, test_features, test_labels):
        fits.append((features, labels, len(test_labels)))
        return 0.5

    monkeypatch.setattr(LinearProbe, "fit_and_score", fit_and_score)
    probe = LinearProbe(Source(600, 0), Source(300, 1), max_train=12)
    run(probe)
    run(probe)
    assert [(len(features), len(labels), tested) for features, labels, tested in fits] == [
        (12, 12, 300)
    ] * 6
    np.testing.assert_array_equal(fits[0][0], fits[3][0])


def test_refuses_an_objective_without_features():
    with pytest.raises(UserError, match="Source has no `features`"):
        run(LinearProbe(Source(2, 0), Source(2, 1)), Source(2, 0))
