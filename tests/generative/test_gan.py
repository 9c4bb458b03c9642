"""GAN: who learns from which loss, whose statistics move, and what the losses are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.engine.display import Images
from research.engine.objective import HasGenerate, HasPlayers, HasShow, Objective
from research.generative import GAN, DCGANDiscriminator, DCGANGenerator
from research.generative.gan import discriminator_losses, generator_losses
from tests.random_variables import random_variables

SHAPE = (8, 8, 1)


def small_gan(dtype=None, **settings):
    generator = DCGANGenerator(4, SHAPE, (6, 4), dtype=dtype)
    return GAN(generator, DCGANDiscriminator((4, 6), dtype=dtype), **settings)


def batch_of(size):
    generator = np.random.default_rng(0)
    return {
        "image": jnp.asarray(generator.random((size, *SHAPE)), jnp.float32),
        "index": jnp.arange(size),
        "mask": jnp.ones(size),
    }


@pytest.fixture(scope="module")
def variables():
    return random_variables(small_gan().init, batch_of(2))


def split(variables):
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_losses_are_cross_entropies(label_smoothing):
    real, fake = np.array([0.3, -1.2, 4.0]), np.array([-0.5, 0.8, -3.0])
    p_real, p_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    target = 1 - label_smoothing
    expected = -target * np.log(p_real) - (1 - target) * np.log(1 - p_real) - np.log(1 - p_fake)
    np.testing.assert_allclose(
        discriminator_losses(jnp.asarray(real), jnp.asarray(fake), label_smoothing),
        expected,
        rtol=1e-5,
    )
    np.testing.assert_allclose(generator_losses(jnp.asarray(fake)), -np.log(p_fake), rtol=1e-5)


def test_each_player_trains_its_own_module_and_moves_its_own_statistics(variables):
    params, collections = split(variables)
    batch = batch_of(4)
    players = small_gan().players()
    assert [player.name for player in players] == ["discriminator", "generator"]
    for player in players:
        (own,) = player.modules
        (other,) = set(params) - {own}
        grads, aux = jax.jit(jax.grad(player.loss, has_aux=True))(
            params, collections, batch, jax.random.key(1)
        )
        assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(grads[own])), own
        before, after = collections["batch_stats"], aux.collections["batch_stats"]
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), before[own], after[own])
        assert all(jax.tree.leaves(moved)), f"the turn of {own} must move its statistics"
        jax.tree.map(np.testing.assert_array_equal, before[other], after[other])
        if player.name == "discriminator":
            jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), grads["generator"])


def test_evaluation_is_the_same_in_any_batches(variables, evaluate_in_parts):
    params, collections = split(variables)
    whole, parts = evaluate_in_parts(small_gan(), params, collections, batch_of(6))
    expected = {"discriminator_loss", "generator_loss", "probability_real", "probability_fake"}
    assert set(whole) == expected
    for name in whole:
        np.testing.assert_allclose(parts[name].total, whole[name].total, rtol=1e-6, err_msg=name)
        assert parts[name].weight == whole[name].weight == 6


def test_generates_from_running_statistics(variables):
    params, collections = split(variables)

    @jax.jit
    def generate(collections, temperature):
        options = {"num_samples": 6, "temperature": temperature}
        displays = small_gan().generate(params, collections, jax.random.key(1), **options)
        assert isinstance(displays["samples"], Images)
        return displays["samples"].images

    many = np.asarray(generate(collections, 1.0))
    assert many.shape == (6, *SHAPE)
    assert 0 <= many.min() < many.max() <= 1
    doubled = jax.tree.map(lambda leaf: 2 * leaf, collections)
    assert not np.allclose(many, generate(doubled, 1.0))
    cold = np.asarray(generate(collections, 0.0))
    np.testing.assert_array_equal(cold, np.broadcast_to(cold[:1], cold.shape))


def test_shows_the_same_latents_every_time(variables):
    params, collections = split(variables)
    shown = [
        small_gan().show(params, collections, batch_of(2), jax.random.key(seed))["samples"].images
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*shown)


def test_bfloat16_computes_and_float32_remains(variables):
    params, collections = split(variables)
    for player in small_gan(dtype="bfloat16").players():
        (loss, aux), grads = jax.jit(jax.value_and_grad(player.loss, has_aux=True))(
            params, collections, batch_of(4), jax.random.key(1)
        )
        leaves = jax.tree.leaves((loss, dict(aux.collections), grads))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_follows_the_protocols():
    for protocol in (Objective, HasPlayers, HasShow, HasGenerate):
        assert isinstance(small_gan(), protocol), protocol.__name__
