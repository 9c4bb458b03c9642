"""DCGAN's networks against PyTorch's, in size and in numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generative import DCGANDiscriminator, DCGANGenerator
from tests.parity import Fixture
from tests.random_variables import num_params, random_variables


def test_have_the_published_numbers_of_parameters():
    assert num_params(DCGANGenerator(), (100,)) == 3_576_704
    assert num_params(DCGANDiscriminator(), (64, 64, 3)) == 2_765_568


def test_starts_as_the_paper_says():
    init = jax.jit(DCGANDiscriminator((16, 32)).init)
    params = init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    kernel, scale = params["conv_1"]["kernel"], params["norm_1"]["scale"]
    np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 0.02], atol=2e-3)
    np.testing.assert_allclose([scale.mean(), scale.std()], [1, 0.02], atol=0.01)


def test_refuses_an_image_size_it_cannot_double_to():
    with pytest.raises(ValueError, match="multiples of 8"):
        DCGANGenerator(4, (28, 28, 1), (8, 4, 2)).init(jax.random.key(0), jnp.zeros((1, 4)))


def test_categories_are_the_largest_of_the_last_latents():
    model = DCGANGenerator(5, (4, 4, 1), (2, 2), hidden=(3,), num_categories=3)
    latents = jnp.array([[1.0, 2.0, 0.1, 0.9, 0.2], [1.0, 2.0, -7.0, 0.3, 0.2]])
    # Larger than at the start, where all images are grey.
    params = jax.tree.map(lambda x: 30 * x, random_variables(model.init, latents))
    apply = jax.jit(model.apply)
    same = apply(params, latents)
    np.testing.assert_array_equal(same[0], same[1])
    other = apply(params, latents.at[0, 4].set(1.0))
    assert not np.allclose(other[0], other[1])
    plain = DCGANGenerator(5, (4, 4, 1), (2, 2), hidden=(3,))
    chosen = jnp.concatenate([latents[:1, :2], np.sqrt(2) * jnp.array([[0.0, 1.0, 0.0]])], -1)
    expected = jax.jit(plain.apply)(params, chosen)
    np.testing.assert_allclose(expected, same[:1], rtol=1e-6)
    with pytest.raises(ValueError, match=r"num_categories=5 .* latent_dim=5"):
        model.clone(num_categories=5).init(jax.random.key(0), latents)


def test_hidden_layers_come_before_the_maps_and_after_the_convolutions():
    generator = DCGANGenerator(5, (4, 4, 1), (2, 2), hidden=(3,))
    assert num_params(generator, (5,)) == (5 * 3 + 6) + 3 * 2 + 4 + 16 * 2 * 2 + 4 + 16 * 2
    discriminator = DCGANDiscriminator((2,), hidden=(3,))
    assert num_params(discriminator, (4, 4, 1)) == 16 * 2 + (2 * 2 * 2 * 3 + 6) + 3


def test_generator_equals_pytorch():
    fixture = Fixture("fixtures/dcgan_generator")
    # The first transposed convolution sees one position: a dense layer to 4×4×512.
    first = fixture.param("main.0.weight")
    params = {"dense": {"kernel": first.transpose(0, 2, 3, 1).reshape(100, -1)}}
    statistics = {}
    for i in range(4):
        kernel = fixture.param(f"main.{3 * i + 3}.weight")
        params[f"conv_{i}"] = {"kernel": kernel.transpose(2, 3, 0, 1)[::-1, ::-1]}
        params[f"norm_{i}"], statistics[f"norm_{i}"] = fixture.norm(f"main.{3 * i + 1}")
    with jax.enable_x64(True):
        variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": statistics})
        latents = jnp.asarray(fixture.input("input").reshape(-1, 100))
        images = jax.jit(DCGANGenerator(dtype="float64").apply)(variables, latents)
        got = 2 * np.asarray(images).transpose(0, 3, 1, 2) - 1
    fixture.assert_equal(got[..., ::7], "image")


def test_discriminator_equals_pytorch():
    fixture = Fixture("fixtures/dcgan_discriminator")
    params, statistics = {}, {}
    for i, place in enumerate((0, 2, 5, 8)):
        kernel = fixture.param(f"main.{place}.weight")
        params[f"conv_{i}"] = {"kernel": kernel.transpose(2, 3, 1, 0)}
        if i > 0:
            params[f"norm_{i}"], statistics[f"norm_{i}"] = fixture.norm(f"main.{place + 1}")
    # The last convolution sees one position: a dense layer on 4×4×512.
    params["head"] = {
        "kernel": fixture.param("main.11.weight").transpose(2, 3, 1, 0).reshape(-1, 1)
    }
    with jax.enable_x64(True):
        variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": statistics})
        images = jnp.asarray(fixture.input("input").transpose(0, 2, 3, 1))
        # The network reads images in [0, 1] and rescales them to PyTorch's [-1, 1].
        logits = jax.jit(DCGANDiscriminator(dtype="float64").apply)(variables, (images + 1) / 2)
        got = np.asarray(jax.nn.sigmoid(logits))
    fixture.assert_equal(got, "probability")
