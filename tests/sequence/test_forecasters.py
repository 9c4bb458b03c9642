"""Models that forecast: by hand, and what they must not depend on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.sequence import DLinear, PatchTST
from research.sequence.dlinear import decompose
from tests.random_variables import num_params, random_variables

SERIES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 40, 3)).cumsum(1), jnp.float32)
TINY = {"horizon": 5, "num_layers": 2, "num_heads": 2, "embed_dim": 8, "mlp_dim": 16}


def test_a_trend_and_the_rest_are_the_series():
    trend, rest = decompose(SERIES, 25)
    np.testing.assert_allclose(trend + rest, SERIES, atol=1e-5)
    padded = np.pad(np.asarray(SERIES), ((0, 0), (12, 12), (0, 0)), mode="edge")
    expected = np.mean([padded[:, i : i + 40] for i in range(25)], 0)
    np.testing.assert_allclose(trend, expected, atol=1e-5)
    line = jnp.arange(40.0)[None, :, None]
    np.testing.assert_allclose(decompose(line, 7)[1][:, 3:-3], 0, atol=1e-5)


@pytest.mark.parametrize("individual", [False, True])
def test_dlinear_adds_two_linear_forecasts(individual):
    model = DLinear(6, kernel_size=5, individual=individual)
    variables = random_variables(model.init, SERIES)
    parts = decompose(np.asarray(SERIES), 5)
    expected = 0.0
    for name, part in zip(("trend", "remainder"), parts, strict=True):
        kernel, bias = (variables["params"][name][leaf] for leaf in ("kernel", "bias"))
        assert kernel.shape == ((3, 40, 6) if individual else (40, 6))
        kernel, bias = np.broadcast_to(kernel, (3, 40, 6)), np.broadcast_to(bias, (3, 6))
        expected += np.einsum("blc,clh->bhc", part, kernel) + bias.T
    forecast = model.apply(variables, SERIES)
    assert forecast.shape == (2, 6, 3)
    np.testing.assert_allclose(forecast, expected, rtol=1e-4, atol=1e-4)


def test_dlinear_starts_as_published():
    params = DLinear(8).init(jax.random.key(0), jnp.ones((1, 100, 2)))["params"]
    for layer in params.values():
        for leaf in layer.values():
            assert 0.05 < np.abs(leaf).max() <= 0.1, "uniform up to 1 / sqrt(100)"
    mean = DLinear(8, average_init=True).init(jax.random.key(0), jnp.ones((1, 100, 2)))["params"]
    assert np.unique(mean["trend"]["kernel"]).tolist() == [np.float32(0.01)]
    own = DLinear(8, individual=True).init(jax.random.key(0), jnp.ones((1, 100, 2)))["params"]
    assert not np.allclose(*own["trend"]["kernel"])
    with pytest.raises(ValueError, match="kernel_size=4 of DLinear must be odd"):
        DLinear(8, kernel_size=4)


def test_parameters_of_the_published_sizes():
    # Zeng et al. count 139.7K for 720 steps from 96, of any number of channels.
    assert num_params(DLinear(96), (336, 7)) == 2 * (336 * 96 + 96)
    assert num_params(DLinear(720), (96, 321)) == 139_680
    model = PatchTST(96, num_heads=4, embed_dim=16, mlp_dim=128, affine=True)
    attention, mlp, norms = 4 * (16 * 16 + 16), 2 * 16 * 128 + 128 + 16, 2 * 2 * 16
    embedding, head = (16 + 1 + 42) * 16, (42 * 16 + 1) * 96
    expected = embedding + 3 * (attention + mlp + norms) + head + 2 * 7
    assert num_params(model, (336, 7)) == expected == 81_742


@pytest.fixture(scope="module")
def patchtst():
    """A model and its variables, the running statistics not those of its start."""
    model = PatchTST(**TINY)
    return model, random_variables(model.init, SERIES), jax.jit(model.apply)


def test_forecasts_shift_and_scale_with_their_inputs(patchtst):
    _, variables, apply = patchtst
    shift, scale = jnp.asarray([3.0, -100.0, 0.5]), jnp.asarray([2.0, 30.0, 0.7])
    forecast = apply(variables, SERIES)
    assert forecast.shape == (2, 5, 3)
    moved = apply(variables, SERIES * scale + shift)
    np.testing.assert_allclose(moved, forecast * scale + shift, rtol=1e-3, atol=1e-3)
    plain = jax.jit(PatchTST(**TINY, instance_norm=False).apply)
    assert not np.allclose(plain(variables, SERIES + 3), plain(variables, SERIES) + 3)


def test_a_channel_sees_no_other(patchtst):
    _, variables, apply = patchtst
    forecast, changed = (apply(variables, x) for x in (SERIES, SERIES.at[:, 3:9, 1].add(2.0)))
    np.testing.assert_array_equal(changed[..., [0, 2]], forecast[..., [0, 2]])
    assert not np.allclose(changed[..., 1], forecast[..., 1])
    alone = apply(variables, SERIES[..., 2:])
    np.testing.assert_allclose(alone, forecast[..., 2:], rtol=1e-4, atol=1e-4)


def test_without_layers_patches_go_straight_to_the_head():
    model = PatchTST(**TINY | {"num_layers": 0})
    variables = random_variables(model.init, SERIES)
    params = jax.tree.map(np.asarray, variables["params"])
    series = np.asarray(SERIES).swapaxes(1, 2)
    mean, std = series.mean(-1, keepdims=True), np.sqrt(series.var(-1, keepdims=True) + 1e-5)
    padded = np.pad((series - mean) / std, ((0, 0), (0, 0), (0, 8)), mode="edge")
    patches = np.stack([padded[..., i : i + 16] for i in (0, 8, 16, 24, 32)], 2)
    embed, head = params["patch_embed"], params["head"]
    tokens = patches @ embed["kernel"] + embed["bias"] + params["positions"]
    forecast = tokens.reshape(2, 3, -1) @ head["kernel"] + head["bias"]
    expected = (forecast * std + mean).swapaxes(1, 2)
    got = jax.jit(model.apply)(variables, SERIES)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_patches_reach_the_last_step_and_one_repeats_it():
    """Of 40 steps, patches of 16 begin at 0, 8, 16 and 24, and padded at 32."""
    for pad_end, num_patches in ((True, 5), (False, 4)):
        model = PatchTST(**TINY, pad_end=pad_end)
        shapes = jax.eval_shape(model.init, jax.random.key(0), SERIES)["params"]
        assert shapes["positions"].shape == (num_patches, 8)
    # 13 steps more than whole patches: without padding the last are not looked at.
    model = PatchTST(**TINY, stride=14, pad_end=False, instance_norm=False)
    variables = random_variables(model.init, SERIES)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x).sum()))(SERIES)
    assert (gradient[:, :30] != 0).any(-1).all()
    assert not gradient[:, 30:].any()


def test_batch_norm_learns_its_statistics_in_training_only(patchtst):
    model, variables, _ = patchtst
    before, rngs = variables["batch_stats"], {"dropout": jax.random.key(0)}
    evaluate, train = (
        jax.jit(partial(model.apply, train=train, mutable=["batch_stats"], rngs=rngs))
        for train in (False, True)
    )
    _, same = evaluate(variables, SERIES)
    jax.tree.map(np.testing.assert_array_equal, same["batch_stats"], before)
    _, moved = train(variables, SERIES)
    changed = jax.tree.map(lambda a, b: bool((a != b).all()), moved["batch_stats"], before)
    assert len(jax.tree.leaves(changed)) == 8
    assert all(jax.tree.leaves(changed))


def test_settings_of_patchtst_that_cannot_be():
    with pytest.raises(ValueError, match="affine=True of PatchTST needs instance_norm=True"):
        PatchTST(4, affine=True, instance_norm=False)
    with pytest.raises(ValueError, match="40 steps are fewer than patch_length=41"):
        PatchTST(4, patch_length=41).init(jax.random.key(0), SERIES)


def test_an_affine_of_each_channel_is_undone():
    model = PatchTST(**TINY, affine=True)
    variables = random_variables(model.init, SERIES)
    shifted = {**variables["params"], "bias": variables["params"]["bias"] + 1.0}
    apply = jax.jit(model.apply)
    assert variables["params"]["scale"].shape == (3,)
    moved = apply({**variables, "params": shifted}, SERIES)
    assert not np.allclose(moved, apply(variables, SERIES))
    # A layer that forecasts nothing leaves, of the bias, nothing but what is taken off.
    silent = {**variables["params"], "head": jax.tree.map(jnp.zeros_like, shifted["head"])}
    got = apply({**variables, "params": silent}, SERIES)
    std = np.sqrt(SERIES.var(1, keepdims=True) + 1e-5)
    expected = SERIES.mean(1, keepdims=True) - std * silent["bias"] / silent["scale"]
    np.testing.assert_allclose(got, jnp.broadcast_to(expected, got.shape), rtol=1e-4, atol=1e-4)
