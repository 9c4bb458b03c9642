"""Masked language modelling: what is hidden and how, what is averaged, and what is filled in."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.tokenizers import Byte, Char, Word
from research.engine.metrics import compute
from research.engine.objective import (
    HasCheckData,
    HasGenerate,
    HasShow,
    Objective,
    example_keys,
)
from research.errors import UserError
from research.sequence import BERT, MaskedLanguageModeling
from tests.random_variables import random_variables

ALPHABET = "abcdefghij .,"
MODEL = BERT(16, block_size=40, num_layers=1, num_heads=2, embed_dim=16, mlp_dim=32)
OBJECTIVE = MaskedLanguageModeling(MODEL, Char(ALPHABET))
MASK = len(ALPHABET)


@pytest.fixture(scope="module")
def rows():
    """Six rows of padded tokens."""
    tokens = np.random.default_rng(0).integers(0, MASK, (6, 20), np.int32)
    lengths = np.asarray([20, 3, 12, 20, 1, 7])
    return {
        "tokens": jnp.asarray(tokens),
        "token_mask": jnp.asarray(np.arange(20) < lengths[:, None], jnp.float32),
        "mask": jnp.ones(6).at[3].set(0),
        "index": jnp.arange(6),
    }


def masked(objective, tokens, is_text=None):
    """What is hidden of each row, and whether each token is."""
    keys = jax.random.split(jax.random.key(0), len(tokens))
    found = jax.jit(objective.masked)(keys, tokens, is_text)
    hidden = np.zeros(tokens.shape, bool)
    for row, (positions, chosen) in enumerate(zip(found.positions, found.chosen, strict=True)):
        assert len(set(np.asarray(positions).tolist())) == len(positions)
        hidden[row, np.asarray(positions)[np.asarray(chosen)]] = True
    return found, hidden


def test_is_what_the_engine_asks_for():
    for protocol in (Objective, HasCheckData, HasGenerate, HasShow):
        assert isinstance(OBJECTIVE, protocol)


def test_hides_15_percent_most_by_the_mask():
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, MASK, (2000, 40), np.int32))
    found, hidden = masked(OBJECTIVE, tokens)
    np.testing.assert_array_equal(hidden.sum(1), 6)
    inputs, originals = np.asarray(found.inputs), np.asarray(tokens)
    np.testing.assert_array_equal(inputs[~hidden], originals[~hidden])
    np.testing.assert_array_equal(
        np.asarray(found.targets), np.take_along_axis(originals, np.asarray(found.positions), 1)
    )
    assert np.mean(inputs[hidden] == MASK) == pytest.approx(0.8, abs=0.02)
    # Of the 10 % that are random tokens one in thirteen is the token itself.
    kept = np.mean(inputs[hidden] == originals[hidden])
    assert kept == pytest.approx(0.1 + 0.1 / 13, abs=0.015)
    np.testing.assert_allclose(hidden.mean(0), 0.15, atol=0.04, err_msg="all places alike")


def test_never_hides_padding_or_special_tokens(rows):
    words = ("[PAD]", "[MASK]", *"abcdefghijk")
    objective = MaskedLanguageModeling(MODEL, Word(words), mask_rate=0.5)
    tokens, is_text = (jnp.tile(rows[name], (20, 1)) for name in ("tokens", "token_mask"))
    is_text = is_text > 0
    special = np.isin(np.asarray(tokens), [0, 2])  # <unk> is put first
    assert (special & np.asarray(is_text)).any()
    count = np.asarray(is_text & ~special).sum(1)
    found, hidden = masked(objective, tokens, is_text)
    assert not hidden[~np.asarray(is_text)].any()
    assert not hidden[special].any()
    expected = np.where(count, np.maximum(np.floor(0.5 * count + 0.5), 1), 0)
    np.testing.assert_array_equal(hidden.sum(1), expected)
    assert 0 not in np.asarray(found.inputs)[hidden], "a random token is a special one"


def test_whole_words_are_hidden_as_a_whole():
    objective = MaskedLanguageModeling(MODEL, Char(ALPHABET), mask_rate=0.4, whole_words=True)
    text = "abc defg hi.j, abcde fghij ab cd, e. fgh"
    tokens = jnp.asarray(Char(ALPHABET).encode(text))[None]
    words = ["abc", " defg", " hi", ".", "j", ",", " abcde", " fghij", " ab", " cd", ",", " e", "."]
    words.append(" fgh")
    ends = np.cumsum([len(word) for word in words])
    assert ends[-1] == len(text)
    _, hidden = masked(objective, jnp.tile(tokens, (60, 1)))
    assert (hidden.sum(1) <= 16).all(), "as many words as fit into the share"
    assert (hidden.sum(1) > 16 - 6).all()
    assert hidden.any(0).all()
    for start, end in zip([0, *ends], ends, strict=False):
        part = hidden[:, start:end]
        assert (part.all(1) == part.any(1)).all(), f"a part of {text[start:end]!r}"


def test_evaluation_depends_neither_on_batches_nor_on_padding(rows, evaluate_in_parts):
    params = random_variables(OBJECTIVE.init, rows)["params"]
    whole, parts = evaluate_in_parts(OBJECTIVE, params, {}, rows)
    assert compute(parts) == pytest.approx(compute(whole), rel=1e-5)
    # 15 % of 20, 3, 12, 1 and 7 tokens, at least one; the row of 20 that is padding counts not.
    assert float(whole["loss"].weight) == 3 + 1 + 2 + 1 + 1


def test_loss_is_the_mean_over_hidden_tokens(rows):
    quiet = MaskedLanguageModeling(MODEL.clone(dropout_rate=0.0), Char(ALPHABET))
    params = random_variables(quiet.init, rows)["params"]
    rng = jax.random.key(5)
    loss, aux = quiet.loss(params, {}, rows, rng)
    keys = jax.random.split(jax.random.split(rng)[0], 6)
    found = quiet.masked(keys, rows["tokens"], rows["token_mask"] > 0)
    logits = MODEL.apply({"params": params}, found.inputs, key_mask=rows["token_mask"] > 0)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    losses = [
        -log_probs[row, position, target]
        for row in range(6)
        for position, target, chosen in zip(
            found.positions[row], found.targets[row], found.chosen[row], strict=True
        )
        if chosen
    ]
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(aux.weight) == len(losses)


@pytest.mark.parametrize("has_mask", [True, False])
def test_packed_documents_are_told_apart(rows, has_mask):
    quiet = MaskedLanguageModeling(MODEL.clone(dropout_rate=0.0), Char(ALPHABET))
    segments = jnp.asarray([[0] * 6 + [1] * 14, [4] * 13 + [5] * 7])
    batch = {name: x[:2] for name, x in rows.items() if has_mask or name != "token_mask"}
    packed = {**batch, "segments": segments}
    params = random_variables(quiet.init, packed)["params"]
    start = 0 if has_mask else 1  # windows are used without their first token
    is_text = rows["token_mask"][:2] > 0 if has_mask else jnp.ones((2, 19), bool)
    positions = jnp.asarray([[*range(6), *range(14)], [*range(13), *range(7)]])
    if not has_mask:
        positions = jnp.asarray([[*range(5), *range(14)], [*range(12), *range(7)]])

    def expected(keys):
        found = quiet.masked(keys, batch["tokens"][:, start:], is_text)
        logits = MODEL.apply(
            {"params": params},
            found.inputs,
            key_mask=is_text,
            segments=segments[:, start:],
            positions=positions,
            masked_positions=found.positions,
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, found.targets)
        return pytest.approx(float(losses[found.chosen].mean()), rel=1e-5)

    rng = jax.random.key(5)
    loss, _ = quiet.loss(params, {}, packed, rng)
    assert float(loss) == expected(jax.random.split(jax.random.split(rng)[0], 2))
    evaluated = compute(quiet.evaluate(params, {}, packed, rng))["loss"]
    assert evaluated == expected(example_keys(rng, packed))
    assert compute(quiet.evaluate(params, {}, batch, rng))["loss"] != pytest.approx(evaluated)
    shown, mixed = (quiet.show(params, {}, given, rng)["filled"] for given in (packed, batch))
    assert has_mask or shown != mixed, "of few tokens the likeliest may be the same"


def test_packed_documents_need_a_model_that_takes_them(rows):
    class Model(nn.Module):
        vocab_size: int = 16

        def __call__(self, tokens, train, *, key_mask=None, masked_positions=None):
            raise AssertionError

    objective = MaskedLanguageModeling(Model(), Char(ALPHABET))
    with pytest.raises(UserError, match=r"Model takes no segments.*; set packed=False in its s"):
        objective.init(jax.random.key(0), {**rows, "segments": rows["tokens"]})


def test_windows_are_used_without_their_first_token(rows):
    params = random_variables(OBJECTIVE.init, rows)["params"]
    marks = {"mask": jnp.ones(6), "index": jnp.arange(6)}
    window = {"tokens": rows["tokens"], **marks}
    row = {"tokens": rows["tokens"][:, 1:], "token_mask": jnp.ones((6, 19)), **marks}
    rng = jax.random.key(0)
    expected = compute(OBJECTIVE.evaluate(params, {}, row, rng))
    assert compute(OBJECTIVE.evaluate(params, {}, window, rng)) == pytest.approx(expected, rel=1e-5)
    masked_window = window | {"token_mask": jnp.ones((6, 19))}
    found = compute(OBJECTIVE.evaluate(params, {}, masked_window, rng))
    assert found == pytest.approx(expected, rel=1e-5)


def test_learns_and_fills_in():
    text = "abc.def.ghi," * 20
    tokens = jnp.asarray(Char(ALPHABET).encode(text)).reshape(-1, 24)
    batch = {"tokens": jnp.pad(tokens, ((0, 0), (1, 0))), "index": jnp.arange(10)}
    objective = MaskedLanguageModeling(MODEL.clone(dropout_rate=0.0), Char(ALPHABET))
    params = objective.init(jax.random.key(0), batch)["params"]
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, rng):
        loss, grads = jax.value_and_grad(lambda p: objective.loss(p, {}, batch, rng)[0])(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    for i in range(250):
        params, state, loss = step(params, state, jax.random.key(i))
    assert loss < 0.3
    prompt = "abc.d[MASK]f.ghi,[MASK]bc.def.gh"
    (filled,) = objective.generate(params, {}, jax.random.key(0), prompt=prompt)["filled"].texts
    assert filled == "abc.def.ghi,abc.def.gh"
    (shown, *_) = objective.show(params, {}, batch, jax.random.key(0))["filled"].texts
    assert shown.replace("[", "").replace("]", "") == text[:24]
    assert shown.count("[") == 4


class Edges(nn.Module):
    """The first hidden token is likeliest to be the first that is read, others to be the last."""

    vocab_size: int = 16
    block_size: int = 40

    @nn.compact
    def __call__(self, tokens, train=False, *, key_mask=None, masked_positions):
        first = jnp.arange(masked_positions.shape[1]) == 0
        read = jnp.where(first, tokens[:, :1], tokens[:, -1:])
        return jax.nn.one_hot(read, self.vocab_size)


def test_prompts_are_between_the_tokens_that_are_around_texts(rows):
    words = Word(("[CLS]", "[SEP]", "[MASK]", "not", "or", "to"))
    bare = MaskedLanguageModeling(Edges(), words)
    for start, end, expected in (
        (None, None, "to to or not not"),
        ("[CLS]", None, "to [CLS] or not not"),
        (None, "[SEP]", "to to or [SEP] not"),
        ("[CLS]", "[SEP]", "to [CLS] or [SEP] not"),
    ):
        around = dataclasses.replace(bare, start_token=start, end_token=end)
        (filled,) = around.generate({}, {}, jax.random.key(0), prompt="to [MASK] or [MASK] not")[
            "filled"
        ].texts
        assert filled == expected
    for setting in ("start_token", "end_token"):
        with pytest.raises(UserError, match=rf"objective\.{setting} = '<s>': There is no token"):
            dataclasses.replace(bare, **{setting: "<s>"}).init(jax.random.key(0), rows)
    with pytest.raises(UserError, match="has 41 tokens; the model has room for 40"):
        around.generate({}, {}, jax.random.key(0), prompt="[MASK]" * 39)


def test_texts_show_guesses_in_brackets(rows):
    words = ("[MASK]", "be", "is", "not", "or", "to")
    objective = MaskedLanguageModeling(MODEL, Word(words), mask_rate=0.4)
    tokens = jnp.asarray([objective.tokenizer.encode("to be or not to be")])
    batch = {"tokens": tokens, "token_mask": jnp.ones((1, 6)), "index": jnp.arange(1)}
    params = random_variables(objective.init, batch)["params"]
    params["masked_bias"] = jnp.zeros(16).at[3].set(100.0)  # "is"
    (text,) = objective.show(params, {}, batch, jax.random.key(0))["filled"].texts
    plain = [word.split("→")[-1].strip("[]") for word in text.split()]
    assert plain == ["to", "be", "or", "not", "to", "be"]
    assert text.count("[is→") == 2


def test_what_cannot_be(rows):
    def init(**changed):
        return jax.eval_shape(
            MaskedLanguageModeling(**{"model": MODEL, "tokenizer": Char(ALPHABET)} | changed).init,
            jax.random.key(0),
            rows,
        )

    with pytest.raises(UserError, match=r"vocab_size = 13: must be at least 14, .* and the mask"):
        init(model=MODEL.clone(vocab_size=13))
    with pytest.raises(UserError, match=r"block_size = 19: the data's sequences have 20 tokens"):
        init(model=MODEL.clone(block_size=19))
    with pytest.raises(UserError, match=r"mask_token = '\[MASK\]': There is no token"):
        init(tokenizer=Word(("a",)))
    with pytest.raises(UserError, match=r"mask_rate = 1.0: must be in \(0, 1\)"):
        init(mask_rate=1.0)
    with pytest.raises(UserError, match=r"a token 13, but objective.tokenizer has 13 tokens"):
        OBJECTIVE.check_data({"tokens": np.asarray([3, 13])})
    with pytest.raises(UserError, match=r"a token -1, .* the first such one is at position 1$"):
        OBJECTIVE.check_data({"tokens": np.asarray([3, -1, 13])})
    OBJECTIVE.check_data({"tokens": np.asarray([3, 12])})
    params = random_variables(OBJECTIVE.init, rows)["params"]
    for prompt, complaint in (
        ("abc", r"write \[MASK\] where"),
        ("[MASK]Z", "The character 'Z'"),
        ("[MASK]" * 41, "has 41 tokens; the model has room for 40"),
    ):
        with pytest.raises(UserError, match=complaint):
            OBJECTIVE.generate(params, {}, jax.random.key(0), prompt=prompt)


def test_bytes_have_a_mask_behind_them():
    model = MODEL.clone(vocab_size=257)
    objective = MaskedLanguageModeling(model, Byte(), mask_rate=0.9)
    found, hidden = masked(objective, jnp.asarray(Byte().encode("größer"))[None])
    assert np.asarray(found.inputs)[hidden].max() == 256
