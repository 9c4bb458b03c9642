"""Recurrent layers over vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.sequence import RecurrentNetwork
from tests.random_variables import num_params, random_variables

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 3)), jnp.float32)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_a_position_sees_itself_and_all_before_it(cell, gates):
    model = RecurrentNetwork(5, cell, num_layers=2, out_features=4)
    variables = random_variables(model.init, X)
    jacobian = jax.jacobian(lambda x: model.apply(variables, x[None])[0].sum(-1))(X[0])
    seen = np.abs(jacobian).sum(-1) > 0
    np.testing.assert_array_equal(seen, np.tri(7, dtype=bool))
    first, second = gates * (3 * 5 + 5 * 5 + 10), gates * (5 * 5 + 5 * 5 + 10)
    assert num_params(model, (7, 3)) == first + second + 5 * 4 + 4


def test_dropout_is_of_training_only():
    model = RecurrentNetwork(5, out_features=4, dropout_rate=0.5, input_dropout_rate=0.5)
    variables = random_variables(model.init, X)
    still = [model.apply(variables, X) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    drawn = [
        model.apply(variables, X, train=True, rngs={"dropout": jax.random.key(i)}) for i in (0, 1)
    ]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    without = RecurrentNetwork(5).apply(
        {"params": {"recurrent": variables["params"]["recurrent"]}}, X
    )
    assert without.shape == (2, 7, 5)
