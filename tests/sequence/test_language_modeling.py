"""The objective: what is averaged, and what generate does with its options."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from research.data.tokenizers import Byte, Char, Tokenizer, TrainedSubword, Word
from research.engine.metrics import compute, merge
from research.engine.objective import (
    HasCheckData,
    HasGenerate,
    HasShow,
    HasStream,
    Objective,
    split_variables,
)
from research.errors import UserError
from research.sequence import (
    GPT,
    LanguageModeling,
    Llama,
    RecurrentLanguageModel,
    language_modeling,
)
from tests.random_variables import random_variables

ALPHABET = "\nabcdefghi"
MODEL = GPT(vocab_size=12, block_size=8, num_layers=1, num_heads=2, embed_dim=16)
OBJECTIVE = LanguageModeling(MODEL, Char(ALPHABET))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def batch():
    tokens = np.random.default_rng(0).integers(0, 10, (4, 9), np.int32)
    token_mask = np.ones((4, 8), np.float32)
    token_mask[1, 5:] = 0
    token_mask[3, 1:] = 0
    return {"tokens": jnp.asarray(tokens), "token_mask": jnp.asarray(token_mask)}


@pytest.fixture(scope="module")
def params(batch):
    variables = random_variables(OBJECTIVE.init, batch)
    assert set(variables) == {"params"}
    return variables["params"]


def generate(params, rng=KEY, **options):
    displays = OBJECTIVE.generate(params, {}, rng, **{"max_new_tokens": 12} | options)
    return list(displays["sample"].texts)


@partial(jax.jit, static_argnums=0)
def value_and_grads(objective, params, batch):
    return jax.value_and_grad(lambda params: objective.loss(params, {}, batch, KEY)[0])(params)


def test_is_what_the_engine_asks_for():
    assert isinstance(OBJECTIVE, Objective)
    assert isinstance(OBJECTIVE, HasCheckData)
    assert isinstance(OBJECTIVE, HasGenerate)
    assert isinstance(OBJECTIVE, HasStream)
    assert isinstance(OBJECTIVE, HasShow)


def test_loss_is_the_mean_over_targets(params, batch):
    tokens, mask = batch["tokens"], batch["token_mask"]
    logits = jax.jit(MODEL.apply)({"params": params}, tokens[:, :-1])
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1)[..., 0]
    right = jnp.argmax(logits, -1) == tokens[:, 1:]
    for given, weights in ((batch, mask), ({"tokens": tokens}, jnp.ones((4, 8)))):
        loss, aux = jax.jit(OBJECTIVE.loss)(params, {}, given, KEY)
        expected = jnp.average(losses, weights=weights)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        assert float(aux.weight) == weights.sum()
        metrics = compute(aux.metrics)
        np.testing.assert_allclose(metrics["perplexity"], jnp.exp(expected), rtol=1e-6)
        np.testing.assert_allclose(
            metrics["accuracy"], jnp.average(right, weights=weights), rtol=1e-6
        )


def test_targets_without_weight_do_not_matter(params, batch):
    changed = batch | {"tokens": batch["tokens"].at[1, 6:].set(3).at[3, 2:].set(7)}
    assert jnp.any(changed["tokens"] != batch["tokens"])
    loss, grads = value_and_grads(OBJECTIVE, params, batch)
    other_loss, other_grads = value_and_grads(OBJECTIVE, params, changed)
    assert float(loss) == pytest.approx(float(other_loss), rel=1e-6)
    chex.assert_trees_all_close(grads, other_grads, atol=1e-6)


def test_a_batch_without_targets_has_no_gradient(params, batch):
    empty = batch | {"token_mask": jnp.zeros((4, 8))}
    loss, grads = value_and_grads(OBJECTIVE, params, empty)
    assert loss == 0
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(grads))


def test_evaluation_does_not_depend_on_batches_or_padding(params, batch):
    evaluate = jax.jit(OBJECTIVE.evaluate)
    index = jnp.arange(4)
    whole = evaluate(params, {}, {**batch, "mask": jnp.ones(4), "index": index}, KEY)
    parts = []
    for first, second, mask in ((0, 1, (1.0, 1.0)), (2, 0, (1.0, 0.0)), (1, 3, (0.0, 1.0))):
        rows = jnp.asarray([first, second])
        part = {name: array[rows] for name, array in batch.items()}
        parts.append(evaluate(params, {}, {**part, "mask": jnp.asarray(mask), "index": rows}, KEY))
    together = merge(merge(parts[0], parts[1]), parts[2])
    assert float(whole["loss"].weight) == float(together["loss"].weight) == 8 + 5 + 8 + 1
    expected = compute(whole)
    for name, value in compute(together).items():
        assert value == pytest.approx(expected[name], rel=1e-6), name
    assert expected["perplexity"] == pytest.approx(np.exp(expected["loss"]))
    loss, _ = jax.jit(OBJECTIVE.loss)(params, {}, batch, KEY)
    assert expected["loss"] == pytest.approx(float(loss), rel=1e-6)


class Bigram(nn.Module):
    """Each token from the one before."""

    vocab_size: int

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        return nn.Embed(self.vocab_size, self.vocab_size)(tokens)


def bits_and_metrics(tokenizer: Tokenizer, batch):
    """The bits of each target, and what evaluation says."""
    objective = LanguageModeling(Bigram(tokenizer.vocab_size), tokenizer)
    params = random_variables(objective.init, batch)["params"]
    tokens = batch["tokens"]
    logits = objective.model.apply({"params": params}, tokens[:, :-1], train=False)
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1)[..., 0]
    _, aux = objective.loss(params, {}, batch, KEY)
    assert "bits_per_byte" not in aux.metrics
    return np.asarray(losses) / np.log(2), compute(objective.evaluate(params, {}, batch, KEY))


def test_a_byte_has_the_bits_of_its_loss():
    tokens = jnp.asarray(Byte().encode("größer"))[None]
    bits, metrics = bits_and_metrics(Byte(), {"tokens": tokens})
    assert metrics["bits_per_byte"] == pytest.approx(metrics["loss"] / np.log(2), rel=1e-6)
    assert metrics["bits_per_byte"] == pytest.approx(bits.mean(), rel=1e-5)


def test_characters_have_their_bytes_and_padding_has_none():
    tokenizer = Char("ab é東🙂")  # of 1, 1, 1, 2, 3 and 4 bytes
    tokens = jnp.asarray([tokenizer.encode("aé東b"), tokenizer.encode("b🙂🙂🙂"), [0] * 4])
    token_mask = jnp.asarray([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    batch = {"tokens": tokens, "token_mask": token_mask, "mask": jnp.asarray([1.0, 1.0, 0.0])}
    bits, metrics = bits_and_metrics(tokenizer, batch)
    expected = (bits[0].sum() + bits[1, 0]) / ((2 + 3 + 1) + 4)
    assert metrics["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_subwords_have_the_bytes_of_their_text(tmp_path):
    (tmp_path / "text").write_text("größer größer größer")
    tokenizer = TrainedSubword((str(tmp_path / "text"),), 300, special_tokens=("</s>",))
    ids = [*tokenizer.encode("größer größer"), 0, *tokenizer.encode("größte"), 0]
    assert len(tokenizer.encode("größer größer")) == 2
    assert len(ids) == 2 + 1 + 4 + 1, "grö with a half of ß, its other half, t and e"
    bits, metrics = bits_and_metrics(tokenizer, {"tokens": jnp.asarray([ids])})
    # Behind the first "größer": " größer", the end, "größte" and the end.
    expected = bits.sum() / ((1 + 8) + 0 + 8 + 0)
    assert metrics["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_bits_per_byte_are_left_out_where_bytes_are_not_known(batch):
    for tokenizer in (None, Word(tuple("abcdefghij"))):
        objective = LanguageModeling(Bigram(12), tokenizer)
        params = random_variables(objective.init, batch)["params"]
        metrics = objective.evaluate(params, {}, batch, KEY)
        assert set(metrics) == {"loss", "perplexity", "accuracy"}


def test_each_trial_has_its_bits_per_byte(batch):
    objective = LanguageModeling(Bigram(12), Char("aé東bcdefghij"))
    params = random_variables(objective.init, batch)["params"]
    trials = [params, jax.tree.map(jnp.negative, params)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trials)
    found = jax.vmap(lambda params: objective.evaluate(params, {}, batch, KEY))(stacked)
    for trial, params in enumerate(trials):
        expected = compute(objective.evaluate(params, {}, batch, KEY))["bits_per_byte"]
        assert compute(found)["bits_per_byte"][trial] == pytest.approx(expected, rel=1e-6)


def test_learns_a_text_by_heart():
    text = "abacad" * 5  # what follows an a depends on the letter before it
    tokens = OBJECTIVE.tokenizer.encode(text)
    windows = jnp.asarray(np.lib.stride_tricks.sliding_window_view(tokens, 9)[:6])
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(
                lambda p: OBJECTIVE.loss(p, {}, {"tokens": windows}, KEY)[0]
            )(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), loss

        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=600)
        return params, losses

    params, losses = train(jax.jit(OBJECTIVE.init)(KEY, {"tokens": windows})["params"])
    assert losses[0] == pytest.approx(np.log(12), rel=0.1)
    # All that cannot be known is the first target of the windows that begin with an a: half.
    assert losses[-1] == pytest.approx(np.log(3) / 8 / 2, rel=0.1)
    assert generate(params, prompt="aca", max_new_tokens=20, temperature=0) == [text[2:25]]


def test_bfloat16_training_is_close_to_float32(params, batch):
    half = dataclasses.replace(OBJECTIVE, model=MODEL.clone(dtype="bfloat16"))
    low, low_grads = value_and_grads(half, params, batch)
    high, _ = value_and_grads(OBJECTIVE, params, batch)
    assert low.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(low_grads)} == {jnp.dtype("float32")}
    assert float(low) == pytest.approx(float(high), rel=0.02)


def test_generates_text_after_the_prompt(params):
    texts = generate(params, prompt="abc", num_samples=3)
    assert [text[:3] for text in texts] == ["abc"] * 3
    assert [len(text) for text in texts] == [15] * 3
    assert set("".join(texts)) <= set(ALPHABET)
    assert len(set(texts)) > 1


def test_generation_follows_the_key_and_not_the_number_of_samples(params):
    texts = generate(params, num_samples=4)
    assert generate(params, num_samples=4) == texts
    assert generate(params, num_samples=2) == texts[:2]
    assert generate(params, jax.random.key(1), num_samples=4) != texts


def test_texts_end_before_the_first_stop_string(params):
    free = generate(params, num_samples=4, max_new_tokens=40)
    stop = (free[0][5:7], free[1][9])
    stopped = generate(params, num_samples=4, max_new_tokens=40, stop=stop)
    for text, whole in zip(stopped, free, strict=True):
        places = [place for place in (whole.find(string, 1) for string in stop) if place >= 0]
        assert text == whole[: min(places, default=None)]
    assert 1 < len(stopped[0]) <= 5
    # What is in the prompt stops nothing.
    assert generate(params, prompt="abc", stop=("b",))[0].startswith("abc")


def test_a_stream_is_the_first_text_as_it_grows(params):
    texts = list(OBJECTIVE.stream(params, {}, KEY, max_new_tokens=12))
    assert [len(text) for text in texts] == list(range(2, 14))
    assert texts[-1] == generate(params)[0]
    assert all(texts[-1].startswith(text) for text in texts)
    stop = texts[-1][4:6]
    *_, last = OBJECTIVE.stream(params, {}, KEY, max_new_tokens=12, stop=(stop,))
    assert last == texts[-1][: texts[-1].find(stop, 1)]


def test_several_prompts_are_written_on_as_each_alone(params):
    prompts = ("abc", "i", "dehcab")
    texts = generate(params, prompt=prompts, num_samples=2)
    names = [f"{prompt!r}, sample {i}:" for prompt in prompts for i in (1, 2)]
    assert [text.split("\n", 1)[0] for text in texts] == names
    for i, prompt in enumerate(prompts):
        alone = generate(params, prompt=prompt, num_samples=2)
        assert [text.split("\n", 1)[1] for text in texts[2 * i : 2 * i + 2]] == alone
        assert generate(params, prompt=(prompt,), num_samples=2) == alone


def test_a_beam_finds_a_likelier_text_than_greedy(params):
    def log_probability(text):
        tokens = jnp.asarray(OBJECTIVE.tokenizer.encode(text))[None]
        logits = jax.jit(MODEL.apply)({"params": params}, tokens)[..., :10]
        steps = jax.nn.log_softmax(logits)[0, :-1]
        return steps[jnp.arange(7), tokens[0, 1:]].sum()

    options = {"prompt": "a", "max_new_tokens": 7}
    (greedy,) = generate(params, **options, temperature=0)
    (one,) = generate(params, **options, num_beams=1)
    (best,) = generate(params, **options, num_beams=200)
    assert one == greedy
    assert log_probability(best) > log_probability(greedy)
    (stopped,) = generate(params, **options, num_beams=200, stop=(best[4:6],))
    assert stopped == best[: best.find(best[4:6], 1)]


def test_what_the_model_does_not_see_of_a_prompt_is_told(params, caplog):
    generate(params, prompt="abcdefgh")
    assert not caplog.messages
    generate(params, prompt="abcdefghi")
    assert caplog.messages == [
        "prompt = 'abcdefghi': has 9 tokens, and the model sees the last 8, its block_size."
    ]


def test_a_recurrent_model_has_no_block_and_writes_on(batch):
    model = RecurrentLanguageModel(vocab_size=12, hidden_dim=16, num_layers=1)
    objective = dataclasses.replace(OBJECTIVE, model=model)
    variables = random_variables(objective.init, batch)
    displays = objective.generate(variables["params"], {}, KEY, max_new_tokens=20, temperature=0.0)
    ids = list(objective.tokenizer.encode("\n"))
    for _ in range(20):
        ids.append(int(model.apply(variables, jnp.asarray([ids]))[0, -1, :10].argmax()))
    assert displays["sample"].texts == [objective.tokenizer.decode(ids)]


def test_never_writes_tokens_that_only_the_model_has(params):
    # All tokens are nearly as likely, and 2 of the model's 12 have no character.
    texts = generate(params, num_samples=4, max_new_tokens=20, temperature=50.0)
    assert [len(text) for text in texts] == [21] * 4


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        Llama(vocab_size=12, block_size=8, num_layers=1, num_heads=2, embed_dim=16, mlp_dim=16),
    ],
)
def test_packed_documents_are_as_if_alone(model):
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 12, (1, 9), np.int32))
    segments = jnp.asarray([[0, 0, 0, 0, 1, 1, 1, 2, 2]])
    objective = LanguageModeling(model)
    packed = {"tokens": tokens, "segments": segments}
    params = random_variables(objective.init, packed)["params"]
    # Alone, each in a row of its own, from position 0.
    rows, mask = np.zeros((3, 9), np.int32), np.zeros((3, 8), np.float32)
    for row, (start, stop) in enumerate(((0, 4), (4, 7), (7, 9))):
        rows[row, : stop - start] = tokens[0, start:stop]
        mask[row, : stop - start - 1] = 1
    alone = {"tokens": jnp.asarray(rows), "token_mask": jnp.asarray(mask)}
    loss, grads = value_and_grads(objective, params, packed)
    expected, expected_grads = value_and_grads(objective, params, alone)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    chex.assert_trees_all_close(grads, expected_grads, atol=1e-5)
    evaluated = objective.evaluate(params, {}, packed | {"mask": jnp.ones(1)}, KEY)
    assert float(evaluated["loss"].weight) == 3 + 2 + 1
    assert compute(evaluated)["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_recurrent_model_takes_no_packed_documents(batch):
    model = RecurrentLanguageModel(vocab_size=12, hidden_dim=16, num_layers=1)
    with pytest.raises(UserError, match="takes no segments"):
        LanguageModeling(model).init(KEY, batch | {"segments": batch["tokens"]})


CARRYING = LanguageModeling(
    RecurrentLanguageModel(vocab_size=12, hidden_dim=16, num_layers=2), Char(ALPHABET), streams=3
)


@pytest.fixture(scope="module")
def streams():
    """Four batches in which each of three rows goes on, and the first again."""
    tokens = np.random.default_rng(2).integers(0, 12, (3, 21), np.int32)
    batches = [
        {"tokens": jnp.asarray(tokens[:, i : i + 6]), "continues": jnp.full(3, i > 0)}
        for i in (0, 5, 10, 15)
    ]
    return tokens, [*batches, batches[0]]


def test_streams_carry_the_state_from_batch_to_batch(streams):
    tokens, batches = streams
    params, collections = split_variables(random_variables(CARRYING.init, batches[0]))
    shapes = {leaf.shape for leaf in jax.tree.leaves(collections["carry"])}
    assert shapes == {(2, 3, 16)}
    loss = jax.jit(CARRYING.loss)
    losses = []
    for batch in batches:
        value, aux = loss(params, collections, batch, KEY)
        losses.append(float(value))
        assert aux.collections.keys() == {"carry"}
        collections = aux.collections
    plain = dataclasses.replace(CARRYING, streams=None)
    whole, _ = plain.loss(params, {}, {"tokens": jnp.asarray(tokens)}, KEY)
    assert np.mean(losses[:4]) == pytest.approx(float(whole), rel=1e-5)
    assert losses[4] == losses[0], "where streams begin anew the state must, too"
    alone, _ = plain.loss(params, {}, batches[1], KEY)
    assert abs(losses[1] - float(alone)) > 1e-3


def test_evaluation_of_streams_carries_the_state_through_long_windows(streams, monkeypatch):
    monkeypatch.setattr(language_modeling, "EVALUATED_TOKENS", 8)  # 20 are two parts and a half
    tokens, batches = streams
    params, collections = split_variables(random_variables(CARRYING.init, batches[0]))
    token_mask = np.ones((3, 20), np.float32)
    token_mask[2, 13:] = 0
    batch = {"tokens": jnp.asarray(tokens), "token_mask": jnp.asarray(token_mask)}
    found = CARRYING.evaluate(params, collections, batch | {"mask": jnp.ones(3)}, KEY)
    plain = dataclasses.replace(CARRYING, streams=None)
    expected = plain.evaluate(params, {}, batch | {"mask": jnp.ones(3)}, KEY)
    assert float(found["loss"].weight) == 53
    for name, value in compute(expected).items():
        assert compute(found)[name] == pytest.approx(value, rel=1e-5), name


def test_streams_are_refused_where_they_cannot_be_carried(streams, batch):
    _, (first, *_) = streams
    with pytest.raises(UserError, match=r"set data\.source\.streams"):
        CARRYING.init(KEY, batch)
    with pytest.raises(UserError, match="for recurrent models"):
        dataclasses.replace(OBJECTIVE, streams=3).init(KEY, first)
    params, collections = split_variables(random_variables(CARRYING.init, first))
    half = {name: x[:2] for name, x in first.items()}
    with pytest.raises(UserError, match=r"2 rows at a time; data\.batch_size must be equal"):
        CARRYING.loss(params, collections, half, KEY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.5}, r"temperature = -0\.5: must be at least 0"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0: must be at least 1"),
        ({"num_samples": 0}, "num_samples = 0"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"prompt": "abXc"}, "prompt = 'abXc': The character 'X' at position 2"),
        ({"prompt": ""}, "prompt = '': has no token"),
        ({"prompt": ()}, "prompt: give at least one"),
        ({"prompt": ("a", "X")}, "prompt = 'X': The character 'X' at position 0"),
        ({"stop": ("a", "")}, "stop: an empty string is everywhere"),
        ({"num_beams": 2, "top_k": 3}, "num_beams = 2: a beam is searched for .* top_k = 3"),
        ({"num_beams": 2, "num_samples": 3}, "num_samples = 3: a beam of num_beams = 2 finds one"),
        (
            {"num_beams": 2, "prompt": "abc", "max_new_tokens": 6},
            r"max_new_tokens = 6: do not fit behind the 3 tokens of prompt = 'abc' in .* = 8",
        ),
    ],
)
def test_refuses_options_out_of_range(params, options, message):
    with pytest.raises(UserError, match=message):
        generate(params, **options)


def test_text_needs_a_tokenizer(params, batch):
    without = dataclasses.replace(OBJECTIVE, tokenizer=None)
    with pytest.raises(UserError, match=r"objective\.tokenizer: missing"):
        without.generate(params, {}, KEY)
    assert without.show(params, {}, batch, KEY) == {}


def test_refuses_data_that_does_not_fit_the_model(batch):
    with pytest.raises(UserError, match=r"block_size = 8: the data's blocks have 9 tokens"):
        OBJECTIVE.init(KEY, {"tokens": jnp.zeros((2, 10), jnp.int32)})
    larger = dataclasses.replace(OBJECTIVE, tokenizer=Char("abcdefghijklm"))
    with pytest.raises(UserError, match=r"vocab_size = 12: the tokenizer has 13 tokens"):
        larger.init(KEY, batch)
    OBJECTIVE.check_data({"tokens": np.arange(12)})
    with pytest.raises(UserError, match=r"a token 12, but .*vocab_size = 12"):
        OBJECTIVE.check_data({"tokens": np.arange(13)})
    with pytest.raises(UserError, match=r"a token -1, but .*; the first such one is at position 2"):
        OBJECTIVE.check_data({"tokens": np.array([3, 4, -1, 12])})


def test_shows_a_sample(params, batch):
    (text,) = OBJECTIVE.show(params, {}, batch, KEY)["sample"].texts
    assert len(text) > 100
    assert set(text) <= set(ALPHABET)
