"""Pairs of lines: what a batch holds, and what is said of pairs that are none."""

import gzip
import logging

import numpy as np
import pytest

from research.data.sources import TextPairs
from research.data.tokenizers import Byte, Char, TrainedSubword, Word
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
    assert caplog.messages == [
        f"{folder}/train.en.gz and {folder}/train.de: 1 of 2 sources were cut to max_length = 2 "
        "tokens, 1 of 2 targets were cut to max_length = 2 tokens."
    ]


def test_unknown_tokens_and_padding_are_counted(folder, caplog):
    (folder / "train.de").write_text("ein Hund\ndie Katze wacht auf\n")
    with caplog.at_level(logging.INFO):
        pairs(max_length=8).open(folder)
    # Of 2 * (8 + 10) places 2 + 3 and 4 + 6 have tokens.
    counted = "train.de: 2 unknown target tokens (33.33 %), 58 % padding."
    assert caplog.messages[-1].endswith(counted)


def test_pairs_that_are_none(folder, caplog):
    (folder / "train.de").write_text(GERMAN + "noch eine\n")
    with pytest.raises(UserError, match=r"train.en.gz has 2 lines, .*train.de has 3"):
        pairs().open(folder)
    (folder / "train.de").write_text("ein Hund\n \n")
    with pytest.raises(UserError, match=r"train.de, line 2 is empty"):
        pairs().open(folder)
    with caplog.at_level(logging.WARNING):
        assert pairs(empty_lines="skip").open(folder).size == 1
    assert "1 of 2 pairs have an empty line and were left out (the first: " in caplog.text
    assert "train.de, line 2 is empty" in caplog.text
    (folder / "train.de").write_text("\n\n")
    with pytest.raises(UserError, match=r"hold no pairs: .*train\.de, line 1 is empty"):
        pairs(empty_lines="skip").open(folder)


def test_lines_that_are_not_utf8(folder, caplog):
    (folder / "train.de").write_bytes("ein Hund\ndie Katze schläft\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"train\.de, line 2 is not UTF-8 text: .* byte 0xe4"):
        pairs().open(folder)
    skipping = pairs(wrong_rows="skip")
    assert skipping.open(folder).size == 1
    assert skipping.texts(folder) == [("a dog", "ein Hund")]
    assert "1 of 2 pairs are wrong and were left out (the first: " in caplog.text
    assert "train.de, line 2 is not UTF-8" in caplog.text


def test_a_line_that_cannot_be_encoded_is_named(folder):
    tokenizer = TrainedSubword((str(folder / "train.de"),), 300, special_tokens=("<s>", "</s>"))
    source = pairs(source_tokenizer=Char("a dog"), target_tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"train\.en\.gz, line 2: The character 't' at position 0"):
        source.open(folder)


SENTENCES = (
    ("Two young men are outside near many bushes .", "Zwei junge Männer sind im Freien ."),
    ("A dog runs .", "Ein Hund rennt ."),
    ("Several men in hard hats are operating a giant pulley system .",
     "Mehrere Männer mit Schutzhelmen bedienen ein Antriebsradsystem ."),
    ("A little girl climbs into a wooden playhouse .",
     "Ein kleines Mädchen klettert in ein Spielhaus aus Holz ."),
    ("People walk .", "Leute gehen ."),
)  # fmt: skip


def test_files_that_are_shifted_against_each_other(folder, caplog):
    english, german = zip(*SENTENCES, strict=True)
    (folder / "a.en").write_text("\n".join(english))
    aligned = pairs(source="a.en", target="a.de", max_length_ratio=1.9)
    (folder / "a.de").write_text("\n".join(german))
    assert aligned.open(folder).size == len(SENTENCES)
    (folder / "a.de").write_text("\n".join([*german[1:], "Eine Frau liest ."]))
    with pytest.raises(
        UserError,
        match=r"a\.en, line 1 has 9 words, and that of .*a\.de has 4, beyond max_length_ratio",
    ):
        aligned.open(folder)
    skipping = pairs(source="a.en", target="a.de", max_length_ratio=1.9, wrong_rows="skip")
    assert skipping.open(folder).size == 2
    assert "3 of 5 pairs are wrong and were left out (the first: " in caplog.text
    assert skipping.texts(folder) == [
        (english[2], german[3]),
        (english[4], "Eine Frau liest ."),
    ]
    assert pairs(source="a.en", target="a.de").open(folder).size == len(SENTENCES)


def test_settings_that_cannot_be(folder):
    with pytest.raises(UserError, match="max_length must be at least 1"):
        pairs(max_length=0)
    with pytest.raises(UserError, match="empty_lines must be 'stop' or 'skip'"):
        pairs(empty_lines="drop")
    with pytest.raises(UserError, match="wrong_rows must be 'stop' or 'skip'"):
        pairs(wrong_rows="drop")
    with pytest.raises(UserError, match=r"max_length_ratio must be at least 1; got 0\.5"):
        pairs(max_length_ratio=0.5)
    with pytest.raises(UserError, match=r"Byte has no special tokens, and '<s>' is needed"):
        pairs(target_tokenizer=Byte()).open(folder)
    with pytest.raises(UserError, match="no token '<start>' in the vocabulary"):
        pairs(start_token="<start>").open(folder)
