"""The conditional random field against sums and maxima over all sequences of tags."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.crf import CRF

FIELD = CRF(3)
LENGTHS = (4, 1, 3, 0)
MASK = jnp.arange(4) < jnp.asarray(LENGTHS)[:, None]


@pytest.fixture(scope="module")
def drawn():
    generator = np.random.default_rng(0)
    params = {"transitions": (3, 3), "start": (3,), "end": (3,)}
    params = {name: jnp.asarray(generator.normal(size=shape)) for name, shape in params.items()}
    logits = jnp.asarray(generator.normal(size=(4, 4, 3)), jnp.float32)
    tags = jnp.asarray(generator.integers(0, 3, (4, 4)))
    return params, logits, tags


def score(params, logits, tags):
    total = params["start"][tags[0]] + params["end"][tags[-1]]
    total += sum(logits[i, tag] for i, tag in enumerate(tags))
    return float(total + sum(params["transitions"][a, b] for a, b in itertools.pairwise(tags)))


def test_is_what_all_sequences_add_up_to(drawn):
    params, logits, tags = drawn
    found = FIELD.apply({"params": params}, logits, tags, MASK)
    best = FIELD.apply({"params": params}, logits, MASK, method="decode")
    for row, length in enumerate(LENGTHS):
        if not length:
            assert found[row] == 0
            continue
        every = list(itertools.product(range(3), repeat=length))
        scores = [score(params, logits[row], sequence) for sequence in every]
        own = score(params, logits[row], tags[row, :length].tolist())
        expected = own - np.logaddexp.reduce(scores)
        assert float(found[row]) == pytest.approx(expected, abs=1e-5)
        assert tuple(best[row, :length].tolist()) == every[int(np.argmax(scores))]


def test_starts_as_independent_tags():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
    tags, mask = jnp.ones((2, 4), jnp.int32), jnp.ones((2, 4), bool)
    variables = FIELD.init(jax.random.key(0), logits, tags, mask)
    expected = jax.nn.log_softmax(logits)[..., 1].sum(1)
    np.testing.assert_allclose(FIELD.apply(variables, logits, tags, mask), expected, rtol=1e-5)
    decoded = FIELD.apply(variables, logits, mask, method="decode")
    np.testing.assert_array_equal(decoded, logits.argmax(-1))


def test_padding_and_a_length_of_one_have_finite_gradients(drawn):
    params, logits, tags = drawn

    def loss(params, logits, tags, mask):
        return -FIELD.apply({"params": params}, logits, tags, mask).sum()

    for end in (1, 4):
        given = (logits[:, :end], tags[:, :end], MASK[:, :end])
        grads = jax.grad(loss, (0, 1))(params, *given)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
        assert not np.asarray(grads[1])[~np.asarray(MASK[:, :end])].any()
