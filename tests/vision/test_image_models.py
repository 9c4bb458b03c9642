"""Image models: published sizes and numbers, shapes, and their settings' effects."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.vision import ConvNet, LeNet
from tests.parity import Fixture
from tests.random_variables import num_params, random_variables


def output_of(model, images, **options):
    """The output of the model with random parameters."""
    variables = random_variables(model.init, images)
    return jax.jit(functools.partial(model.apply, **options))(variables, images)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 61_706),
        ({"activation": "tanh", "pooling": "average"}, 61_706),
        ({"channels": (20, 50), "hidden": (500,), "padding": ("VALID", "VALID")}, 431_080),
    ],
)
def test_lenet_has_the_published_number_of_parameters(settings, expected):
    assert num_params(LeNet(**settings), (28, 28, 1)) == expected


def test_lenet_takes_8x8_digits():
    images = jnp.zeros((2, 8, 8, 1))
    model = LeNet(padding=("SAME", "SAME"))
    assert output_of(model, images).shape == (2, 10)
    assert output_of(model.clone(num_classes=None), images).shape == (2, 84)


def test_lenet_settings_change_what_is_computed():
    images = jax.random.normal(jax.random.key(1), (2, 12, 12, 1))
    small = {"channels": (2, 2), "hidden": (4,), "padding": ("SAME", "SAME")}
    params = random_variables(LeNet(**small).init, images)
    variations = [{}, {"activation": "tanh"}, {"pooling": "average"}]
    outputs = [jax.jit(LeNet(**small, **extra).apply)(params, images) for extra in variations]
    assert not np.allclose(outputs[0], outputs[1])
    assert not np.allclose(outputs[0], outputs[2])


def test_dropout_of_lenet_may_be_traced():
    """As trials have it that differ in it; what it draws is what Flax's own layer draws."""
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    model = LeNet(channels=(2,), padding=("SAME",), hidden=(), num_classes=3)
    variables = random_variables(model.init, images)
    rng = jax.random.key(2)

    @jax.jit
    def outputs(rate):
        dropping = model.clone(dropout_rate=rate)
        return dropping.apply(variables, images, train=True, rngs={"dropout": rng})

    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.4, deterministic=False)(x)

    maps = model.apply(variables, images, method="features")["stage_0"]
    kept = Dropped().apply({}, maps.reshape(2, -1), rngs={"dropout": rng})
    head = variables["params"]["head"]
    np.testing.assert_allclose(outputs(0.4), kept @ head["kernel"] + head["bias"], rtol=1e-4)
    assert not np.allclose(outputs(0.4), outputs(0.0))


def test_convnet_averages_its_last_stage():
    images = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    model = ConvNet(channels=(2, 4), depth=2)
    features = output_of(model, images)
    assert features.shape == (3, 4)
    maps = output_of(model, images, method="features")
    assert {name: x.shape for name, x in maps.items()} == {
        "stage_0": (3, 8, 8, 2),
        "stage_1": (3, 4, 4, 4),
    }
    np.testing.assert_allclose(features, maps["stage_1"].mean((1, 2)), rtol=1e-6)
    # Kernels, then a scale and a bias for each of their outputs: 3x3 on 1, 2, 2 and 4 maps.
    kernels = 9 * (1 * 2 + 2 * 2 + 2 * 4 + 4 * 4)
    assert num_params(model, (8, 8, 1)) == kernels + 2 * (2 + 2 + 4 + 4)
    assert num_params(ConvNet(10, (2, 4), 2), (8, 8, 1)) == kernels + 24 + 4 * 10 + 10
    assert output_of(ConvNet(10, (2, 4), 2), images).shape == (3, 10)


def test_lenet_equals_pytorch():
    fixture = Fixture("more/fixtures/adversarial_lenet")
    params = {}
    for ours, theirs in {"conv_0": "conv1", "conv_1": "conv2"}.items():
        kernel, bias = fixture.param(f"{theirs}.weight"), fixture.param(f"{theirs}.bias")
        params[ours] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
    for ours, theirs in {"dense_0": "fc1", "dense_1": "fc2", "head": "fc3"}.items():
        kernel, bias = fixture.param(f"{theirs}.weight"), fixture.param(f"{theirs}.bias")
        params[ours] = {"kernel": kernel.T, "bias": bias}
    # PyTorch flattens channels, rows, columns.
    first = params["dense_0"]
    first["kernel"] = first["kernel"].reshape(16, 5, 5, 120).transpose(1, 2, 0, 3).reshape(400, 120)
    images = fixture.input("input").transpose(0, 2, 3, 1)
    with jax.enable_x64(True):
        logits = jax.jit(LeNet(dtype="float64").apply)({"params": params}, images)
    fixture.assert_equal(logits, "logits")
