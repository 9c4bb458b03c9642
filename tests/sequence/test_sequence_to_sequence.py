"""Sequence to sequence: its loss, and that what has been learnt is written."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.tokenizers import Word
from research.engine.metrics import compute
from research.engine.objective import HasCheckData, HasGenerate, HasShow, HasStream, Objective
from research.errors import UserError
from research.sequence import RecurrentTranslator, SequenceToSequence, TranslationTransformer
from tests.random_variables import random_variables

SOURCE = Word(tuple("abcdefgh"))
TARGET = Word(("<s>", "</s>", *"ABCDEFGH"))
MODEL = TranslationTransformer(
    11, num_layers=1, num_heads=2, embed_dim=32, mlp_dim=64, dropout_rate=0.0
)
OBJECTIVE = SequenceToSequence(MODEL, SOURCE, TARGET, num_beams=3)
KEY = jax.random.key(0)


def make_batch(count=8):
    """Words of one to four letters, and the same letters backwards in capitals."""
    generator = np.random.default_rng(0)
    source, target = np.zeros((count, 4), np.int32), np.ones((count, 6), np.int32)
    masks = {"source_mask": np.zeros((count, 4)), "target_mask": np.zeros((count, 6))}
    for row in range(count):
        length = 1 + row % 4
        letters = generator.integers(1, 9, length)
        source[row, :length] = letters
        target[row, 1 : length + 2] = [*(letters[::-1] + 2), 2]
        masks["source_mask"][row, :length] = masks["target_mask"][row, : length + 2] = 1
    batch = {"source": source, "target": target, **masks}
    return {name: jnp.asarray(array) for name, array in batch.items()}


BATCH = make_batch()


@pytest.fixture(scope="module")
def params():
    return random_variables(OBJECTIVE.init, BATCH)["params"]


def test_is_what_the_engine_asks_for():
    for protocol in (Objective, HasCheckData, HasGenerate, HasStream, HasShow):
        assert isinstance(OBJECTIVE, protocol)


def test_loss_is_the_mean_over_targets_with_smoothed_labels(params):
    smoothed = dataclasses.replace(OBJECTIVE, label_smoothing=0.1)
    loss, aux = smoothed.loss(params, {}, BATCH, KEY)
    logits = MODEL.apply(
        {"params": params},
        BATCH["source"],
        BATCH["target"][:, :-1],
        source_mask=BATCH["source_mask"] > 0,
        target_mask=BATCH["target_mask"][:, :-1] > 0,
    )
    labels = optax.smooth_labels(jax.nn.one_hot(BATCH["target"][:, 1:], 11), 0.1)
    losses = optax.softmax_cross_entropy(logits, labels)
    mask = BATCH["target_mask"][:, 1:]
    np.testing.assert_allclose(loss, (losses * mask).sum() / mask.sum(), rtol=1e-5)
    assert aux.weight == mask.sum()

    metrics = compute(smoothed.evaluate(params, {}, BATCH, KEY))
    plain, _ = OBJECTIVE.loss(params, {}, BATCH, KEY)
    np.testing.assert_allclose(metrics["loss"], plain, rtol=1e-5)
    np.testing.assert_allclose(metrics["perplexity"], np.exp(plain), rtol=1e-4)


def test_padding_counts_for_nothing(params):
    longer = {
        name: jnp.pad(array, ((0, 1), (0, 3)), constant_values=5 if array.dtype == int else 0)
        for name, array in BATCH.items()
    }
    longer["mask"] = jnp.arange(9) < 8
    plain = compute(OBJECTIVE.evaluate(params, {}, BATCH, KEY))
    padded = compute(OBJECTIVE.evaluate(params, {}, longer, KEY))
    assert padded == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    "model", [MODEL, RecurrentTranslator(11, 32, bidirectional=True)], ids=["attention", "GRU"]
)
def test_what_it_has_learnt_it_writes(model):
    objective = dataclasses.replace(OBJECTIVE, model=model)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(lambda p: objective.loss(p, {}, BATCH, KEY)[0])(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), loss

        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=200)
        return params, losses

    params, losses = train(objective.init(KEY, BATCH)["params"])
    assert losses[-1] < 0.05
    texts = objective.texts(params, {}, BATCH["source"], BATCH["source_mask"], 6)
    references = [
        " ".join(TARGET.words[token] for token in row[1:] if token > 2)
        for row in np.asarray(BATCH["target"])
    ]
    assert texts == references
    prompt = "\n".join(
        SOURCE.decode(np.asarray(tokens[mask > 0]))
        for tokens, mask in zip(BATCH["source"], BATCH["source_mask"], strict=True)
    )
    generated = objective.generate(params, {}, KEY, prompt=prompt, max_new_tokens=6)
    assert list(generated["target"].texts) == references
    displays = objective.show(params, {}, BATCH, KEY)
    has_heads = isinstance(model, TranslationTransformer)
    assert set(displays) == {"pairs", "attention"} | ({"attention_heads"} if has_heads else set())
    names = displays["attention"].maps[0]
    assert names.column_names == prompt.splitlines()[:1]
    assert names.row_names == [references[0], "</s>"]
    (shown, *_) = displays["pairs"].texts
    assert shown == f"{prompt.splitlines()[0]}\n= {references[0]}\n> {references[0]}"


def test_tokens_that_the_tokenizer_does_not_have_are_not_written(params):
    few = dataclasses.replace(OBJECTIVE, target_tokenizer=Word(("<s>", "</s>", "A")))
    for text in few.texts(params, {}, BATCH["source"], BATCH["source_mask"], 6):
        assert set(text.split()) <= {"A", "<s>", "<unk>"}


def test_as_many_tokens_are_written_as_the_model_takes(params):
    short = dataclasses.replace(OBJECTIVE, model=MODEL.clone(block_size=5))
    assert short.check_new_tokens(None) == 4
    assert OBJECTIVE.check_new_tokens(None) == 100
    shown = short.generate(params, {}, KEY, prompt="a b")["target"].texts
    longest = OBJECTIVE.generate(params, {}, KEY, prompt="a b", max_new_tokens=4)
    assert shown == longest["target"].texts
    assert "pairs" in short.show(params, {}, BATCH, KEY)


@pytest.mark.parametrize("model", [MODEL, RecurrentTranslator(11, 32)], ids=["attention", "GRU"])
def test_tokens_are_drawn_as_of_a_language_model(model):
    objective = dataclasses.replace(OBJECTIVE, model=model)
    params = random_variables(objective.init, BATCH)["params"]

    def generate(seed=0, **options):
        given = {"prompt": "a b c\nh", "max_new_tokens": 5} | options
        return list(objective.generate(params, {}, jax.random.key(seed), **given)["target"].texts)

    tokens = jnp.ones((2, 1), jnp.int32)
    source = jnp.asarray([[1, 2, 3], [8, 0, 0]])
    for _ in range(5):
        logits = model.apply({"params": params}, source, tokens, source_mask=source > 0)
        tokens = jnp.concatenate([tokens, logits[:, -1:].argmax(-1)], axis=1)
    rows = [list(row[1:]) for row in np.asarray(tokens)]
    greedy = [TARGET.decode(row[: row.index(2)] if 2 in row else row) for row in rows]
    assert generate(temperature=0) == generate(top_k=1) == greedy
    assert generate(temperature=0, prompt=("a b c", "h")) == greedy
    drawn = generate(temperature=3.0)
    assert drawn == generate(temperature=3.0) != generate(1, temperature=3.0)
    words = greedy[0].split()
    assert generate(temperature=0, stop=(words[1],))[0] == greedy[0][: greedy[0].find(words[1])]
    *parts, last = objective.stream(params, {}, KEY, prompt="h", max_new_tokens=5)
    assert last == greedy[1]
    assert all(last.startswith(part) for part in parts)
    *_, last = objective.stream(params, {}, KEY, prompt="h", max_new_tokens=5, temperature=3.0)
    assert [last] == generate(prompt="h", temperature=3.0)


def test_options_of_the_beam_are_those_of_the_objective(params):
    options = {"prompt": "a b c", "max_new_tokens": 5}
    for settings in ({"num_beams": 1}, {"num_beams": 5, "length_penalty": 3.0}):
        other = dataclasses.replace(OBJECTIVE, **settings)
        expected = other.generate(params, {}, KEY, **options)
        assert OBJECTIVE.generate(params, {}, KEY, **options, **settings) == expected
    (text,) = expected["target"].texts
    assert text
    cut = OBJECTIVE.generate(params, {}, KEY, **options, **settings, stop=(text[0],))
    assert cut["target"].texts == [""]


def test_mistakes_are_named(params):
    with pytest.raises(UserError, match="prompt = '': has no token"):
        OBJECTIVE.generate(params, {}, KEY, prompt="a\n")
    without = dataclasses.replace(OBJECTIVE, target_tokenizer=None)
    with pytest.raises(UserError, match=r"objective\.target_tokenizer: missing"):
        without.generate(params, {}, KEY, prompt="a")
    assert without.show(params, {}, BATCH, KEY) == {}
    with pytest.raises(
        UserError, match=r"objective.target_tokenizer has 11 tokens, and the model 7"
    ):
        dataclasses.replace(OBJECTIVE, model=RecurrentTranslator(9, 8, target_vocab_size=7)).init(
            KEY, BATCH
        )
    with pytest.raises(UserError, match="a token 11 in a target, but the model has 11"):
        OBJECTIVE.check_data({"target": np.asarray([11])})
    with pytest.raises(UserError, match=r"a token -1 in a source, .* at position 0 of example 1"):
        OBJECTIVE.check_data({"source": np.asarray([[0, 1], [-1, 2]])})
    short = dataclasses.replace(OBJECTIVE, model=MODEL.clone(block_size=5))
    short.check_data(BATCH)
    with pytest.raises(UserError, match=r"block_size = 5: the sources have 6 tokens"):
        short.check_data({"source": np.ones((1, 6), np.int32)})
    with pytest.raises(UserError, match=r"block_size = 5: the targets have 6 tokens"):
        short.check_data({"target": np.ones((1, 7), np.int32)})
    with pytest.raises(UserError, match=r"prompt = '(a ){6}': has 6 tokens; the model takes 5"):
        short.generate(params, {}, KEY, prompt="a " * 6)
    with pytest.raises(UserError, match=r"max_new_tokens = 5: must be at least 1 and at most 4"):
        short.generate(params, {}, KEY, prompt="a", max_new_tokens=5)
    with pytest.raises(UserError, match=r"num_beams = 2: a beam .* temperature = 0.5"):
        OBJECTIVE.generate(params, {}, KEY, prompt="a", num_beams=2, temperature=0.5)
    with pytest.raises(UserError, match="one line is streamed at a time"):
        next(OBJECTIVE.stream(params, {}, KEY, prompt="a\nb"))
    with pytest.raises(UserError, match=r"label_smoothing = 1.0"):
        dataclasses.replace(OBJECTIVE, label_smoothing=1.0)
