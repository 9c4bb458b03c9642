"""Recurrent layers; that they are PyTorch's is tested with the published models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.recurrent import Recurrent
from tests.random_variables import random_variables

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 4)), jnp.float32)
LENGTHS = (6, 2, 4)
MASK = jnp.arange(6) < jnp.asarray(LENGTHS)[:, None]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_sequences_of_several_lengths_are_as_each_alone(cell, bidirectional):
    model = Recurrent(5, cell, num_layers=2, bidirectional=bidirectional)
    variables = random_variables(model.init, X)
    apply = jax.jit(model.apply)
    outputs, state = apply(variables, X, MASK)
    for i, length in enumerate(LENGTHS):
        alone, end = apply(variables, X[i : i + 1, :length])
        np.testing.assert_allclose(outputs[i, :length], alone[0], atol=1e-6)
        assert not outputs[i, length:].any()
        for part, alone_part in zip(state, end, strict=True):
            np.testing.assert_allclose(part[:, i], alone_part[:, 0], atol=1e-6)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_sequence_in_two_parts_is_the_whole(cell):
    model = Recurrent(5, cell, num_layers=2)
    variables = random_variables(model.init, X)
    whole, end = model.apply(variables, X)
    first, state = model.apply(variables, X[:, :2])
    second, state = model.apply(variables, X[:, 2:], state=state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, end)


def test_only_the_way_back_sees_what_comes():
    model = Recurrent(5, bidirectional=True)
    variables = random_variables(model.init, X)
    before, _ = model.apply(variables, X)
    after, _ = model.apply(variables, X.at[:, 3].add(1.0))
    np.testing.assert_array_equal(after[:, :3, :5], before[:, :3, :5])
    assert (after[:, :3, 5:] != before[:, :3, 5:]).any((0, 2)).all()


def test_padding_has_no_gradient():
    model = Recurrent(5, "gru", bidirectional=True)
    variables = random_variables(model.init, X)
    gradient = jax.grad(lambda x: (model.apply(variables, x, MASK)[0] ** 2).sum())(X)
    for i, length in enumerate(LENGTHS):
        assert not gradient[i, length:].any()
        assert gradient[i, :length].all()


def test_dropout_is_between_layers_only():
    one, two = Recurrent(5, dropout_rate=0.9), Recurrent(5, num_layers=2, dropout_rate=0.9)
    rngs = {"dropout": jax.random.key(1)}
    variables = random_variables(two.init, X)
    first = {"params": {"layer_0": variables["params"]["layer_0"]}}
    dropped, _ = one.apply(first, X, deterministic=False, rngs=rngs)
    np.testing.assert_array_equal(dropped, one.apply(first, X)[0])
    dropped, _ = two.apply(variables, X, deterministic=False, rngs=rngs)
    assert np.abs(dropped - two.apply(variables, X)[0]).max() > 1e-2


def test_parameters_start_uniform():
    params = Recurrent(16).init(jax.random.key(0), X)["params"]["layer_0"]
    for array in params.values():
        assert 0.2 < np.abs(array).max() <= 0.25
    params = Recurrent(16, init_scale=0.1).init(jax.random.key(0), X)["params"]["layer_0"]
    assert np.abs(params["hidden_kernel"]).max() <= 0.1


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_start_with_a_memory_of_up_to_its_span(cell):
    """Without inputs and hidden state a unit keeps σ(bias) of its state a step."""
    layer, num_gates = Recurrent(400, cell, memory_span=50), {"lstm": 4, "gru": 3}[cell]
    params = layer.init(jax.random.key(0), jnp.zeros((1, 1, 1)))["params"]["layer_0"]
    for kernel in jnp.split(params["hidden_kernel"], num_gates, 1):
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(400), atol=1e-4)
    gates = jnp.split(params["hidden_bias"], num_gates)
    steps = 1 + np.exp(gates[1])
    assert 2 <= steps.min() < 3
    assert 49 < steps.max() <= 50
    assert np.mean(steps) == pytest.approx(26, abs=2)
    if cell == "lstm":
        np.testing.assert_array_equal(gates[0], -gates[1])
    for gate in gates[2:]:
        assert np.abs(gate).max() <= 400**-0.5


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"cell must be one of .* got 'sru'"):
        Recurrent(5, "sru").init(jax.random.key(0), X)
    for cell, span in (("rnn", 10), ("gru", 2)):
        with pytest.raises(
            ValueError, match=rf"memory_span={span} of '{cell}': must be at least 3"
        ):
            Recurrent(5, cell, memory_span=span).init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"lstm is 2 array\(s\) of shape \(1, 3, 5\)"):
        Recurrent(5).init(jax.random.key(0), X, state=(jnp.zeros((1, 3, 5)),))
