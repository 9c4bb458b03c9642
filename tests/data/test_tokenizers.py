"""Tokenizers: exact round trips, and clear words for what cannot be encoded."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.data.tokenizers import (
    Byte,
    BytePairEncoding,
    Char,
    Tokenizer,
    Word,
    below,
    train_byte_pair_encoding,
)
from research.errors import UserError

CORPUS = ["low lower lowest, newer newest: the newest's 12 lows\n" * 3, "wider  Wörter\t\n東京 🙂"]
ALPHABET = "cab \nZé🙂"
WORDS = ("the", "cat", "sat", "<unk>")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> BytePairEncoding:
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    return train_byte_pair_encoding(CORPUS, 300, path)


@given(st.text(ALPHABET))
def test_char_round_trip(text: str) -> None:
    tokenizer = Char(ALPHABET)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert len(ids) == len(text)
    assert ids.tolist() == [ALPHABET.index(char) for char in text]
    assert tokenizer.decode(ids) == text


@given(st.text())
def test_byte_round_trip(text: str) -> None:
    ids = Byte().encode(text)
    assert ids.tolist() == list(text.encode())
    assert Byte().decode(ids) == text


@given(text=st.text() | st.text("lowernest 12'\n\t"))
def test_byte_pair_encoding_round_trip(trained: BytePairEncoding, text: str) -> None:
    ids = trained.encode(text)
    assert ids.dtype == np.int32
    assert trained.decode(ids) == text
    assert len(ids) <= len(text.encode()), "joining pairs made a text longer"


@given(st.lists(st.integers(0, 4), max_size=20))
def test_word_round_trip_of_ids(ids: list[int]) -> None:
    tokenizer = Word(WORDS, end_of_line="<eos>")
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode(tokenizer.decode(ids)).tolist() == ids


def test_char_names_the_unknown_character_and_its_position() -> None:
    with pytest.raises(UserError, match="'X' at position 2"):
        Char("ab").encode("abXb")
    with pytest.raises(UserError, match="'a' is repeated"):
        Char("aba")


@pytest.mark.parametrize("tokenizer", [Char("ab"), Byte(), Word(("a", "b"))], ids=repr)
@pytest.mark.parametrize("bad", [-1, 100_000])
def test_decoding_refuses_ids_outside_the_vocabulary(tokenizer: Tokenizer, bad: int) -> None:
    with pytest.raises(UserError, match=f"id {bad} at position 1"):
        tokenizer.decode([0, bad])


def test_lone_surrogates_can_be_encoded(trained: BytePairEncoding) -> None:
    # JSON may hold them ("\ud800"), and UTF-8 may not.
    for tokenizer in (Byte(), trained):
        assert len(tokenizer.encode("\ud800")) == 3
    assert Char("a\ud800").encode("\ud800a").tolist() == [1, 0]


def test_equal_settings_are_equal_and_hash_alike(trained: BytePairEncoding) -> None:
    for first, second in (
        (Char("ab"), Char("ab")),
        (Byte(), Byte()),
        (Word(("a",)), Word(("a",))),
        (trained, BytePairEncoding(trained.file)),
    ):
        assert first == second
        assert hash(first) == hash(second)
        assert isinstance(first, Tokenizer)
    assert Char("ab") != Char("ba")


def test_words_of_a_file_by_count_then_appearance(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.xz"
    path.write_bytes(lzma.compress(b"b a c a\n c a <unk>\n"))
    tokenizer = Word(file=str(path), end_of_line="<eos>")
    assert tokenizer.words == ("a", "c", "<eos>", "b", "<unk>")
    assert tokenizer.encode("a zzz\n").tolist() == [0, 4, 2]
    assert Word(file=str(path), max_size=2).words == ("<unk>", "a", "c")


def test_words_of_a_json_lines_field_with_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "Good, good!"}\n\n{"text": "bad"}\n')
    tokenizer = Word(file=str(path), field="text", pattern=r"\w+|[^\w\s]", lowercase=True)
    assert tokenizer.words == ("<unk>", "good", ",", "!", "bad")
    path.write_text('{"text": "a"}\n{"txt": "b"}\n')
    with pytest.raises(UserError, match="line 2: no JSON object with 'text'"):
        Word(file=str(path), field="text").vocab_size  # noqa: B018


def test_word_takes_either_vocabulary_or_file() -> None:
    with pytest.raises(UserError, match="either"):
        Word()
    with pytest.raises(UserError, match="either"):
        Word(("a",), file="b")
    with pytest.raises(UserError, match="not valid"):
        Word(("a",), pattern="(")


def test_file_is_below_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "words.txt").write_text("a\nb\n")
    tokenizer = Word(file="words.txt")
    assert below(tokenizer, tmp_path).words == ("<unk>", "a", "b")
    monkeypatch.setenv("RESEARCH_DATA_DIR", str(tmp_path))
    assert tokenizer.words == ("<unk>", "a", "b")
    assert below(Byte(), tmp_path) == Byte()


def test_byte_pair_encoding_joins_as_the_paper_does(tmp_path: Path) -> None:
    # By hand: "ab" is there 5 times, then " ab" 4 times, as a space goes with the word behind it,
    # then " abc" twice, where "ab" and "c" are side by side only once.
    path = tmp_path / "tokenizer.json"
    tokenizer = train_byte_pair_encoding(["abc abc abc ab ab"], 259, path)
    content = json.loads(path.read_text())
    assert content["model"]["merges"] == [["a", "b"], ["Ġ", "ab"], ["Ġab", "c"]]
    assert [tokenizer.decode([index]) for index in range(256, 259)] == ["ab", " ab", " abc"]
    assert [tokenizer.decode([index]) for index in tokenizer.encode("abcab abc cab")] == [
        *("ab", "c", "ab", " abc", " ", "c", "ab")
    ]


# The ids that HuggingFace tokenizers 0.23 gives after training on CORPUS (BpeTrainer with the
# ByteLevel alphabet, at most 300 tokens). The texts have what patterns differ in: U+001C, which
# Python takes for white space, wide spaces, numbers that are no digits, contractions.
REFERENCE = {
    "the lowest's  newer\x1c\u2003Wörter ½²x 12\n\n 東京🙂 don't": [
        *(268, 276, 265, 220, 274, 216, 158, 222, 225, 278, 292, 220, 126, 121, 126, 110, 87, 270),
        *(198, 198, 220, 293, 287, 290, 220, 67, 78, 77, 6, 83),
    ],
    "newest slower  \t lows'll _ab ⅷ": [
        *(259, 260, 220, 82, 257, 256, 81, 220, 220, 197, 273, 6, 75, 75, 220, 62, 64, 65, 220),
        *(158, 227, 115),
    ],
}


@pytest.mark.parametrize("text", REFERENCE)
def test_byte_pair_encoding_equals_the_reference_library(
    trained: BytePairEncoding, text: str
) -> None:
    assert trained.vocab_size == 296
    assert trained.encode(text).tolist() == REFERENCE[text]


def test_training_stops_when_nothing_is_left_to_join(tmp_path: Path) -> None:
    tokenizer = train_byte_pair_encoding(["ab"], 1000, tmp_path / "tokenizer.json")
    assert tokenizer.vocab_size == 257
    with pytest.raises(UserError, match="at least 256"):
        train_byte_pair_encoding(["ab"], 255, tmp_path / "tokenizer.json")


def test_byte_pair_file_that_would_be_read_otherwise_is_refused(
    trained: BytePairEncoding, tmp_path: Path
) -> None:
    content = json.loads(Path(trained.file).read_text())
    path = tmp_path / "other.json"
    for changed in (
        content | {"pre_tokenizer": {"type": "Whitespace"}},
        content | {"normalizer": {"type": "Lowercase"}},
        content | {"model": content["model"] | {"type": "WordPiece"}},
        {},
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(UserError, match=f"{path} is no byte-level BPE"):
            BytePairEncoding(str(path)).encode("a")
    special = {"id": trained.vocab_size, "content": "<|endoftext|>", "special": True}
    path.write_text(json.dumps(content | {"added_tokens": [special]}))
    assert BytePairEncoding(str(path)).decode([special["id"]]) == "<|endoftext|>"
