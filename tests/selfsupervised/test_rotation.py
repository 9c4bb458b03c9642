"""RotationPrediction: the right labels, the mean over all rotations, the plain features."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import log_softmax

from research.engine import metrics
from research.engine.objective import HasFeatures, HasShow, Objective
from research.errors import UserError
from research.selfsupervised import RotationPrediction
from research.selfsupervised.rotation import rotations
from research.vision import ConvNet
from tests.random_variables import random_variables


class Backbone(nn.Module):
    """A batch-normalised dense layer on pixels, as small as a backbone can be."""

    num_classes: int | None = 4
    dtype: str | None = None

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dense(5, dtype=self.dtype)(images.reshape(len(images), -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return x if self.num_classes is None else nn.Dense(self.num_classes, name="head")(x)


def batch_of(size):
    generator = np.random.default_rng(0)
    return {
        "image": jnp.asarray(generator.random((size, 4, 4, 1)), jnp.float32),
        "index": jnp.arange(size),
        "mask": jnp.ones(size),
    }


def init(objective, batch):
    variables = dict(random_variables(objective.init, batch))
    return variables.pop("params"), variables


def test_labels_count_quarter_turns():
    images = batch_of(3)["image"]
    turned, labels = rotations(images)
    assert turned.shape == (12, 4, 4, 1)
    for i, (image, label) in enumerate(zip(turned, labels, strict=True)):
        np.testing.assert_array_equal(image, np.rot90(images[i % 3], int(label)))
    np.testing.assert_array_equal(jnp.bincount(labels), [3, 3, 3, 3])


def test_loss_is_the_mean_over_all_rotations():
    objective, batch = RotationPrediction(Backbone()), batch_of(5)
    params, collections = init(objective, batch)
    loss, aux = jax.jit(objective.loss)(params, collections, batch, jax.random.key(1))
    turned = jnp.concatenate([jnp.rot90(batch["image"], k, (1, 2)) for k in range(4)])
    apply = functools.partial(Backbone().apply, train=True, mutable=["batch_stats"])
    logits, _ = jax.jit(apply)({"params": params, **collections}, turned)
    labels = np.repeat(np.arange(4), 5)
    expected = -log_softmax(np.asarray(logits, np.float64), -1)[np.arange(20), labels].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    right = np.asarray(logits).argmax(-1) == labels
    np.testing.assert_allclose(metrics.compute(aux.metrics)["accuracy"], right.mean(), rtol=1e-6)
    before, after = collections["batch_stats"], aux.collections["batch_stats"]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), before, after)))


def test_evaluation_is_the_same_in_any_batches(evaluate_in_parts):
    objective, batch = RotationPrediction(Backbone()), batch_of(6)
    whole, parts = evaluate_in_parts(objective, *init(objective, batch), batch)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(parts[name].total, whole[name].total, rtol=1e-6, err_msg=name)
        assert parts[name].weight == whole[name].weight == 24


def test_features_are_of_the_upright_image():
    objective, batch = RotationPrediction(Backbone()), batch_of(3)
    params, collections = init(objective, batch)
    features = objective.features(params, collections, batch)
    assert features.shape == (3, 5)
    logits = Backbone().apply({"params": params, **collections}, batch["image"])
    head = params["head"]
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, atol=1e-6)


def test_features_of_an_inner_stage_are_averaged_over_positions():
    model, batch = ConvNet(4, channels=(2, 3)), batch_of(3)
    objective = RotationPrediction(model, feature="stage_0")
    params, collections = init(objective, batch)
    features = jax.jit(objective.features)(params, collections, batch)
    apply = jax.jit(functools.partial(model.apply, method="features"))
    maps = apply({"params": params, **collections}, batch["image"])
    np.testing.assert_allclose(features, maps["stage_0"].mean((1, 2)), rtol=1e-6)


def test_shows_each_image_in_four_rotations():
    objective, batch = RotationPrediction(Backbone()), batch_of(3)
    pictures = objective.show(*init(objective, batch), batch, jax.random.key(0))["rotations"]
    assert pictures.columns == 3
    assert pictures.images.shape == (12, 4, 4, 1)
    assert [title.split(" → ")[0] for title in pictures.titles[::3]] == [
        "0°",
        "90°",
        "180°",
        "270°",
    ]


def test_bfloat16_computes_and_float32_remains():
    batch = batch_of(4)
    params, collections = init(RotationPrediction(Backbone()), batch)
    objective = RotationPrediction(Backbone(dtype="bfloat16"))
    loss, aux = jax.jit(objective.loss)(params, collections, batch, jax.random.key(0))
    leaves = jax.tree.leaves((loss, dict(aux.collections)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_refuses_what_cannot_work():
    rng = jax.random.key(0)
    with pytest.raises(UserError, match=r"returns 10 values.*model\.num_classes = 4"):
        jax.eval_shape(RotationPrediction(Backbone(10)).init, rng, batch_of(2))
    with pytest.raises(UserError, match="square, got 4x3"):
        jax.eval_shape(RotationPrediction(Backbone()).init, rng, {"image": jnp.zeros((2, 4, 3, 1))})
    with pytest.raises(UserError, match=r"feature = 'stage_9'.*did you mean 'stage_"):
        jax.eval_shape(RotationPrediction(ConvNet(4, (2, 3)), "stage_9").init, rng, batch_of(2))
    with pytest.raises(UserError, match=r"feature = 'stage_0': Backbone offers none"):
        jax.eval_shape(RotationPrediction(Backbone(), "stage_0").init, rng, batch_of(2))


def test_follows_the_protocols():
    for protocol in (Objective, HasFeatures, HasShow):
        assert isinstance(RotationPrediction(Backbone()), protocol), protocol.__name__
