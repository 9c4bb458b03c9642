"""BYOL: published numbers, what learns, what follows, and what an evaluation depends on."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.engine import metrics
from research.engine.objective import HasAfterUpdate, HasFeatures, HasShow, Objective
from research.selfsupervised import BYOL, ProjectionMLP
from research.selfsupervised.byol import feature_std, regression_losses
from tests.parity import Fixture, load_table


class Backbone(nn.Module):
    """A batch-normalised dense layer on pixels, as small as a backbone can be."""

    dtype: str | None = None

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dense(5, dtype=self.dtype)(images.reshape(len(images), -1))
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))


@dataclass(frozen=True)
class Noise:
    """A view that differs by image and by key."""

    std: float = 0.3

    def __call__(self, rng, batch):
        return {
            **batch,
            "image": batch["image"] + self.std * jax.random.normal(rng, batch["image"].shape),
        }


def small_byol(dtype=None, views=(Noise(),)):
    networks = Backbone(dtype), ProjectionMLP(6, 4, dtype), ProjectionMLP(6, 4, dtype)
    return BYOL(*networks, views, base_momentum=0.9)


def batch_of(size):
    generator = np.random.default_rng(0)
    return {
        "image": jnp.asarray(generator.random((size, 4, 4, 1)), jnp.float32),
        "index": jnp.arange(size),
        "mask": jnp.ones(size),
    }


@pytest.fixture(scope="module")
def state():
    variables = dict(jax.jit(small_byol().init)(jax.random.key(0), batch_of(2)))
    return variables.pop("params"), variables


@pytest.fixture(scope="module")
def step(state):
    """Gradient and aux of the loss on one batch."""
    grad = jax.jit(jax.value_and_grad(small_byol().loss, has_aux=True))
    (loss, aux), grads = grad(*state, batch_of(6), jax.random.key(1))
    return loss, aux, grads


def different(first, second):
    return jax.tree.map(lambda a, b: bool((a != b).any()), first, second)


def test_teacher_starts_as_the_online_network_without_predictor(state):
    params, collections = state
    teacher = collections["teacher"]
    assert set(params) == {"backbone", "projector", "predictor"}
    assert set(teacher["params"]) == set(teacher["batch_stats"]) == {"backbone", "projector"}
    for name in ("backbone", "projector"):
        jax.tree.map(np.testing.assert_array_equal, teacher["params"][name], params[name])


def test_loss_lies_between_0_and_8_and_metrics_follow_from_it(step):
    loss, aux, _ = step
    assert 0 < loss < 8
    got = metrics.compute(aux.metrics)
    np.testing.assert_allclose(got["cosine"], 1 - loss / 4, rtol=1e-6)
    assert 0 < got["feature_std"] < 1.5


def test_only_the_online_network_learns_and_the_teacher_keeps_its_own_statistics(state, step):
    _, collections = state
    _, aux, grads = step
    learning = {"backbone": "Dense_0", "projector": "dense_0", "predictor": "dense_1"}
    for name, layer in learning.items():
        assert (grads[name][layer]["kernel"] != 0).any(), name
    assert jax.tree.structure(dict(aux.collections)) == jax.tree.structure(dict(collections))
    teacher, moved = collections["teacher"], aux.collections["teacher"]
    assert all(jax.tree.leaves(different(teacher["batch_stats"], moved["batch_stats"])))
    assert all(
        jax.tree.leaves(different(collections["batch_stats"], aux.collections["batch_stats"]))
    )
    jax.tree.map(np.testing.assert_array_equal, teacher["params"], moved["params"])


def test_targets_have_no_gradient(state):
    params, collections = state

    def loss_of_teacher(teacher_params):
        teacher = {**collections["teacher"], "params": teacher_params}
        return small_byol().loss(
            params, {**collections, "teacher": teacher}, batch_of(6), jax.random.key(1)
        )[0]

    grads = jax.jit(jax.grad(loss_of_teacher))(collections["teacher"]["params"])
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), grads)


@pytest.mark.parametrize(
    ("progress", "momentum"),
    [(0.0, 0.9), (0.5, 0.95), (0.25, 1 - 0.05 * (1 + math.cos(math.pi / 4))), (1.0, 1.0)],
)
def test_teacher_follows_the_moving_average(state, progress, momentum):
    params, collections = state
    online = jax.tree.map(lambda leaf: leaf + 1.0, params)
    after = small_byol().after_update(online, collections, jnp.asarray(progress))
    for name in ("backbone", "projector"):
        expected = jax.tree.map(
            lambda old, new: momentum * old + (1 - momentum) * new,
            collections["teacher"]["params"][name],
            online[name],
        )
        jax.tree.map(
            lambda got, want: np.testing.assert_allclose(got, want, atol=1e-6),
            after["teacher"]["params"][name],
            expected,
        )
    kept = {**after, "teacher": {**after["teacher"], "params": collections["teacher"]["params"]}}
    jax.tree.map(np.testing.assert_array_equal, kept, dict(collections))


def test_evaluation_is_the_same_in_any_batches(state, evaluate_in_parts):
    whole, parts = evaluate_in_parts(small_byol(), *state, batch_of(6))
    assert set(whole) == {"loss", "cosine"}
    for name in whole:
        np.testing.assert_allclose(parts[name].total, whole[name].total, rtol=1e-6, err_msg=name)
        assert parts[name].weight == whole[name].weight == 6


def test_the_two_views_differ_and_are_applied_in_order(state):
    batch = batch_of(3)
    shown = small_byol().show(*state, batch, jax.random.key(0))["views"]
    assert shown.columns == 3
    assert shown.images.shape == (9, 4, 4, 1)
    assert not np.allclose(shown.images[3:6], shown.images[6:])

    def times_zero(rng, batch):
        return {**batch, "image": 0 * batch["image"]}

    last = small_byol(views=(Noise(), times_zero)).show(*state, batch, jax.random.key(0))["views"]
    np.testing.assert_array_equal(last.images[3:], 0)


def test_features_are_the_online_backbones(state):
    params, collections = state
    batch = batch_of(3)
    variables = {
        "params": params["backbone"],
        "batch_stats": collections["batch_stats"]["backbone"],
    }
    np.testing.assert_allclose(
        small_byol().features(params, collections, batch),
        Backbone().apply(variables, batch["image"]),
        rtol=1e-6,
    )


def test_bfloat16_computes_and_float32_remains(state):
    loss = jax.jit(small_byol(dtype="bfloat16").loss)
    value, aux = loss(*state, batch_of(4), jax.random.key(0))
    leaves = jax.tree.leaves((value, dict(aux.collections)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_feature_std_is_1_for_spread_and_0_for_collapsed_features():
    spread = jax.random.normal(jax.random.key(0), (4000, 64))
    np.testing.assert_allclose(feature_std(spread), 1.0, rtol=0.01)
    np.testing.assert_allclose(feature_std(jnp.ones((10, 64))), 0.0, atol=1e-6)


def test_loss_of_one_view_equals_the_published_value_and_gradient():
    table = load_table("contrastive_losses")
    a, b = (np.asarray(table["inputs"][name], np.float64) for name in "ab")
    expected = table["outputs"]["byol_half"]
    with jax.enable_x64(True):
        value, grad = jax.value_and_grad(lambda a: regression_losses(a, b).mean())(jnp.asarray(a))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-12)
    np.testing.assert_allclose(grad, expected["grad"]["a"], rtol=0, atol=1e-12)


def published(fixture, network):
    """Variables of the projector or the predictor."""

    def dense(place):
        kernel = fixture.param(f"{network}.{place}.weight").T
        return {"kernel": kernel, "bias": fixture.param(f"{network}.{place}.bias")}

    norm, statistics = fixture.norm(f"{network}.1")
    params = {"dense_0": dense(0), "norm": norm, "dense_1": dense(3)}
    return {"params": params, "batch_stats": {"norm": statistics}}


def test_projector_and_predictor_equal_pytorch():
    fixture = Fixture("more/fixtures/byol_mlp")
    mlp = ProjectionMLP(256, 64, dtype="float64")
    names = {"projector": "projection", "predictor": "prediction"}
    variables = {network: published(fixture, network) for network in names}
    inputs = fixture.input("input")
    updated = {}
    with jax.enable_x64(True):
        x = jnp.asarray(inputs)
        for network, output in names.items():
            x = mlp.apply(variables[network], x)
            fixture.assert_equal(x, f"{output}_eval")
        x = jnp.asarray(inputs)
        for network, output in names.items():
            x, state = mlp.apply(variables[network], x, train=True, mutable=["batch_stats"])
            fixture.assert_equal(x, f"{output}_train")
            updated[network] = jax.tree.map(np.asarray, state["batch_stats"]["norm"])
    before, after = variables["projector"]["batch_stats"]["norm"], updated["projector"]
    fixture.assert_equal(after["mean"], "projector_running_mean_after")
    # PyTorch stores the unbiased variance of the 8 examples, Flax the biased one.
    unbiased = 0.9 * before["var"] + (after["var"] - 0.9 * before["var"]) * 8 / 7
    fixture.assert_equal(unbiased, "projector_running_var_after")


@pytest.mark.parametrize(
    ("settings", "inputs", "expected"),
    [((256, 64), 512, 148_288), ((4096, 256), 2048, 9_449_728), ((4096, 256), 256, 2_109_696)],
)
def test_has_the_published_number_of_parameters(settings, inputs, expected):
    init = ProjectionMLP(*settings).init
    variables = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, inputs)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected


def test_follows_the_protocols():
    for protocol in (Objective, HasAfterUpdate, HasFeatures, HasShow):
        assert isinstance(small_byol(), protocol), protocol.__name__
