"""The network of CIFAR-10's speed records, and the filters that whiten its input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from research.data.sources import Arrays
from research.engine.config import load
from research.engine.duration import Steps
from research.engine.optimizer import make_schedule
from research.engine.rules import apply_rules
from research.errors import UserError
from research.vision import AirbenchNet, Classification, Whitening
from research.vision.airbench import partial_identity
from research.vision.whitening import whitening_kernel
from tests.shrink import EXPERIMENTS


def test_the_published_network_has_its_parameters():
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(AirbenchNet().init, jax.random.key(0), images)
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert count == 1_971_640, "1.97 million in the paper"


def test_convolutions_begin_as_the_identity_on_their_inputs():
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
    kernel = partial_identity(jax.random.key(1), (3, 3, 3, 7))
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_array_equal(y[..., :3], x)
    rest = np.asarray(kernel[..., 3:])
    np.testing.assert_allclose(np.abs(rest).max(), 27**-0.5, rtol=0.05)


def test_patches_are_white_behind_the_filters():
    generator = np.random.default_rng(0)
    smooth = generator.normal(size=(20, 9, 9, 3)).cumsum(1).cumsum(2)
    kernel = whitening_kernel(smooth, (2, 2), epsilon=0.0).astype(np.float64)
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    windows = np.lib.stride_tricks.sliding_window_view(smooth, (2, 2), axis=(1, 2))
    outputs = np.einsum("nhwcij,ijcf->nhwf", windows, kernel[..., :12]).reshape(-1, 12)
    np.testing.assert_allclose(outputs.T @ outputs / len(outputs), np.eye(12), atol=1e-4)
    variances = np.square(kernel[..., :12]).sum((0, 1, 2)) ** -1
    assert (np.diff(variances) <= 1e-6 * variances[0]).all(), "the largest comes first"


def test_a_run_begins_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_DATA_DIR", str(tmp_path))
    images = np.random.default_rng(0).integers(256, size=(12, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    source = Arrays({"image": "images.npy"})
    shape = {"params/whitening/kernel": jax.ShapeDtypeStruct((2, 2, 3, 24), jnp.float32)}
    objective = Classification(AirbenchNet())
    found = Whitening(source, num_images=10)(objective, shape)
    expected = whitening_kernel(images[:10].astype(np.float32), (2, 2))
    np.testing.assert_array_equal(found["params/whitening/kernel"], expected)

    with pytest.raises(UserError, match=r"init_from.layer = 'stem': the run has no params/stem"):
        Whitening(source, layer="stem")(objective, shape)
    shape = {"params/whitening/kernel": jax.ShapeDtypeStruct((2, 2, 3, 8), jnp.float32)}
    with pytest.raises(UserError, match=r"has the shape \(2, 2, 3, 8\); whitening filters"):
        Whitening(source)(objective, shape)


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_the_recipe_of_the_paper(variant):
    """A rate of 11.5, 64 times that for the biases of normalisation, and weight decay 0.0153,
    in units of the paper; the rate is largest after 23 % of the training."""
    settings = load(f"{EXPERIMENTS / 'vision/cifar10_fast.py'}:{variant}").optimizer
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(AirbenchNet().init, jax.random.key(0), images)["params"]
    rates = flatten_dict(apply_rules(settings.learning_rate_rules, params, 1.0, "rates"), sep="/")
    decay = flatten_dict(apply_rules(settings.weight_decay_rules, params, 0.0, "decay"), sep="/")
    biases = {f"stage_{stage}_norm_{i}/bias" for stage in range(3) for i in range(2)}
    assert {path for path, rate in rates.items() if rate == 64} == biases
    assert {rates[path] for path in rates.keys() - biases} == {1}
    assert {rates[path] * decay[path] for path in rates} == {1}, "decay does not follow the rate"
    schedule = make_schedule(settings, Steps(1000, 100, 1))
    assert np.argmax([schedule(step) for step in range(1000)]) == 230
    if variant == "gpu":
        scale = 1 + 1 / (1 - settings.momentum)
        assert settings.learning_rate == pytest.approx(11.5 / scale, rel=1e-3)
        assert settings.learning_rate * settings.weight_decay == pytest.approx(
            0.0153 / scale, rel=2e-3
        )
