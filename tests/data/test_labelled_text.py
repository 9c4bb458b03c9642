"""Rows of texts and labels: what becomes of them, and which are refused or left out."""

import gzip
import json
import logging
import lzma
from pathlib import Path

import numpy as np
import pytest

from research.data.dataset import Dataset, gather_rows
from research.data.order import LengthBuckets
from research.data.sources import Classes, LabelledText, Subset
from research.data.tokenizers import Char, Word
from research.errors import UserError

LETTERS = Char("_abcdef\u2028")


def batch_of(dataset: Dataset) -> dict[str, np.ndarray]:
    return dataset.gather(dataset.arrays, np.arange(dataset.size))


def write_lines(path: Path, *rows: object) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"text": "ab", "y": 1}, {"text": "abcdef", "y": 0}, {"text": "a\u2028c", "y": 1}]
    write_lines(tmp_path / "a.jsonl", *rows)
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    for file in ("a.jsonl", "a.jsonl.gz"):
        dataset = LabelledText(file, "text", LETTERS, 4, "y", ("0", "1")).open(tmp_path)
        batch = batch_of(dataset)
        assert batch["tokens"].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [1, 7, 3, 0]]
        assert batch["token_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
        assert batch["label"].tolist() == [1, 0, 1]
        assert {name: array.dtype for name, array in batch.items()} == {
            "tokens": np.int32,
            "token_mask": np.float32,
            "label": np.int32,
        }
        assert dataset.lengths is not None
        assert LengthBuckets.of((3, 4), dataset.lengths).width(np.array([0, 2])) == 3
    without = LabelledText("a.jsonl", "text", LETTERS, 4)
    assert "label" not in batch_of(without.open(tmp_path))
    assert without.texts(tmp_path)[1] == ("abcdef", 0)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("start", ["abc"]),
        ("end", ["cde"]),
        ("both", ["ade"]),
        ("all", ["abc", "de_"]),
    ],
)
def test_long_texts_are_cut(keep: str, kept: list[str], tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "abcde"}, {"text": "abc"})
    source = LabelledText("a.jsonl", "text", LETTERS, 3, keep=keep)  # type: ignore[arg-type]
    tokens = batch_of(source.open(tmp_path))["tokens"]
    assert [LETTERS.decode(row) for row in tokens] == [*kept, "abc"]


def test_tokens_around_a_text_are_kept(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "a b b a"}, {"text": "b"})
    words = Word(("[PAD]", "[CLS]", "[SEP]", "a", "b"))
    source = LabelledText(
        "a.jsonl", "text", words, 3, keep="end", start_token="[CLS]", end_token="[SEP]"
    )
    batch = batch_of(source.open(tmp_path))
    decoded = [
        words.decode(row[mask > 0])
        for row, mask in zip(batch["tokens"], batch["token_mask"], strict=True)
    ]
    assert decoded == ["[CLS] b b a [SEP]", "[CLS] b [SEP]"]
    with pytest.raises(UserError, match=r"Char has no special tokens, and '\[CLS\]'"):
        LabelledText("a.jsonl", "text", Char(" ab"), 3, start_token="[CLS]").open(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("ab", "c", "[CLS] a b [SEP] c [SEP]"),
        ("a", "bcdef", "[CLS] a [SEP] b c d e [SEP]"),
        ("abcdef", "cd", "[CLS] a b c [SEP] c d [SEP]"),
        ("abcdef", "fedcba", "[CLS] a b c [SEP] f e [SEP]"),
    ],
)
def test_pairs_of_texts(first: str, second: str, kept: str, tmp_path: Path) -> None:
    row = {"premise": " ".join(first), "hypothesis": " ".join(second), "y": 1}
    write_lines(tmp_path / "a.jsonl", row, {"premise": "a", "hypothesis": "b", "y": 0})
    words = Word(("[PAD]", "[CLS]", "[SEP]", *"abcdef"))
    source = LabelledText(
        *("a.jsonl", "premise", words, 5, "y", ("0", "1")),
        start_token="[CLS]",
        end_token="[SEP]",
        second_text="hypothesis",
    )
    dataset = source.open(tmp_path)
    batch = batch_of(dataset)
    tokens, mask, types = (batch[name][0] for name in ("tokens", "token_mask", "token_types"))
    assert words.decode(tokens[mask > 0]) == kept
    first_half, second_half, _ = kept.split("[SEP]")
    assert words.decode(tokens[types > 0]) == f"{second_half.strip()} [SEP]"
    assert (types[: len(first_half.split()) + 1] == 0).all()
    assert (types[mask == 0] == 0).all()
    assert batch["tokens"].shape == (2, 5 + 3)
    assert dataset.lengths is not None
    assert dataset.lengths.tolist() == [len(kept.split()), 5]
    assert source.texts(tmp_path)[0] == (row["premise"], 1)


def test_the_second_text_of_a_pair_is_checked(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "a", "other": ""})
    source = LabelledText("a.jsonl", "text", LETTERS, 4, second_text="other")
    with pytest.raises(UserError, match=r"line 1: field 'other' is '', which has no token"):
        source.open(tmp_path)
    with pytest.raises(UserError, match=r"second_text needs keep = 'start' .* got 'end' and 4"):
        LabelledText("a.jsonl", "text", LETTERS, 4, keep="end", second_text="other")


def test_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('y,note,text\nneg,,"ab\nc"\n\npos,x,f\n'.replace("\nc", "c"))
    (tmp_path / "b.tsv.xz").write_bytes(lzma.compress(b"neg\t\tabc\r\npos\tx\tf\r\n"))
    for source in (
        LabelledText("a.csv", "text", LETTERS, 4, "y", ("neg", "pos")),
        LabelledText(
            *("b.tsv.xz", "text", LETTERS, 4, "y", ("neg", "pos")), columns=("y", "note", "text")
        ),
    ):
        batch = batch_of(source.open(tmp_path))
        assert batch["tokens"].tolist() == [[1, 2, 3, 0], [6, 0, 0, 0]]
        assert batch["label"].tolist() == [0, 1]


def test_labels_that_are_numbers(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "a", "y": 2.5}, {"text": "b", "y": "-1"})
    label = batch_of(LabelledText("a.jsonl", "text", LETTERS, 4, "y").open(tmp_path))["label"]
    assert label.dtype == np.float32
    assert label.tolist() == [2.5, -1.0]


WRONG = [
    ({"txt": "a", "y": 0}, "no field 'text'; did you mean 'txt'"),
    ({"text": 3, "y": 0}, "field 'text' is 3, not a string"),
    ({"text": "z", "y": 0}, "field 'text': The character 'z' at position 0"),
    ({"text": "", "y": 0}, "field 'text' is '', which has no token"),
    ('{"text": "a\udcff", "y": 0}', "field 'text' is not UTF-8 text"),
    ({"text": "a"}, "no field 'y'"),
    ({"text": "a", "y": 2}, "field 'y' is '2', not one of the classes '0', '1'"),
]


@pytest.mark.parametrize(("row", "message"), WRONG)
def test_a_wrong_row_stops_the_run(row: object, message: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "a", "y": 0}, row)
    with pytest.raises(UserError, match=f"{tmp_path / 'a.jsonl'}, line 2: {message}"):
        LabelledText("a.jsonl", "text", LETTERS, 4, "y", ("0", "1")).open(tmp_path)


def test_wrong_rows_are_left_out_by_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [{"text": "ab", "y": 1}, {"text": "c", "y": 0}]
    write_lines(tmp_path / "a.jsonl", good[0], *(row for row, _ in WRONG), good[1])
    source = LabelledText("a.jsonl", "text", LETTERS, 4, "y", classes=("0", "1"), wrong_rows="skip")
    assert batch_of(source.open(tmp_path))["label"].tolist() == [1, 0]
    assert f"a.jsonl: {len(WRONG)} of {len(WRONG) + 2} rows were left out" in caplog.text
    assert "line 2: no field 'text'" in caplog.text
    # Whether a tokenizer can read them or not.
    assert source.texts(tmp_path) == [("ab", 1), ("z", 0), ("", 0), ("c", 0)]
    write_lines(tmp_path / "a.jsonl", WRONG[0][0])
    with pytest.raises(UserError, match=r"holds no examples\. .*line 1: no field 'text'"):
        source.open(tmp_path)


def test_what_was_cut_and_unknown_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "a b c d"}, {"text": "a"})
    with caplog.at_level(logging.INFO):
        LabelledText("a.jsonl", "text", Word(("a", "b", "c")), 3).open(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}/a.jsonl: 1 of 2 texts have more than max_length = 3 tokens and were cut, "
        "1 unknown tokens (20.00 %), 33 % padding."
    ]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"', "line 1 is not valid JSON"),
        ("a.jsonl", '["a"]', "line 1 is list, not a JSON object"),
        ("a.csv", "text,y\na,0\nb\n", "line 3 has 1 values for 2 columns"),
        ("a.csv", 'text,y\n"a"b,0\n', "line 2 is no row"),
        ("a.jsonl", "\n", "holds no examples"),
        ("a.txt", "a", r"is no \.jsonl, \.csv or \.tsv file"),
    ],
)
def test_files_that_hold_no_rows(file: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(content)
    source = LabelledText(file, "text", LETTERS, 4, "y", ("0", "1"), wrong_rows="skip")
    with pytest.raises(UserError, match=f"{tmp_path / file},? {message}"):
        source.open(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"keep": "middle"}, "keep must be 'start', 'end', 'both' or 'all'"),
        ({"wrong_rows": "warn"}, "wrong_rows must be 'stop' or 'skip'"),
        ({"label": None}, "classes are those of a label"),
    ],
)
def test_refused_settings(settings: dict[str, object], message: str) -> None:
    given = {"max_length": 4, "label": "y", "classes": ("0", "1")} | settings
    with pytest.raises(UserError, match=message):
        LabelledText("a.jsonl", "text", LETTERS, **given)  # type: ignore[arg-type]


def test_parts_and_few_examples_of_each_class(tmp_path: Path) -> None:
    rows = [{"text": "abcdef"[: i % 6 + 1], "y": i % 2} for i in range(20)]
    write_lines(tmp_path / "a.jsonl", *rows)
    source = LabelledText("a.jsonl", "text", LETTERS, 6, "y", ("0", "1"))
    part = Subset(source, start=15).open(tmp_path)
    assert batch_of(part)["label"].tolist() == [1, 0, 1, 0, 1]
    assert part.lengths is not None
    assert part.lengths.tolist() == batch_of(part)["token_mask"].sum(1).tolist()
    few = Classes(source, (0, 1), examples_per_class=3).open(tmp_path)
    batch = batch_of(few)
    assert np.bincount(batch["label"]).tolist() == [3, 3]
    assert few.gather is gather_rows
    assert few.lengths is not None
    assert few.lengths.tolist() == batch["token_mask"].sum(1).tolist()


def test_texts_are_kept_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("research.data.sources.labelled_text.ROWS_A_PIECE", 2)
    rows = [{"text": "abcdef"[i:], "y": i % 2} for i in range(5)]
    write_lines(tmp_path / "a.jsonl", *rows)
    batch = batch_of(LabelledText("a.jsonl", "text", LETTERS, 6, "y", ("0", "1")).open(tmp_path))
    texts = [
        LETTERS.decode(row[mask > 0])
        for row, mask in zip(batch["tokens"], batch["token_mask"], strict=True)
    ]
    assert texts == [row["text"] for row in rows]
