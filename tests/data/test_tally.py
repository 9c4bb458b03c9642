"""What befell texts is told whenever they are opened, in one line a source."""

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from research.data.cache import decode_once
from research.data.dataset import Source
from research.data.sources import (
    ConllColumns,
    LabelledText,
    Squad,
    Text,
    TextFiles,
    TextPairs,
    TokenCorpus,
)
from research.data.sources.tally import Tally, decode_tallied, tell
from research.data.tokenizers import Char, TrainedSubword, Word

WORDS = Word(("<s>", "</s>", "a", "b"))
QUESTION = {"id": "0", "question": "a é", "answers": [{"text": "b", "answer_start": 2}]}
PASSAGE = {"context": "a b", "qas": [QUESTION]}
FILES = {
    "text": "a b c a",
    "rows.jsonl": '{"text": "a b c a"}',
    "columns": "a O\nb O\nc O",
    "squad.json": json.dumps({"data": [{"paragraphs": [PASSAGE]}]}),
}


def sources(folder: Path) -> dict[str, tuple[Source, str]]:
    """A source of each kind, and what it has to tell."""
    for name, content in FILES.items():
        (folder / name).write_text(content)
    subwords = TrainedSubword((str(folder / "text"),), 12, "wordpiece", ("[UNK]", "[CLS]", "[SEP]"))
    return {
        "Text": (Text("text", WORDS, 2, stride=2), "1 unknown tokens (25.00 %), 25 % padding."),
        "TokenCorpus": (
            TokenCorpus(TextFiles(("text",)), WORDS, 3, "</s>", stride=3),
            "1 unknown tokens (25.00 %), 33 % padding.",
        ),
        "LabelledText": (
            LabelledText("rows.jsonl", "text", WORDS, 3),
            "1 of 1 texts have more than max_length = 3 tokens and were cut, "
            "1 unknown tokens (25.00 %).",
        ),
        "TextPairs": (
            TextPairs("text", "text", WORDS, WORDS, 8),
            "1 unknown source tokens (25.00 %), 1 unknown target tokens (25.00 %), 42 % padding.",
        ),
        "ConllColumns": (
            ConllColumns("columns", ("O",), 6, "columns", 4),
            "1 unknown tokens (33.33 %), 50 % padding.",
        ),
        "Squad": (
            Squad("squad.json", subwords, max_length=14, max_question_length=8),
            "1 unknown tokens (25.00 %), 50 % padding.",
        ),
    }


@pytest.mark.parametrize(
    "kind", ["Text", "TokenCorpus", "LabelledText", "TextPairs", "ConllColumns", "Squad"]
)
def test_is_told_also_of_what_is_kept(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("research.data.cache.CACHE_FROM_BYTES", 0)
    source, expected = sources(tmp_path)[kind]
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            dataset = source.open(tmp_path)
        (told,) = caplog.messages
        assert told.endswith(f": {expected}"), told
        assert "tally" not in dataset.arrays
        # All is kept.
        monkeypatch.setattr(type(WORDS), "encode", None)
        monkeypatch.setattr(TrainedSubword, "encode_with_offsets", None)


def test_nothing_is_told_where_there_is_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "ab"}\n{"text": "ba"}')
    with caplog.at_level(logging.INFO):
        LabelledText("rows.jsonl", "text", Char("ab"), 2).open(tmp_path)
        assert not caplog.messages
        tell("a file", ["", ""], padding=0.004)
        assert not caplog.messages
        tell("a file", ["", ""], padding=0.414)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "a file: 41 % padding.")
    ]


def test_large_numbers_are_readable() -> None:
    tally = Tally(Counter(cut=3, texts=29_000, unknown=12, tokens=120_000))
    assert tally.told("cut", "texts", "texts were cut") == "3 of 29,000 texts were cut"
    assert tally.unknown() == "12 unknown tokens (0.01 %)"
    for number in (2, 5):
        tally.leave_out("wrong", f"line {number} is none.")
    told = tally.told("wrong", "texts", "rows were left out")
    assert told == "2 of 29,000 rows were left out (the first: line 2 is none)"


def test_arrays_that_were_kept_without_counts_are_not_taken() -> None:
    arrays = {"tokens": np.arange(3)}
    assert decode_once([], "settings", lambda: [arrays]).keys() == {"tokens"}
    found, tally = decode_tallied([], "settings", lambda tally: [arrays])
    assert found.keys() == {"tokens"}
    assert not tally.counts
