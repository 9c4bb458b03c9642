"""What all classifiers of sequences promise: padding changes nothing, order does, features are what
the head sees; and what BERT brings along from pre-training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.engine.objective import split_variables
from research.errors import UserError
from research.sequence import (
    BERT,
    BERTClassifier,
    RecurrentClassifier,
    SequenceClassification,
    TransformerClassifier,
)
from research.sequence.sequence_pooling import pool_sequence
from research.weights import Pretrained, save
from research.weights.convert import flatten
from tests.random_variables import random_variables

SHAPE = {"num_layers": 2, "num_heads": 2, "embed_dim": 8, "mlp_dim": 16}
SMALL_BERT = BERT(11, 12, **SHAPE)
MODELS = {
    "LSTM": RecurrentClassifier(3, 8, 11),
    "GRU, mean": RecurrentClassifier(3, 8, 11, cell="gru", num_layers=2, pooling="mean"),
    "RNN, both ways": RecurrentClassifier(3, 8, 11, 5, cell="rnn", bidirectional=True),
    "LSTM, both ways, max": RecurrentClassifier(3, 8, 11, bidirectional=True, pooling="max"),
    "LSTM of vectors": RecurrentClassifier(3, 8),
    "Transformer": TransformerClassifier(3, **SHAPE, vocab_size=11),
    "Transformer, first": TransformerClassifier(3, **SHAPE, vocab_size=11, pooling="first"),
    "Transformer of vectors": TransformerClassifier(3, **SHAPE, scan_layers=True),
    "BERT": BERTClassifier(SMALL_BERT, 3),
    "BERT, mean": BERTClassifier(SMALL_BERT, 3, pooling="mean"),
}
MASK = jnp.arange(7) < jnp.asarray([[7], [4]])


def sequences(name):
    generator = np.random.default_rng(0)
    if name.endswith("vectors"):
        return jnp.asarray(generator.normal(size=(2, 7, 6)), jnp.float32)
    return jnp.asarray(generator.integers(0, 11, (2, 7)))


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing_and_order_does(name):
    model, x = MODELS[name], sequences(name)
    variables = random_variables(model.init, x)
    apply = jax.jit(model.apply)
    logits = apply(variables, x, mask=MASK)
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(logits[1:], apply(variables, x[1:, :4]), atol=1e-5)
    np.testing.assert_allclose(logits[:1], apply(variables, x[:1]), atol=1e-5)
    other = x.at[1, 4:].set(x[0, 4:])
    np.testing.assert_allclose(apply(variables, other, mask=MASK), logits, atol=1e-6)
    turned = apply(variables, x[:, ::-1], mask=jnp.ones_like(MASK))
    assert np.abs(turned[0] - logits[0]).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_features_are_what_the_head_sees(name):
    model, x = MODELS[name], sequences(name)
    variables = random_variables(model.init, x)
    features = model.clone(num_classes=None).apply(variables, x, mask=MASK)
    head = variables["params"]["head"]
    logits = model.apply(variables, x, mask=MASK)
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_state_is_that_behind_the_last_token(bidirectional):
    model = RecurrentClassifier(None, 8, 11, num_layers=2, bidirectional=bidirectional)
    x = sequences("")
    variables = random_variables(model.init, x)
    mean = model.clone(pooling="mean").apply(variables, x[:, :1])
    np.testing.assert_allclose(model.apply(variables, x[:, :1]), mean, atol=1e-6)
    one_way = model.apply(variables, x, mask=MASK)[:, :8]
    longer = jnp.concatenate([x, x], 1)
    masked = model.apply(variables, longer, mask=jnp.pad(MASK, ((0, 0), (0, 7))))[:, :8]
    np.testing.assert_allclose(masked, one_way, atol=1e-6)


def test_dropout_is_of_training_only():
    for name in ("LSTM", "Transformer", "BERT"):
        x = sequences(name)
        model = MODELS[name]
        if name == "LSTM":
            model = model.clone(dropout_rate=0.5)
        variables = random_variables(model.init, x)
        plain = model.apply(variables, x)
        np.testing.assert_array_equal(plain, model.apply(variables, x))
        noisy = [
            model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(seed)})
            for seed in (0, 1)
        ]
        assert np.abs(noisy[0] - noisy[1]).max() > 1e-3, name


def test_pooling_is_of_what_is_no_padding():
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32) - 5
    lengths = (5, 1, 3)
    mask = jnp.arange(5) < jnp.asarray(lengths)[:, None]
    kept = [row[:length] for row, length in zip(x, lengths, strict=True)]
    for pooling, expected in {
        "first": [row[0] for row in kept],
        "last": [row[-1] for row in kept],
        "mean": [row.mean(0) for row in kept],
        "max": [row.max(0) for row in kept],
    }.items():
        found = pool_sequence(jnp.asarray(x), mask, pooling)
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=pooling)
        whole = pool_sequence(jnp.asarray(x[:1]), None, pooling)
        np.testing.assert_allclose(whole, expected[:1], rtol=1e-6, err_msg=pooling)
        empty = pool_sequence(jnp.asarray(x), jnp.zeros((3, 5), bool), pooling)
        assert np.isfinite(empty).all(), pooling
    with pytest.raises(ValueError, match="pooling must be"):
        pool_sequence(jnp.asarray(x), mask, "sum")


def test_bert_brings_its_pre_trained_parameters_along(tmp_path):
    """From published weights with the heads of pre-training; runs have the same paths."""
    pretrained = SMALL_BERT.clone(pooler=True, num_classes=2)
    theirs = random_variables(pretrained.init, sequences("BERT"))
    path = tmp_path / "bert.safetensors"
    save(path, pretrained, theirs, naming="huggingface")
    objective = SequenceClassification(BERTClassifier(SMALL_BERT, 3))
    ours = random_variables(objective.init, {"tokens": sequences("BERT")})
    shapes = {"/".join(name): x for name, x in flatten(ours).items()}
    given = Pretrained(str(path), leave=("params/head/.*",))(objective, shapes)
    assert set(shapes) - set(given) == {"params/head/kernel", "params/head/bias"}
    written = flatten(theirs)
    for name, array in given.items():
        np.testing.assert_array_equal(array, written[tuple(name.split("/"))], err_msg=name)
    # So a classifier sees what BERT saw.
    params, _ = split_variables(ours)
    params = {**theirs["params"], "head": params["head"]}
    params = {name: params[name] for name in ours["params"]}
    batch = {"tokens": sequences("BERT"), "token_mask": MASK}
    pooled = pretrained.apply(theirs, batch["tokens"], key_mask=MASK, method="features")["pooled"]
    np.testing.assert_allclose(objective.features(params, {}, batch), pooled, atol=1e-6)


def test_a_sequence_longer_than_the_model_is_refused():
    objective = SequenceClassification(BERTClassifier(SMALL_BERT, 3))
    with pytest.raises(UserError, match=r"block_size = 12: the data's sequences have 13"):
        objective.init(jax.random.key(0), {"tokens": jnp.zeros((2, 13), jnp.int32)})


def test_bert_draws_kernels_and_embeddings_as_wide_as_init_std():
    wider = SMALL_BERT.clone(vocab_size=400, embed_dim=32, mlp_dim=64, init_std=0.05)
    params = BERTClassifier(wider, 3).init(jax.random.key(0), sequences("BERT"))["params"]
    drawn = {
        name: value.std()
        for name, value in flatten(params).items()
        if name[-1] in ("kernel", "embedding") and value.size > 1000
    }
    assert len(drawn) > 8
    for name, std in drawn.items():
        assert std == pytest.approx(0.05, rel=0.1), name
