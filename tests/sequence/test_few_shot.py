"""Few-shot accuracy against a computation one prompt at a time."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from research.data.sources import LabelledText
from research.data.tokenizers import Char
from research.engine.objective import HasCheck, Probe
from research.errors import UserError
from research.sequence import GPT, FewShotReport, LanguageModeling, RecurrentLanguageModel
from tests.random_variables import random_variables

CHARS = Char("\n :NA/abcdegko")
MODEL = GPT(vocab_size=16, block_size=40, num_layers=1, num_heads=2, embed_dim=16)
OBJECTIVE = LanguageModeling(MODEL, CHARS)
WORDS = (" bad", " good!"[:5], " ok")
KEY = jax.random.key(0)
TEXTS = ["abc", "dead cab", "cog", "bead", "a", "egg", "decade"]


@pytest.fixture(scope="module")
def variables():
    # Large enough that what was read makes a difference.
    drawn = random_variables(OBJECTIVE.init, {"tokens": jnp.zeros((1, 41), jnp.int32)})
    return jax.tree.map(lambda x: 4 * x, drawn)


@pytest.fixture
def report(tmp_path):
    for name, texts in (("test", TEXTS), ("train", TEXTS[::-1] * 2)):
        rows = [{"text": text, "y": i % 3} for i, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source, train = (
        LabelledText(f"{name}.jsonl", "text", CHARS, 4, "y", ("0", "1", "2"))
        for name in ("test", "train")
    )
    return FewShotReport(source, train, "{text}:{label}\n", WORDS, num_examples=(0, 2))


@partial(jax.jit, static_argnums=0)
def next_logits(model, variables, tokens, length):
    return model.apply(variables, tokens[None])[0, length - 1]


def log_probability(model, variables, prompt, word):
    """Of the word's tokens one after the other, by a model that never looks ahead."""
    ids, room = list(CHARS.encode(prompt)), getattr(model, "block_size", 150)
    total = 0.0
    for token in CHARS.encode(word):
        padded = np.pad(ids, (0, room - len(ids)))
        logits = next_logits(model, variables, padded, len(ids))
        total += log_softmax(np.asarray(logits, np.float64))[token]
        ids.append(token)
    return total


def brute_force(report, model, variables, tmp_path, k, block_size=None):
    shots = "".join(
        f"{text[: report.max_text_tokens]}:{WORDS[label]}\n"
        for text, label in report._drawn(str(tmp_path), k)
    )
    room = len(shots) + 100 if block_size is None else block_size - max(map(len, WORDS)) + 1
    scores = []
    for text in [*TEXTS, report.content_free_text]:
        own = f"{text[: report.max_text_tokens]}:"
        kept = min(len(shots), room - len(own))
        prompt = shots[len(shots) - kept :] + own
        scores.append([log_probability(model, variables, prompt, word) for word in WORDS])
    scores = np.asarray(scores)
    if report.length_normalized:
        scores = scores / [len(word) for word in WORDS]
    return scores[:-1] - (scores[-1] if report.calibrated else 0)


def test_is_a_probe_that_checks(report):
    assert isinstance(report, Probe)
    assert isinstance(report, HasCheck)
    assert report.metric_names() == ("0_shot_accuracy", "2_shot_accuracy")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"length_normalized": True, "batch_size": 4},
        {"calibrated": True, "max_text_tokens": 3},
        {"num_examples": (6,)},  # more than the model reads
    ],
)
def test_scores_are_those_of_one_prompt_at_a_time(settings, report, variables, tmp_path):
    report = dataclasses.replace(report, **settings)
    numbers = report(OBJECTIVE, variables, KEY, str(tmp_path))
    assert tuple(numbers) == report.metric_names()
    for k in report.num_examples:
        scores, labels = report.scores(OBJECTIVE, variables, str(tmp_path), k)
        expected = brute_force(report, MODEL, variables, tmp_path, k, block_size=40)
        np.testing.assert_allclose(scores, expected, atol=1e-4)
        assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
        accuracy = np.mean(expected.argmax(-1) == labels)
        assert numbers[f"{k}_shot_accuracy"] == pytest.approx(accuracy)


def test_a_model_without_a_block_reads_all_examples(report, tmp_path):
    model = RecurrentLanguageModel(vocab_size=16, hidden_dim=8, num_layers=1)
    variables = random_variables(model.init, jnp.zeros((1, 4), jnp.int32))
    objective = dataclasses.replace(OBJECTIVE, model=model)
    scores, _ = report.scores(objective, variables, str(tmp_path), 9)
    expected = brute_force(report, model, variables, tmp_path, 9)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_prompts_that_lose_examples_are_counted(report, variables, tmp_path, caplog):
    report.scores(OBJECTIVE, variables, str(tmp_path), 2)
    assert "do not fit" not in caplog.text
    report.scores(OBJECTIVE, variables, str(tmp_path), 6)
    assert "8 of 8 prompts with 6 examples do not fit block_size = 40" in caplog.text


def test_examples_are_drawn_by_the_seed_and_even(report, tmp_path):
    drawn = report._drawn(str(tmp_path), 8)
    assert drawn == report._drawn(str(tmp_path), 8)
    assert sorted(np.bincount([label for _, label in drawn])) == [2, 3, 3]
    assert len({(text, label) for text, label in drawn}) == 8, "no example twice"
    others = [dataclasses.replace(report, seed=seed)._drawn(str(tmp_path), 8) for seed in range(4)]
    assert any(other != drawn for other in others)
    with pytest.raises(UserError, match="of class '2' are to be drawn, and train has 4"):
        report._drawn(str(tmp_path), 15)


def test_refuses_what_cannot_be_asked(report, variables, tmp_path):
    report.check(OBJECTIVE, variables, str(tmp_path))
    small = dataclasses.replace(OBJECTIVE, model=MODEL.clone(block_size=10))
    with pytest.raises(UserError, match=r"prompt of 'dead cab'… has 9 tokens .* takes 6 beside"):
        report.check(small, variables, str(tmp_path))
    dataclasses.replace(report, max_text_tokens=5).check(small, variables, str(tmp_path))
    with pytest.raises(UserError, match=r"objective\.tokenizer: missing"):
        report.check(dataclasses.replace(OBJECTIVE, tokenizer=None), variables, str(tmp_path))
    unknown = dataclasses.replace(report, content_free_text="?")
    with pytest.raises(UserError, match=r"'\?': The character"):
        unknown.check(OBJECTIVE, variables, str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "{label}: {text}"}, "must have {text} once and {label} once behind"),
        ({"template": "{text}"}, "must have {text} once"),
        ({"label_words": ("a", "b")}, "2 words for the 3 classes of source"),
        ({"num_examples": (-1,)}, "num_examples must be some numbers from 0"),
        ({"num_texts": 0}, "num_texts must be at least 1"),
    ],
)
def test_refused_settings(settings, message, report):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(report, **settings)


def test_pairs_of_texts_are_refused(report):
    pairs = dataclasses.replace(report.train, second_text="other")
    with pytest.raises(UserError, match=r"FewShotReport\.train\.second_text = 'other'"):
        dataclasses.replace(report, train=pairs)
