"""Batch norm: Flax's layer, its statistics those of the whole batch in every parallel mode."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.nn.devices import device_axis
from research.nn.norm import BatchNorm


def examples(count=8):
    return jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (count, 4, 5)), jnp.float32)


def test_is_flax_batch_norm():
    x = examples()
    ours, flax_layer = BatchNorm(use_running_average=False), nn.BatchNorm(False, momentum=0.9)
    variables, flax_variables = (
        jax.jit(layer.init)(jax.random.key(0), x) for layer in (ours, flax_layer)
    )
    jax.tree.map(np.testing.assert_array_equal, variables, flax_variables)
    got, expected = (
        jax.jit(functools.partial(layer.apply, mutable=["batch_stats"]))(variables, x)
        for layer in (ours, flax_layer)
    )
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    np.testing.assert_allclose(
        got[1]["batch_stats"]["mean"], 0.1 * x.mean((0, 1)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        got[1]["batch_stats"]["var"], 0.9 + 0.1 * x.var((0, 1)), rtol=1e-5, err_msg="biased"
    )
    np.testing.assert_allclose(got[0].mean((0, 1)), np.zeros(5), atol=1e-5)
    np.testing.assert_allclose(got[0].std((0, 1)), np.ones(5), rtol=1e-4)


def test_paths_in_a_model_are_flax_paths():
    class Model(nn.Module):
        norm: type[nn.Module]

        @nn.compact
        def __call__(self, x):
            return self.norm()(nn.Dense(3)(x), use_running_average=False)

    def paths(norm):
        variables = jax.eval_shape(Model(norm).init, jax.random.key(0), examples())
        return [
            jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)
        ]

    assert paths(BatchNorm) == paths(nn.BatchNorm)


def test_statistics_are_of_all_devices():
    """A vmapped axis of the devices' name stands for devices: tests run on one CPU device."""
    x = examples(8)
    layer = BatchNorm(use_running_average=False)
    variables = jax.jit(layer.init)(jax.random.key(0), x)

    def apply(x):
        return layer.apply(variables, x, mutable=["batch_stats"])

    expected, expected_stats = jax.jit(apply)(x)
    got, stats = jax.jit(jax.vmap(apply, axis_name="devices"))(x.reshape(4, 2, 4, 5))
    np.testing.assert_allclose(got.reshape(x.shape), expected, rtol=1e-5, atol=1e-5)
    for device in range(4):
        jax.tree.map(
            lambda a, b, device=device: np.testing.assert_allclose(
                a[device], b, rtol=1e-5, atol=1e-6
            ),
            stats,
            expected_stats,
        )
    alone, _ = jax.jit(jax.vmap(apply, axis_name="trials"))(x.reshape(4, 2, 4, 5))
    assert not np.allclose(alone.reshape(x.shape), expected, atol=1e-2)


def test_evaluation_needs_no_axis_and_changes_nothing():
    x = examples()
    layer = BatchNorm()
    init = jax.jit(functools.partial(layer.init, use_running_average=False))
    variables = init(jax.random.key(0), x)
    y = jax.jit(functools.partial(layer.apply, use_running_average=True))(variables, x)
    np.testing.assert_allclose(y, x, rtol=1e-4)


def test_statistics_are_float32_in_bfloat16():
    x = examples().astype(jnp.bfloat16)
    layer = BatchNorm(use_running_average=False, dtype=jnp.bfloat16)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert variables["batch_stats"]["mean"].dtype == jnp.float32


def test_device_axis():
    assert device_axis() is None
    seen = []
    jax.vmap(lambda x: seen.append(device_axis()) or x, axis_name="devices")(jnp.ones(2))
    jax.pmap(lambda x: seen.append(device_axis()) or x, axis_name="devices")(
        jnp.ones((jax.local_device_count(), 1))
    )
    jax.jit(lambda x: seen.append(device_axis()) or x)(jnp.ones(1))
    assert seen == ["devices", "devices", None]


def test_statistics_are_of_what_the_mask_leaves():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 9, 4)), jnp.float32)
    mask = jnp.arange(9) < jnp.asarray([9, 2, 5])[:, None]
    norm = BatchNorm(use_running_average=False)
    variables = norm.init(jax.random.key(0), x)
    _, after = norm.apply(variables, x, mask=mask[..., None], mutable=["batch_stats"])
    kept = x[mask]
    np.testing.assert_allclose(after["batch_stats"]["mean"], 0.1 * kept.mean(0), atol=1e-6)
    np.testing.assert_allclose(after["batch_stats"]["var"], 0.9 + 0.1 * kept.var(0), rtol=1e-5)
