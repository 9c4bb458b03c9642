"""BLEU of a translator: that sacrebleu is asked about the right texts."""

import dataclasses
import logging

import jax
import numpy as np
import pytest
from sacrebleu import corpus_bleu, corpus_chrf

from research.data.sources import TextPairs
from research.data.tokenizers import Word
from research.engine.objective import HasCheck, Probe
from research.errors import UserError
from research.sequence import (
    LanguageModeling,
    RecurrentTranslator,
    SequenceToSequence,
    TranslationReport,
)
from tests.random_variables import random_variables

SOURCES = ["a b c d", "b c", "d c b a b", "a a", "c d"]
REFERENCES = ["A B C D .", "B C .", "D C B A B .", "A A .", "C D ."]
SOURCE = Word(tuple("abcd"))
TARGET = Word(("<s>", "</s>", *"ABCD."))
OBJECTIVE = SequenceToSequence(
    RecurrentTranslator(5, 8, target_vocab_size=8), SOURCE, TARGET, num_beams=2
)


@pytest.fixture
def report(tmp_path):
    (tmp_path / "test.source").write_text("\n".join(SOURCES) + "\n")
    (tmp_path / "test.target").write_text("\n".join(REFERENCES) + "\n")
    pairs = TextPairs("test.source", "test.target", SOURCE, TARGET, max_length=6)
    return TranslationReport(pairs, batch_size=2, max_new_tokens=7)


@pytest.fixture
def variables():
    tokens = np.ones((1, 3), np.int32)
    batch = {"source": tokens, "target": tokens}
    return random_variables(OBJECTIVE.init, batch)


def test_scores_are_sacrebleus(report, variables, tmp_path, caplog, monkeypatch):
    assert isinstance(report, Probe)
    assert isinstance(report, HasCheck)
    report.check(OBJECTIVE, variables, str(tmp_path))
    with caplog.at_level(logging.INFO):
        numbers = report(OBJECTIVE, variables, jax.random.key(0), str(tmp_path))
    assert set(numbers) == set(report.metric_names())
    translations = report.translations(OBJECTIVE, variables, str(tmp_path))
    assert len(translations) == 5
    assert numbers["bleu"] == pytest.approx(corpus_bleu(translations, [REFERENCES]).score)
    assert numbers["chrf"] == pytest.approx(corpus_chrf(translations, [REFERENCES]).score)
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp" in caplog.text

    # Translations do not depend on the batch, and perfect ones are perfect.
    alone = dataclasses.replace(report, batch_size=1)
    assert alone.translations(OBJECTIVE, variables, str(tmp_path)) == translations
    monkeypatch.setattr(TranslationReport, "translations", lambda *_: REFERENCES)
    numbers = report(OBJECTIVE, variables, jax.random.key(0), str(tmp_path))
    assert numbers == pytest.approx({"bleu": 100.0, "chrf": 100.0})


def test_mistakes_are_named_before_training(report, variables, tmp_path):
    with pytest.raises(UserError, match=r"sequence.SequenceToSequence, not LanguageModel"):
        report.check(LanguageModeling(OBJECTIVE.model), variables, str(tmp_path))
    without = dataclasses.replace(OBJECTIVE, source_tokenizer=None)
    with pytest.raises(UserError, match=r"objective.source_tokenizer: missing"):
        report.check(without, variables, str(tmp_path))
    (tmp_path / "test.target").unlink()
    with pytest.raises(UserError, match=r"test.target does not exist"):
        report.check(OBJECTIVE, variables, str(tmp_path))
    with pytest.raises(UserError, match="max_new_tokens = 0: must be at least 1"):
        dataclasses.replace(report, max_new_tokens=0).check(OBJECTIVE, variables, str(tmp_path))
    with pytest.raises(UserError, match="batch_size = 0: must be at least 1"):
        dataclasses.replace(report, batch_size=0)
