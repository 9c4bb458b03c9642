"""Tagging: losses and spans of sentences of any length, with and without a random field."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.dataset import Dataset
from research.engine.metrics import compute
from research.engine.objective import HasCheck, HasCheckData, HasShow, Objective, Probe
from research.errors import UserError
from research.sequence import (
    BERT,
    T5,
    BERTTokenClassifier,
    BiLSTMTagger,
    SequenceToSequence,
    TaggingReport,
    TokenTagging,
)
from research.sequence.tagging_report import report
from tests.random_variables import random_variables

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
MODEL = BiLSTMTagger(12, 5, embed_dim=8, hidden_dim=8, num_characters=128, character_dim=6)
PLAIN, FIELD = TokenTagging(MODEL, TAGS), TokenTagging(MODEL, TAGS, crf=True)
BERT_TAGGER = BERTTokenClassifier(
    BERT(12, block_size=9, num_layers=1, num_heads=2, embed_dim=8, mlp_dim=16, dropout_rate=0.0), 5
)


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    inside = np.arange(9) < np.asarray([9, 3, 1, 9, 5, 7])[:, None]
    characters = np.where(generator.random((6, 9, 4)) < 0.8, ord("a") + np.arange(4), 0)
    return {
        "tokens": jnp.asarray(np.where(inside, generator.integers(2, 12, (6, 9)), 0)),
        "token_mask": jnp.asarray(inside, jnp.float32),
        "tags": jnp.asarray(np.where(inside, generator.integers(0, 5, (6, 9)), -1)),
        "characters": jnp.asarray(characters),
        "mask": jnp.ones(6).at[3].set(0),
        "index": jnp.arange(6),
    }


def test_are_what_the_engine_asks_for():
    for protocol in (Objective, HasCheckData, HasShow):
        assert isinstance(PLAIN, protocol)
    probe = TaggingReport(None)
    assert isinstance(probe, Probe)
    assert isinstance(probe, HasCheck)


@pytest.mark.parametrize("objective", [PLAIN, FIELD], ids=["plain", "field"])
def test_evaluation_depends_neither_on_batches_nor_on_padding(batch, objective, evaluate_in_parts):
    params = random_variables(objective.init, batch)["params"]
    assert ("crf" in params) == objective.crf
    whole, parts = evaluate_in_parts(objective, params, {}, batch)
    assert compute(parts) == pytest.approx(compute(whole), rel=1e-5, nan_ok=True)
    assert float(whole["loss"].weight) == 9 + 3 + 1 + 5 + 7
    cut = {name: x[1:2, :3] if x.ndim > 1 else x[1:2] for name, x in batch.items()}
    long = {name: x[1:2] for name, x in batch.items()}
    rng = jax.random.key(0)
    found = compute(objective.evaluate(params, {}, cut, rng))
    expected = compute(objective.evaluate(params, {}, long, rng))
    assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_loss_is_the_mean_over_tags(batch):
    objective = TokenTagging(MODEL.clone(dropout_rate=0.0), TAGS)
    params = random_variables(objective.init, batch)["params"]
    loss, aux = objective.loss(params, {}, batch, jax.random.key(0))
    mask = batch["token_mask"] > 0
    logits = MODEL.apply(
        {"params": params}, batch["tokens"], mask=mask, characters=batch["characters"]
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["tags"])
    assert float(loss) == pytest.approx(float(losses[mask].mean()), rel=1e-5)
    assert float(aux.weight) == mask.sum()
    rows = {**batch, "mask": jnp.ones(6)}
    evaluated = compute(objective.evaluate(params, {}, rows, jax.random.key(0)))
    assert evaluated["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_subwords_without_tags_are_passed_over(batch):
    """A tag of each word's first token only: to the spans the words follow each other."""
    objective = TokenTagging(BERT_TAGGER, TAGS, crf=True)
    given = {name: x for name, x in batch.items() if name != "characters"}
    given["tags"] = jnp.full((6, 9), -1).at[:, 2].set(3).at[:, 5].set(4).at[:, 7].set(0)
    params = random_variables(objective.init, given)["params"]
    # So that B-PER, I-PER, O are predicted wherever they may be.
    params["crf"]["transitions"] = jnp.full((5, 5), -99.0).at[3, 4].set(99).at[4, 0].set(99)
    predicted, true = objective.predict(params, {}, given)
    np.testing.assert_array_equal(true[:, :3], [[3, 4, 0]] * 6)
    np.testing.assert_array_equal(predicted, true)
    found = compute(objective.evaluate(params, {}, given, jax.random.key(0)))
    assert (found["precision"], found["recall"], found["f1"]) == (1, 1, 1)


def test_learns_names_by_their_characters():
    """Words are all unknown; those that begin with a capital are places."""
    generator = np.random.default_rng(1)
    capital = generator.random((16, 6)) < 0.4
    characters = np.full((16, 6, 3), ord("a"))
    characters[..., 0] -= 32 * capital
    tags = np.where(capital, 1, 0)
    tags[:, 1:] += capital[:, 1:] & capital[:, :-1]
    given = {
        "tokens": jnp.ones((16, 6), jnp.int32),
        "token_mask": jnp.ones((16, 6)),
        "tags": jnp.asarray(tags),
        "characters": jnp.asarray(characters),
    }
    objective = TokenTagging(MODEL.clone(dropout_rate=0.1), TAGS, crf=True)
    params = objective.init(jax.random.key(0), given)["params"]
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(params, state, rng):
        grads = jax.grad(lambda p: objective.loss(p, {}, given, rng)[0])(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for i in range(60):
        params, state = step(params, state, jax.random.key(i))
    found = compute(objective.evaluate(params, {}, given, jax.random.key(0)))
    assert found["f1"] > 0.95
    shown = objective.show(params, {}, given, jax.random.key(0))
    assert shown["confusion_matrix"].class_names == TAGS
    assert shown["confusion_matrix"].counts.sum() == 96
    assert "[LOC Aaa" in "".join(shown["sentences"].texts)


def test_tags_that_are_no_spans_have_an_accuracy_only(batch):
    objective = TokenTagging(MODEL, ("NOUN", "VERB", "DET", "ADJ", "O"))
    params = random_variables(objective.init, batch)["params"]
    assert set(objective.evaluate(params, {}, batch, jax.random.key(0))) == {"loss", "accuracy"}
    with pytest.raises(UserError, match="spans have tags O, B-… and I-…"):
        TaggingReport(None).check(objective, {}, "")


def test_word_dropout_is_of_training_only(batch):
    model = MODEL.clone(word_dropout_rate=0.9, dropout_rate=0.0)
    variables = random_variables(PLAIN.init, batch)
    given = {"mask": batch["token_mask"] > 0, "characters": batch["characters"]}

    def logits(**more):
        return model.apply(variables, batch["tokens"], **given, **more)

    trained = logits(train=True, rngs={"dropout": jax.random.key(0)})
    assert not np.allclose(trained, logits())
    np.testing.assert_allclose(
        logits(), MODEL.apply(variables, batch["tokens"], **given), atol=1e-6
    )


def test_what_cannot_be(batch):
    with pytest.raises(UserError, match=r"5 tags, but objective.model has 4"):
        TokenTagging(MODEL.clone(num_tags=4), TAGS)
    for name, value, complaint in (
        ("tokens", 12, r"in tokens there is 12, but objective.model.vocab_size = 12"),
        ("spellings", 128, r"in spellings there is 128, but objective.model.num_characters = 128"),
        ("tags", 5, r"in tags there is 5, but objective.tags, their number, = 5"),
    ):
        PLAIN.check_data({name: np.asarray([[value - 1]])})
        with pytest.raises(UserError, match=complaint):
            PLAIN.check_data({name: np.asarray([[value]])})
    for name, value, place in (
        ("tokens", -1, "position 1 of example 2"),
        ("spellings", -1, "position 1 of word 2"),
        ("tags", -2, "position 1 of example 2"),
    ):
        ids = np.asarray([[0, 0], [0, 0], [0, value]])
        PLAIN.check_data({name: ids + 1})
        with pytest.raises(UserError, match=rf"in {name} there is {value}, .* is at {place}$"):
            PLAIN.check_data({name: ids})
    with pytest.raises(ValueError, match="num_characters=None leaves them out"):
        MODEL.init(jax.random.key(0), batch["tokens"])
    with pytest.raises(UserError, match=r"measures sequence.TokenTagging, not SequenceToSequence"):
        TaggingReport(None).check(SequenceToSequence(T5(9)), {}, "")


@dataclass(frozen=True)
class Held:
    """A source of a batch's rows."""

    arrays: dict

    def open(self, data_dir):
        return Dataset(6, self.arrays)


@pytest.mark.parametrize("batch_size", [4, 64])
def test_report_agrees_with_evaluation(batch, batch_size, caplog):
    params = random_variables(FIELD.init, batch)["params"]
    rows = {name: np.asarray(x) for name, x in batch.items() if name not in ("mask", "index")}
    probe = TaggingReport(Held(rows), batch_size)
    probe.check(FIELD, {"params": params}, "")
    with caplog.at_level("INFO"):
        found = probe(FIELD, {"params": params}, jax.random.key(0), "")
    evaluated = compute(FIELD.evaluate(params, {}, {**batch, "mask": jnp.ones(6)}, None))
    for name in probe.metric_names():
        assert found[name] == pytest.approx(evaluated[name], abs=1e-6)
    assert {"f1_LOC", "f1_PER"} <= set(found)
    assert "micro avg" in caplog.text


def test_report_of_nothing_found():
    numbers, _ = report([["B-LOC", "O"]], [["O", "O"]])
    assert numbers == {"precision": 0, "recall": 0, "f1": 0, "f1_LOC": 0}


def test_bert_for_tokens_is_bert_with_a_head(batch):
    variables = random_variables(BERT_TAGGER.init, batch["tokens"])
    assert variables["params"]["head"]["kernel"].shape == (8, 5)
    mask = batch["token_mask"] > 0
    logits = BERT_TAGGER.apply(variables, batch["tokens"], mask=mask)
    params = {name: x for name, x in variables["params"].items() if name != "head"}
    bert = BERT_TAGGER.bert.clone(masked_head=False)
    features = bert.apply({"params": params}, batch["tokens"], key_mask=mask)
    head = variables["params"]["head"]
    np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"], atol=1e-5)
