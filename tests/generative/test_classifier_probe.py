"""ClassifierProbe: what it counts, and that the classifier sees what its own run would."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import research.engine.restore
from research.engine.display import Images, Text
from research.errors import UserError
from research.generative import ClassifierProbe
from research.generative.classifier_probe import shares


@dataclass(frozen=True)
class Generator:
    """Samples whose every pixel is `params`, one grey level a class by turns."""

    def init(self, rng, batch):
        return {"params": jnp.zeros(())}

    def loss(self, params, collections, batch, rng):
        raise NotImplementedError

    def evaluate(self, params, collections, batch, rng):
        raise NotImplementedError

    def generate(self, params, collections, rng, *, num_samples=64):
        levels = jnp.arange(num_samples) % 4 / 4 + params
        return {
            "samples": Images(jnp.broadcast_to(levels[:, None, None, None], (num_samples, 2, 2, 1)))
        }


@dataclass(frozen=True)
class GreyClassifier:
    """Names the quarter of the range [0, 10) a picture's level is in; unsure about the last."""

    def logits(self, params, collections, batch):
        level = batch["image"].mean((1, 2, 3))
        confident = jax.nn.one_hot((level / 2.5).astype(jnp.int32), 4) * params
        return jnp.where((level >= 7.5)[:, None], confident / 100, confident)


@dataclass(frozen=True)
class Run:
    objective: object
    params: object = 10.0
    collections: object = ()

    def preprocess(self, batch):
        return {"image": batch["image"] * 10.0}


def load(monkeypatch, run):
    calls = []

    def load_run(workdir, step):
        calls.append((workdir, step))
        return run

    monkeypatch.setattr(research.engine.restore, "load_run", load_run)
    return calls


def test_counts_confident_samples_and_classes(monkeypatch):
    calls = load(monkeypatch, Run(GreyClassifier()))
    probe = ClassifierProbe("runs/lenet", num_samples=602, step="best")
    got = probe(Generator(), {"params": jnp.float32(0.0)}, jax.random.key(0), "")
    assert calls == [("runs/lenet", "best")]
    expected = {"class_0": 151, "class_1": 151, "class_2": 150, "class_3": 150}
    assert set(got) == {"confident", "smallest_class", *expected}
    for name, count in expected.items():
        np.testing.assert_allclose(got[name], count / 602, err_msg=name)
    np.testing.assert_allclose(got["confident"], (602 - 150) / 602)
    np.testing.assert_allclose(got["smallest_class"], 150 / 602)


def test_takes_logits_for_what_the_classifier_takes_them(monkeypatch):
    class Each(GreyClassifier):
        def probabilities(self, logits):
            return jax.nn.sigmoid(logits)

    # The sigmoid of the right class's 10 is sure; its softmax would be, too, but for the other
    # classes' 9.
    class Close(Each):
        def logits(self, params, collections, batch):
            return super().logits(params, collections, batch).at[:, 3].set(9.0)

    load(monkeypatch, Run(Close()))
    probe = ClassifierProbe("runs/lenet", num_samples=8)
    got = probe(Generator(), {"params": jnp.float32(0.0)}, jax.random.key(0), "")
    assert got["confident"] == 1.0


def test_shares_of_a_class_that_never_comes():
    got = shares(np.array([[0.95, 0.05, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]]), 0.9)
    assert got["class_2"] == got["smallest_class"] == 0
    np.testing.assert_allclose([got["confident"], got["class_0"]], [2 / 3, 2 / 3])


def test_refuses_what_does_not_fit(monkeypatch):
    probe, variables, rng = ClassifierProbe("runs/vae"), {"params": 0.0}, jax.random.key(0)
    load(monkeypatch, Run(Generator()))
    with pytest.raises(UserError, match=r"runs/vae.*Generator.*classifier's run"):
        probe(Generator(), variables, rng, "")
    with pytest.raises(UserError, match="GreyClassifier does not generate"):
        probe(GreyClassifier(), variables, rng, "")
    for unfit in (Generator(), GreyClassifier()):
        with pytest.raises(UserError):
            probe.check(unfit, variables, "")

    class Writer(Generator):
        def generate(self, params, collections, rng, *, num_samples=64):
            return {"texts": Text(["a"])}

    load(monkeypatch, Run(GreyClassifier()))
    with pytest.raises(UserError, match="texts"):
        probe(Writer(), variables, rng, "")
    with pytest.raises(UserError, match="texts"):
        probe.check(Writer(), variables, "")
    probe.check(Generator(), variables, "")


def test_a_run_that_is_not_there_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match="no run here"):
        ClassifierProbe(str(tmp_path)).check(Generator(), {"params": 0.0}, "")
