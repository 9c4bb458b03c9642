"""VAE: its bound against NumPy, its evaluation, its pictures and its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.engine import metrics
from research.engine.display import Images, Scatter
from research.engine.objective import HasFeatures, HasGenerate, HasShow, Objective
from research.generative import VAE, MLPDecoder, MLPEncoder
from tests.random_variables import random_variables

SHAPE = (4, 4, 1)


def small_vae(latent_dim=3, dtype=None, **settings):
    encoder, decoder = MLPEncoder(latent_dim, (8,), dtype), MLPDecoder(SHAPE, (8,), dtype)
    return VAE(encoder, decoder, **settings)


def batch_of(size):
    generator = np.random.default_rng(0)
    return {
        "image": jnp.asarray(generator.random((size, *SHAPE)), jnp.float32),
        "label": jnp.asarray(generator.integers(10, size=size), jnp.int32),
        "index": jnp.arange(size),
        "mask": jnp.ones(size),
    }


def numpy_bound(params, images, noise):
    """Reconstruction and KL of each image, from the definition, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def dense(x, layer):
        return x @ layer["kernel"] + layer["bias"]

    encoder, decoder = params["encoder"], params["decoder"]
    pixels = np.asarray(images, np.float64).reshape(len(images), -1)
    hidden = np.maximum(dense(pixels, encoder["dense_0"]), 0)
    mean, variance = dense(hidden, encoder["mean"]), np.exp(dense(hidden, encoder["log_variance"]))
    latents = mean + np.sqrt(variance) * np.asarray(noise, np.float64)
    hidden = np.maximum(dense(latents, decoder["dense_0"]), 0)
    p = 1 / (1 + np.exp(-dense(hidden, decoder["pixels"])))
    reconstruction = -(pixels * np.log(p) + (1 - pixels) * np.log(1 - p)).sum(-1)
    kl = -0.5 * (1 + np.log(variance) - mean**2 - variance).sum(-1)
    return reconstruction, kl


@pytest.mark.parametrize("kl_weight", [1.0, 4.0])
def test_loss_is_the_negative_elbo(kl_weight):
    objective, batch = small_vae(kl_weight=kl_weight), batch_of(5)
    params = random_variables(objective.init, batch)["params"]
    # Larger parameters, so that the KL is not negligible.
    params = jax.tree.map(lambda leaf: 1.5 * leaf, params)
    rng = jax.random.key(1)
    loss, aux = jax.jit(objective.loss)(params, {}, batch, rng)
    reconstruction, kl = numpy_bound(params, batch["image"], jax.random.normal(rng, (5, 3)))
    np.testing.assert_allclose(loss, (reconstruction + kl_weight * kl).mean(), rtol=1e-5)
    got = metrics.compute(aux.metrics)
    np.testing.assert_allclose(got["reconstruction"], reconstruction.mean(), rtol=1e-5)
    np.testing.assert_allclose(got["kl"], kl.mean(), rtol=1e-5)
    np.testing.assert_allclose(got["negative_elbo"], (reconstruction + kl).mean(), rtol=1e-5)


def test_evaluation_is_the_same_in_any_batches(evaluate_in_parts):
    objective, batch = small_vae(), batch_of(6)
    params = random_variables(objective.init, batch)["params"]
    whole, parts = evaluate_in_parts(objective, params, {}, batch)
    assert set(whole) == {"loss", "negative_elbo", "reconstruction", "kl"}
    for name in whole:
        np.testing.assert_allclose(parts[name].total, whole[name].total, rtol=1e-6, err_msg=name)
        assert parts[name].weight == whole[name].weight == 6


def test_has_the_published_number_of_parameters():
    objective = VAE(MLPEncoder(), MLPDecoder())
    batch = {"image": jnp.zeros((1, 28, 28, 1))}
    params = jax.eval_shape(objective.init, jax.random.key(0), batch)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 652_824


def test_bfloat16_computes_and_float32_remains():
    batch, rng = batch_of(4), jax.random.key(1)
    params = random_variables(small_vae().init, batch)["params"]
    loss, aux = jax.jit(small_vae(dtype="bfloat16").loss)(params, {}, batch, rng)
    assert loss.dtype == aux.metrics["kl"].total.dtype == jnp.float32
    exact, _ = jax.jit(small_vae().loss)(params, {}, batch, rng)
    np.testing.assert_allclose(loss, exact, rtol=0.02)


def test_shows_reconstructions_below_their_originals():
    objective, batch = small_vae(), batch_of(12)
    params = random_variables(objective.init, batch)["params"]
    displays = objective.show(params, {}, batch, jax.random.key(0))
    assert set(displays) == {"reconstructions", "samples", "latents"}
    rows = displays["reconstructions"]
    assert isinstance(rows, Images)
    assert (rows.columns, len(rows.images)) == (10, 20)
    np.testing.assert_array_equal(rows.images[:10], batch["image"][:10])
    points = displays["latents"]
    assert isinstance(points, Scatter)
    np.testing.assert_array_equal(points.labels, batch["label"])
    # The projection keeps the two largest of the three variances.
    means = np.asarray(objective.features(params, {}, batch))
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(means.T)))[::-1]
    np.testing.assert_allclose(np.cov(points.points.T).diagonal(), eigenvalues[:2], rtol=1e-4)


def test_two_latents_show_the_plane_itself():
    objective, batch = small_vae(latent_dim=2), batch_of(4)
    params = random_variables(objective.init, batch)["params"]
    displays = objective.show(params, {}, batch, jax.random.key(0))
    means = objective.features(params, {}, batch)
    np.testing.assert_array_equal(displays["latents"].points, means)
    manifold = displays["manifold"]
    assert (manifold.columns, len(manifold.images)) == (20, 400)
    # Upper left is the smallest first and the largest second latent: the 5 % and 95 % quantiles.
    corner = objective.decode(params, jnp.array([[-1.6448536, 1.6448536]]))
    np.testing.assert_allclose(manifold.images[0], corner[0], atol=1e-5)


def test_generates_as_many_as_are_asked_for():
    objective = small_vae()
    params = random_variables(objective.init, batch_of(2))["params"]
    rng = jax.random.key(1)
    samples = objective.generate(params, {}, rng, num_samples=5)["samples"].images
    assert samples.shape == (5, *SHAPE)
    assert 0 < samples.min() < samples.max() < 1
    cold = objective.generate(params, {}, rng, num_samples=5, temperature=0.0)["samples"].images
    np.testing.assert_array_equal(cold, jnp.broadcast_to(cold[:1], cold.shape))


def test_follows_the_protocols():
    for protocol in (Objective, HasFeatures, HasShow, HasGenerate):
        assert isinstance(small_vae(), protocol), protocol.__name__
