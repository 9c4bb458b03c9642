"""How parameters of image models begin."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import vision
from research.nn.initializers import truncated_normal
from research.vision.googlenet import InceptionBlock
from research.vision.inception import Branch, Mixed
from research.vision.vit import sine_positions

IMAGES = jnp.zeros((1, 32, 32, 3))


def begun(model, *arguments):
    """The parameters as they begin."""
    return jax.jit(lambda rng: model.init(rng, *arguments))(jax.random.key(0))["params"]


def assert_glorot_uniform(kernel):
    bound = np.sqrt(6 / sum(kernel.shape))
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_allclose(np.std(kernel), bound / np.sqrt(3), rtol=0.05)


def test_truncated_normal_ends_at_two_units():
    """Not at two deviations."""
    wide = np.asarray(truncated_normal(1.5)(jax.random.key(0), (20_000,)))
    assert 1.95 < np.abs(wide).max() <= 2
    assert 0.95 < np.std(wide) < 1.05, "the deviation of what is left of a normal of 1.5"
    narrow = np.asarray(truncated_normal(0.02)(jax.random.key(0), (20_000,)))
    np.testing.assert_allclose(np.std(narrow), 0.02, rtol=0.03)
    assert np.abs(narrow).max() > 0.06


def test_start_of_a_vit():
    model = vision.ViT(embed_dim=64, num_layers=1, num_heads=2, mlp_dim=128, patch_size=4)
    params = begun(model, IMAGES)
    assert_glorot_uniform(params["transformer"]["block_0"]["mlp"]["up"]["kernel"])
    np.testing.assert_allclose(np.std(params["positions"]), 0.02, rtol=0.05)
    assert not params["class_token"].any()
    assert not params["head"]["kernel"].any()


def test_start_of_a_mixer():
    model = vision.Mixer(embed_dim=64, num_layers=1, tokens_dim=48, channels_dim=96, patch_size=4)
    params = begun(model, IMAGES)
    assert_glorot_uniform(params["block_0"]["tokens_mlp"]["up"]["kernel"])
    assert_glorot_uniform(params["block_0"]["channels_mlp"]["down"]["kernel"])
    assert not params["head"]["kernel"].any()


def test_start_of_a_convnext():
    params = begun(vision.ConvNeXt(stage_sizes=(1,), channels=(32,), layer_scale=0.25), IMAGES)
    block = params["stage_0_block_0"]
    for kernel in (block["depthwise"]["kernel"], block["up"]["kernel"], params["head"]["kernel"]):
        np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.05)
    np.testing.assert_array_equal(block["layer_scale"], np.full(32, 0.25))


@pytest.mark.parametrize(
    ("block", "name", "std"),
    [
        (InceptionBlock((64, 8, 8, 8, 8, 8)), "branch_0", 0.01),
        (Mixed({"branch": Branch(((64, 1),))}), "branch_0", 0.1),
    ],
)
def test_start_of_inception_blocks(block, name, std):
    kernel = begun(block, jnp.zeros((1, 4, 4, 64)), False)[name]["conv"]["kernel"]
    np.testing.assert_allclose(np.std(kernel), std, rtol=0.05)


def test_sine_positions_are_those_of_the_paper():
    """Beyer et al. 2022: of column and row, at frequencies from 1 to 1/10000."""
    positions = sine_positions(3, 5, 12)
    assert positions.shape == (15, 12)
    for row in range(3):
        for column in range(5):
            angles = [[x / 10_000 ** (k / 2) for k in range(3)] for x in (column, row)]
            expected = [
                function(angle)
                for axis in angles
                for function in (math.sin, math.cos)
                for angle in axis
            ]
            np.testing.assert_allclose(positions[5 * row + column], expected, atol=1e-12)
    with pytest.raises(ValueError, match="multiple of 4 features, got 10"):
        sine_positions(3, 5, 10)


def test_sine_positions_are_added_to_patches():
    model = vision.ViT(
        embed_dim=8,
        num_layers=1,
        num_heads=2,
        mlp_dim=8,
        patch_size=8,
        positions="sine",
    )
    variables = jax.tree.map(jnp.zeros_like, jax.eval_shape(model.init, jax.random.key(0), IMAGES))
    embedding = model.apply(variables, IMAGES, method="features")["embedding"]
    assert not embedding[0, 0].any(), "the class token has no place"
    np.testing.assert_allclose(embedding[0, 1:], sine_positions(4, 4, 8), atol=1e-6)
