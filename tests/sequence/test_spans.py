"""Spans are counted as seqeval counts them, also where tags are no proper B, I and O."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from research.sequence.spans import are_of_spans, bracketed, count_spans, spans_of

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER", "I-MISC")


@pytest.fixture(scope="module")
def sentences():
    """True and predicted tags at random; about half of the sentences have the same ones in part."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 13, 300)
    true, predicted = (
        np.where(np.arange(12) < lengths[:, None], generator.integers(0, 6, (300, 12)), -1)
        for _ in range(2)
    )
    copied = generator.random((300, 12)) < generator.choice([0.0, 0.8], (300, 1))
    return true, np.where(copied, true, predicted)


def names(places):
    return [[TAGS[i] for i in row[row >= 0]] for row in places]


def test_counts_are_seqevals(sentences):
    true, predicted = sentences
    spans = jax.jit(lambda places: spans_of(places, TAGS))
    counts = np.asarray(count_spans(spans(jnp.asarray(predicted)), spans(jnp.asarray(true))))
    for row, (a, b) in enumerate(zip(names(true), names(predicted), strict=True)):
        there, guessed = set(get_entities(a)), set(get_entities(b))
        expected = [len(there & guessed), len(guessed), len(there)]
        assert counts[row].tolist() == expected, f"{a} and {b}"
    found, guessed, there = counts.sum(0)
    assert found > 100
    both = names(true), names(predicted)
    assert found / guessed == pytest.approx(precision_score(*both))
    assert found / there == pytest.approx(recall_score(*both))
    assert 2 * found / (guessed + there) == pytest.approx(f1_score(*both))


def test_brackets():
    words = ["Ana", "Paz", "of", "La", "Paz", "Lima"]
    places = np.asarray([3, 4, 0, 2, 2, 1])
    assert bracketed(words, places, TAGS) == "[PER Ana Paz] of [LOC La Paz] [LOC Lima]"
    assert bracketed(words[:1], places[2:3], TAGS) == "Ana"


def test_other_tags_are_no_spans():
    assert are_of_spans(TAGS)
    assert not are_of_spans(("NOUN", "VERB"))
    assert not are_of_spans(("O", "B-PER", "E-PER"))
