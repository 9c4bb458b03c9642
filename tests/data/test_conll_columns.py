"""Columns of words and tags: what a batch has, and what is said of lines that are wrong."""

import logging
import zipfile

import jax
import numpy as np
import pytest

from research.data.sources import ConllColumns
from research.data.tokenizers import Char, TrainedSubword
from research.errors import UserError

TRAIN = """-DOCSTART- X O

La DA B-LOC
Coruña NC I-LOC
, Fc O

la DA O
Ω NC O
la DA O
"""
TEST = "Coruña NC B-LOC\n\nuna DI O\n. Fp O\n\n\n"
TAGS = ("O", "B-LOC", "I-LOC")


@pytest.fixture
def folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("set/train", TRAIN)
        archive.writestr("set/test", TEST)
    return tmp_path


def columns(file="set.zip:set/train", **settings):
    given = {"tags": TAGS, "max_length": 4, "vocabulary_file": "set.zip:set/train"}
    given |= {"vocab_size": 5, "max_characters": 4}
    return ConllColumns(file, **given | settings)


def batch_of(dataset):
    return dataset.gather(dataset.arrays, np.arange(dataset.size))


def test_words_tags_and_characters(folder):
    dataset = columns().open(folder)
    batch = batch_of(dataset)
    # By falling count: "la", then "coruña" and ",", which come before "Ω".
    assert batch["tokens"].tolist() == [[2, 3, 4, 0], [2, 1, 2, 0]]
    assert batch["tags"].tolist() == [[1, 2, 0, -1], [0, 0, 0, -1]]
    assert batch["token_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]
    spelt = [["".join(map(chr, word[word > 0])) for word in row] for row in batch["characters"]]
    assert spelt[0] == ["La", "Coru", ",", ""]
    assert batch["characters"][1, 1].tolist() == [1, 0, 0, 0], "Ω is no Latin letter"
    assert dataset.lengths.tolist() == [3, 3]
    on_device = jax.jit(dataset.gather)(dict(dataset.arrays), np.arange(2))
    for name, values in batch.items():
        assert values.dtype == (np.float32 if name == "token_mask" else np.int32)
        np.testing.assert_array_equal(values, on_device[name])


def test_the_vocabulary_is_another_files(folder):
    batch = batch_of(columns("set.zip:set/test", lowercase=False, vocab_size=9).open(folder))
    # "la", "La", "Coruña", ",", "Ω" have 2 to 6.
    assert batch["tokens"].tolist() == [[4, 0, 0, 0], [1, 1, 0, 0]]
    assert [line.word for line in columns("set.zip:set/test").sentences(folder)[1]] == ["una", "."]


def test_long_sentences_become_several_examples(folder, caplog):
    with caplog.at_level(logging.WARNING):
        batch = batch_of(columns(max_length=2).open(folder))
    assert batch["tokens"].tolist() == [[2, 3], [4, 0], [2, 1], [2, 0]]
    assert batch["tags"].tolist() == [[1, 2], [0, -1], [0, 0], [0, -1]]
    assert caplog.messages == [
        f"{folder}/set.zip:set/train: 2 of 2 sentences have more than max_length = 2 tokens and "
        "became several examples, 1 of 6 words have more than max_characters = 4 and were cut, "
        "1 unknown tokens (16.67 %), 25 % padding."
    ]


def test_words_of_more_subwords_than_an_example_are_cut_and_counted(folder, caplog):
    (folder / "text").write_text("la la a b c la")
    tokenizer = TrainedSubword((str(folder / "text"),), 12, "wordpiece", ("[UNK]",))
    (folder / "plain").write_text("lalab B-LOC\nla O\nΩ O\n")
    la, *others = tokenizer.encode("la lalab Ω")
    batch = batch_of(ConllColumns("plain", TAGS, 2, tokenizer=tokenizer).open(folder))
    assert len(others) > 3
    assert batch["tokens"].tolist() == [others[:2], [la, others[-1]]]
    assert "1 of 3 words alone have more tokens and were cut, 1 unknown tokens" in caplog.text
    with pytest.raises(UserError, match=r"plain, line 3: The character 'Ω' at position 1 is not"):
        ConllColumns("plain", TAGS, 9, tokenizer=Char(" lab")).open(folder)


def test_the_first_subword_of_a_word_has_its_tag(folder):
    (folder / "text").write_text("la la a b c la")
    special = ("[CLS]", "[SEP]", "[UNK]")
    tokenizer = TrainedSubword((str(folder / "text"),), 12, "wordpiece", special)
    (folder / "plain").write_text("la O\nlalab B-LOC\nc I-LOC\n\nb O")
    source = ConllColumns(
        "plain", TAGS, 8, tokenizer=tokenizer, start_token="[CLS]", end_token="[SEP]"
    )
    batch = batch_of(source.open(folder))
    assert set(batch) == {"tokens", "token_mask", "tags"}
    la, *others = tokenizer.encode("la lalab c")
    assert len(others) > 2
    row = [0, la, *others, 1]
    assert batch["tokens"][0].tolist() == row + [0] * (8 - len(row))
    assert batch["tags"][0, 1:3].tolist() == [0, 1]
    assert batch["tags"][0, len(row) - 2] == 2
    assert (batch["tags"][0] >= 0).sum() == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a O\nb\n", r"line 2 has 1 column\(s\): 'b'; .* as the first, 2"),
        ("a O\n\nb X B-LOC\n", r"line 3 has 3 column\(s\)"),
        ("a\n", r"line 1 has 1 column\(s\): 'a'; a word and its tag are at least 2"),
        ("a O\nb B-LOK\n", "line 2: the tag 'B-LOK' is none of .*; did you mean 'B-LOC'"),
        ("\n-DOCSTART-\n", "holds no sentences"),
    ],
)
def test_wrong_lines(tmp_path, text, complaint):
    (tmp_path / "wrong").write_text(text)
    with pytest.raises(UserError, match=f"wrong.*{complaint}"):
        columns("wrong", vocabulary_file="wrong").open(tmp_path)


def test_what_cannot_be(folder):
    for settings, complaint in (
        ({"tags": ("O", "O")}, "tags must name each tag once"),
        ({"vocab_size": None}, "either a vocabulary_file and a vocab_size, or a tokenizer"),
        ({"vocab_size": 2}, "vocab_size must be at least 3"),
        ({"start_token": "<s>"}, "start_token and end_token are of a tokenizer"),
        ({"max_length": 0}, "must be at least 1"),
    ):
        with pytest.raises(UserError, match=complaint):
            columns(**settings)
    for file, complaint in (
        ("set.zip:set/tset", r"set.zip has no 'set/tset'; did you mean 'set/test'"),
        ("sett.zip:set/test", r"sett.zip does not exist.*did you mean 'set.zip'"),
    ):
        with pytest.raises(UserError, match=complaint):
            columns(file).open(folder)
    (folder / "latin").write_bytes("la O\nCoruña O\n".encode("latin-1"))
    latin = columns("latin", vocabulary_file="latin", encoding="latin-1").open(folder)
    assert latin.arrays["spellings"][2].tolist() == [*map(ord, "Coru")]
    message = r"latin, line 2 is not text in ConllColumns.encoding = 'utf-8': byte 9 .* is 0xf1"
    with pytest.raises(UserError, match=message):
        columns("latin").open(folder)
    wide = "la O\n".encode("utf-16-le") * 2 + b"\x00\xd8\n\x00"  # half of a surrogate pair
    (folder / "wide").write_bytes(wide)
    with pytest.raises(UserError, match=r"wide, line 3 is not text in .* = 'utf-16-le'"):
        columns("wide", encoding="utf-16-le").open(folder)
    with pytest.raises(UserError, match=r"encoding = 'utf-9': unknown encoding"):
        columns("latin", encoding="utf-9").open(folder)
    (folder / "bad.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"bad.zip is no zip archive"):
        columns("bad.zip:a").open(folder)
