"""Pairs of lines: what a batch holds, and what is said of pairs that are none."""

import gzip
import logging

import numpy as np
import pytest

from research.data.sources import TextPairs
from research.data.tokenizers import Byte, TrainedSubword, Word
from research.errors import UserError

ENGLISH, GERMAN = "a dog\nthe cat sleeps\n", "ein Hund\ndie Katze schläft\n"
WORDS = ("<s>", "</s>", "ein", "Hund", "die", "Katze", "schläft")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.en.gz").write_bytes(gzip.compress(ENGLISH.encode()))
    (tmp_path / "train.de").write_text(GERMAN)
    return tmp_path


def pairs(**settings):
    return TextPairs(
        **{
            "source": "train.en.gz",
            "target": "train.de",
            "source_tokenizer": Word(("a", "the", "dog", "cat", "sleeps")),
            "target_tokenizer": Word(WORDS),
            "max_length": 4,
        }
        | settings
    )


def test_targets_begin_and_end_and_all_is_padded(folder):
    dataset = pairs().open(folder)
    batch = dataset.gather(dataset.arrays, np.asarray([1, 0]))
    # Word puts <unk> first; the source's tokenizer has no end.
    np.testing.assert_array_equal(batch["source"], [[2, 4, 5, 0], [1, 3, 0, 0]])
    np.testing.assert_array_equal(batch["source_mask"], [[1, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(batch["target"], [[1, 5, 6, 7, 2, 1], [1, 3, 4, 2, 1, 1]])
    np.testing.assert_array_equal(batch["target_mask"], [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]])


def test_sources_have_a_prefix_and_an_end_where_their_tokenizer_has_one(folder):
    names = tuple(str(folder / name) for name in ("train.en.gz", "train.de"))
    tokenizer = TrainedSubword(names, 300, special_tokens=("<s>", "</s>"))
    prefix = "to German: "
    dataset = pairs(
        source_tokenizer=tokenizer, target_tokenizer=tokenizer, prefix=prefix, max_length=40
    ).open(folder)
    batch = dataset.gather(dataset.arrays, np.asarray([0]))
    tokens = batch["source"][0][batch["source_mask"][0] > 0]
    assert tokens[-1] == tokenizer.token_id("</s>")
    assert tokenizer.decode(tokens[:-1]) == prefix + "a dog"


def test_what_is_cut_is_counted(folder, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = pairs(max_length=2).open(folder)
    batch = dataset.gather(dataset.arrays, np.asarray([1]))
    np.testing.assert_array_equal(batch["target"], [[1, 5, 6, 2]])
    assert "train.de: 1 of 2 lines are longer than max_length = 2 tokens" in caplog.text


def test_pairs_that_are_none(folder, caplog):
    (folder / "train.de").write_text(GERMAN + "noch eine\n")
    with pytest.raises(UserError, match=r"train.en.gz has 2 lines, .*train.de has 3"):
        pairs().open(folder)
    (folder / "train.de").write_text("ein Hund\n \n")
    with pytest.raises(UserError, match=r"train.de, line 2 is empty"):
        pairs().open(folder)
    with caplog.at_level(logging.WARNING):
        assert pairs(empty_lines="skip").open(folder).size == 1
    assert "1 pairs with an empty line were left out" in caplog.text
    (folder / "train.de").write_text("\n\n")
    with pytest.raises(UserError, match="hold no pairs"):
        pairs(empty_lines="skip").open(folder)


def test_settings_that_cannot_be(folder):
    with pytest.raises(UserError, match="max_length must be at least 1"):
        pairs(max_length=0)
    with pytest.raises(UserError, match="empty_lines must be 'stop' or 'skip'"):
        pairs(empty_lines="drop")
    with pytest.raises(UserError, match=r"Byte has no special tokens, and '<s>' is needed"):
        pairs(target_tokenizer=Byte()).open(folder)
    with pytest.raises(UserError, match="no token '<start>' in the vocabulary"):
        pairs(start_token="<start>").open(folder)
