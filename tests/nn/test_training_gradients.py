"""Gradients of a training loss against finite differences, in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.nn.conv_norm import ConvNorm
from research.nn.dropout import Dropout
from research.nn.inverted_residual import InvertedResidual
from research.nn.pooling import max_pool
from research.nn.transformer import Transformer
from tests.random_variables import random_variables

TYPES = {"dtype": "float64", "param_dtype": "float64"}
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 8)


class Convolutions(nn.Module):
    """Batch norm, max pooling, a depthwise convolution, squeeze and excitation, dropout and a
    branch that is skipped at random."""

    @nn.compact
    def __call__(self, x, train):
        x = ConvNorm(4, name="stem", **TYPES)(x, train)
        x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        block = InvertedResidual(4, 8, squeeze_dim=2, stochastic_depth_rate=0.4, **TYPES)
        x = Dropout(0.3)(block(x, train).mean((1, 2)), not train)
        return nn.Dense(3, name="head", **TYPES)(x)


class Attention(nn.Module):
    """Layer norm and attention, with every kind of dropout that a transformer has."""

    @nn.compact
    def __call__(self, x, train):
        transformer = Transformer(
            num_layers=2,
            num_heads=2,
            mlp_dim=8,
            causal=True,
            dropout_rate=0.2,
            attention_dropout_rate=0.2,
            mlp_dropout_rate=0.2,
            stochastic_depth_rate=0.4,
            **TYPES,
        )
        x = transformer(x, deterministic=not train).mean(1)
        return nn.Dense(3, name="head", **TYPES)(x)


@pytest.mark.parametrize(
    ("model", "shape"), [(Convolutions(), (8, 6, 6, 2)), (Attention(), (8, 5, 4))]
)
def test_the_gradient_is_what_the_loss_does_along_a_direction(model, shape):
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=shape))
        params = dict(random_variables(lambda key: model.init(key, x, False)))
        collections = {name: params.pop(name) for name in list(params) if name != "params"}

        @jax.jit
        def loss_and_gradient(params):
            def loss(params):
                logits, _ = model.apply(
                    params | collections,
                    x,
                    True,
                    mutable=list(collections),
                    rngs={"dropout": jax.random.key(1)},
                )
                return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

            return jax.value_and_grad(loss)(params)

        direction = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), params)

        def moved(length):
            return jax.tree.map(lambda leaf, along: leaf + length * along, params, direction)

        _, gradient = loss_and_gradient(params)
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype("float64")}
        products = jax.tree.map(np.vdot, gradient, direction)
        slope = sum(jax.tree.leaves(products))
        step = 1e-5
        above, below = (float(loss_and_gradient(moved(way))[0]) for way in (step, -step))
    assert abs(slope) > 1e-2
    np.testing.assert_allclose((above - below) / (2 * step), slope, rtol=1e-6)
