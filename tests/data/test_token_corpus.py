"""Corpora of documents: what is encoded, how it is cut, and what is said of wrong texts."""

import dataclasses
import gzip
import json
import logging
import lzma
import os
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from research.data.sources import TextFiles, Tfds, TokenCorpus
from research.data.sources.windows import Windows
from research.data.tokenizers import Byte, Char, TrainedSubword, Word
from research.errors import UserError
from tests import processes
from tests.small_data import write_tfds_texts

END = "\0"
TEXTS = ["first one", "a second, longer one", "3", "the fourth is the last"]


def corpus(*paths: str, **settings) -> TokenCorpus:
    of_files = ("separator", "field", "strip", "wrong_rows")
    files = {key: settings.pop(key) for key in of_files if key in settings}
    given = {"tokenizer": Byte(), "block_size": 4, "end_token": END} | settings
    return TokenCorpus(TextFiles(paths, **files), **given)


def tokens_of(source: TokenCorpus, folder: Path) -> str:
    return Byte().decode(source.open(folder).arrays["tokens"])


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n")
    return tmp_path


def test_documents_are_read_from_whatever_holds_them(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text, "id": 0}) for text in TEXTS]
    write_tfds_texts(tmp_path / "tfds", "tales", TEXTS)
    for number, text in enumerate(TEXTS):
        (tmp_path / f"part_{number}.txt").write_text(text)
    (tmp_path / "marked.txt.gz").write_bytes(gzip.compress("<end>".join(TEXTS).encode()))
    (tmp_path / "spaced.txt").write_text("\n<end>\n".join(TEXTS) + "\n<end> \n")
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress("\n\n".join(rows).encode()))
    expected = "".join(text + END for text in TEXTS)
    for source in (
        corpus("part_*.txt"),
        corpus("part_0.txt", "part_[123].txt"),
        corpus("marked.txt.gz", separator="<end>"),
        corpus("spaced.txt", separator="<end>", strip=True),
        corpus("a.jsonl.xz", field="text"),
        TokenCorpus(Tfds("tales", "train", keys=("text",)), Byte(), 4, END),
    ):
        assert tokens_of(source, tmp_path) == expected, source.documents
    assert tokens_of(corpus("part_*.txt", end_token=None), tmp_path) == "".join(TEXTS)


def test_parts_do_not_depend_on_how_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "éa--b---c--" + "d" * 30 + "--"
    (tmp_path / "a.txt").write_text(text)
    found = []
    for size in (1, 2, 3, 5, 1000):
        monkeypatch.setattr("research.data.sources.documents.CHUNK_BYTES", size)
        documents = list(TextFiles(("a.txt",), separator="--").documents(tmp_path))
        found.append([document.text for document in documents])
        assert documents[1].place == f"{tmp_path / 'a.txt'}, document 2"
    assert found == [["éa", "b", "-c", "d" * 30]] * 5


def test_is_encoded_once_into_two_bytes_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("research.data.sources.token_corpus.worth_keeping", bool)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS * 200))
    tokenizer = TrainedSubword((str(tmp_path / "a.txt"),), 300, special_tokens=("<end>",))
    source = corpus("a.txt", separator="\n", tokenizer=tokenizer, end_token="<end>")
    tokens = source.open(tmp_path).arrays["tokens"]
    assert tokens.dtype == np.uint16
    assert isinstance(tokens.base, np.memmap)
    documents = "".join(tokenizer.decode(tokens)).split("<end>")
    assert documents == [*(TEXTS * 200), ""]
    monkeypatch.setattr(TokenCorpus, "_encode", None)
    for other in ({"block_size": 7}, {"packed": True}, {"stride": 3}):
        again = dataclasses.replace(source, **other).open(tmp_path)
        np.testing.assert_array_equal(again.arrays["tokens"], tokens)


def test_a_killed_encoding_leaves_nothing_half_written(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS * 100_000))
    cache.mkdir()
    process = processes.start(_encode_until_killed, tmp_path)
    code, output = process.wait()
    assert code == -signal.SIGKILL, output
    written = list((cache / "decoded").iterdir())
    assert len(written) == 1 and ".partial-" in written[0].name
    assert (written[0] / "tokens.npy").stat().st_size > 1_000_000
    source = corpus("a.txt", separator="\n")
    assert tokens_of(source, tmp_path) == "".join(text + END for text in TEXTS) * 100_000


def _encode_until_killed(folder: Path) -> None:
    def update(progress: object, share: float) -> None:
        if share > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)

    pytest.MonkeyPatch().setattr("research.data.progress.Progress.update", update)
    corpus("a.txt", separator="\n").open(folder)


def test_a_full_disk_is_told_and_leaves_nothing(
    lines: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("research.data.cache.CACHE_FROM_BYTES", 0)
    monkeypatch.setattr("research.data.cache.os.fsync", no_space)
    with pytest.raises(UserError, match=r"No space left.*RESEARCH_CACHE_DIR"):
        corpus("a.txt", separator="\n").open(lines)
    assert not list((cache / "decoded").iterdir())


def test_splits_by_documents_and_keeps_copies_together(tmp_path: Path) -> None:
    texts = [f"document {number % 300}" for number in range(600)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    parts = [
        set(tokens_of(corpus("a.txt", separator="\n", start=start, stop=stop), tmp_path).split(END))
        - {""}
        for start, stop in ((0.0, 0.8), (0.8, 1.0))
    ]
    assert parts[0] | parts[1] == set(texts)
    assert not parts[0] & parts[1]
    assert 200 < len(parts[0]) < 280
    (tmp_path / "a.txt").write_text("\n".join(["one more", *reversed(texts)]))
    again = tokens_of(corpus("a.txt", separator="\n", start=0.8), tmp_path)
    assert set(again.split(END)) - {"", "one more"} == parts[1]


def test_windows_are_every_offset_or_each_token_once(lines: Path) -> None:
    whole = "".join(text + END for text in TEXTS).encode()
    every = corpus("a.txt", separator="\n").open(lines)
    assert every.size == len(whole) - 4
    rows = every.gather(every.arrays, np.arange(every.size))["tokens"]
    assert [bytes(row.tolist()) for row in rows] == [whole[i : i + 5] for i in range(every.size)]
    covering = corpus("a.txt", separator="\n", stride=4).open(lines)
    batch = covering.gather(covering.arrays, np.arange(covering.size))
    assert bytes(batch["tokens"][:, 1:][batch["token_mask"] > 0].tolist()) == whole[1:]


def test_packed_windows_number_their_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab\nc\ndefgh")
    dataset = corpus("a.txt", separator="\n", block_size=5, stride=5, packed=True).open(tmp_path)
    batch = dataset.gather(dataset.arrays, np.arange(2))
    assert [bytes(row.tolist()) for row in batch["tokens"]] == [b"ab\0c\0d", b"defgh\0"]
    assert batch["segments"].tolist() == [[0, 0, 0, 1, 1, 2], [0] * 6]
    compiled = jax.jit(dataset.gather)(dict(dataset.arrays), np.arange(2))
    for name, array in batch.items():
        assert array.dtype == compiled[name].dtype, name
        np.testing.assert_array_equal(array, compiled[name], err_msg=name)


def test_streams_go_on_from_batch_to_batch() -> None:
    windows = Windows(num_tokens=26, block_size=3, streams=2)
    dataset = windows.open(np.arange(26))
    assert dataset.size == 8
    batches = [dataset.gather(dataset.arrays, np.arange(i, i + 2)) for i in range(0, 8, 2)]
    for stream in range(2):
        inputs = np.concatenate([batch["tokens"][stream, :-1] for batch in batches])
        assert inputs.tolist() == list(range(13 * stream, 13 * stream + 12))
        assert all((b["tokens"][stream, 1:] == b["tokens"][stream, :-1] + 1).all() for b in batches)
    assert [batch["continues"].tolist() for batch in batches] == [[False] * 2] + [[True] * 2] * 3
    compiled = jax.jit(dataset.gather)(dict(dataset.arrays), np.arange(6, 8))
    np.testing.assert_array_equal(compiled["tokens"], batches[-1]["tokens"])


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"ab\n\ncd", {}, r"a\.txt, document 2 is empty.*skip_empty"),
        (b"ab\ncd\xff", {}, r"a\.txt, line 2 is not UTF-8 text: byte 5 of the file is 0xff"),
        (b"ab\ncd", {"tokenizer": Char("ab\0")}, r"a\.txt, document 2: The character 'c'"),
        (b"ab\nc\0d", {}, r"document 2 has TokenCorpus\.end_token inside"),
        (b"ab\ncd", {"block_size": 6}, r"a\.txt has 6 tokens .* block_size 6 needs 7"),
        (b"ab\ncd", {"block_size": 0}, "block_size"),
        (b"ab\ncd", {"stop": 0.0}, "stop"),
        (b"ab\ncd", {"end_token": "ab"}, r"end_token = 'ab' is 2 tokens"),
        (b"ab\ncd", {"end_token": None, "packed": True}, "packed needs an end_token"),
        (b"", {}, "has no document"),
    ],
)
def test_refuses_what_cannot_be_encoded(
    tmp_path: Path, content: bytes, settings: dict, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        corpus("a.txt", separator="\n", **settings).open(tmp_path)


def test_refuses_files_that_are_not_there_or_not_whole(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"txt": "a"}')
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"abc" * 1000)[:-9])
    for source, message in (
        (corpus("no_*.txt"), r"no_\*\.txt does not exist"),
        (corpus("b.jsonl", field="text"), "line 1 has no field 'text'; did you mean 'txt'"),
        (corpus("c.txt.gz"), "c.txt.gz is truncated"),
    ):
        with pytest.raises(UserError, match=message):
            source.open(tmp_path)


def test_refuses_ids_that_are_not_of_the_vocabulary(lines: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Wrong(Byte):
        vocab_size = 100

    with pytest.raises(UserError, match=r"document 1: .* id 116.* not in \[0, 100\)"):
        corpus("a.txt", separator="\n", tokenizer=Wrong()).open(lines)


def test_counts_what_is_skipped_and_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text("a b\n\nb c d\n")
    tokenizer = Word(("a", "b", "<end>"))
    source = corpus(
        "a.txt", separator="\n", tokenizer=tokenizer, end_token="<end>", skip_empty=True
    )
    with caplog.at_level(logging.WARNING):
        dataset = source.open(tmp_path)
    assert tokenizer.decode(dataset.arrays["tokens"]) == "a b <end> b <unk> <unk> <end>"
    assert "1 of 3 documents are empty and were skipped (the first: " in caplog.text
    assert "a.txt, document 2), 2 unknown tokens (40.00 %)" in caplog.text


@pytest.mark.parametrize("chunk", [2, 1000])
def test_documents_that_are_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, chunk: int
) -> None:
    monkeypatch.setattr("research.data.sources.documents.CHUNK_BYTES", chunk)
    content = b"ab\n--\nc\n\xc3\xa9\xe9--d\xff--e"
    (tmp_path / "a.txt").write_bytes(content)
    message = f"line 4 is not UTF-8 text: byte {content.index(0xE9)} of the file is 0xe9"
    with pytest.raises(UserError, match=message):
        corpus("a.txt", separator="--").open(tmp_path)
    source = corpus("a.txt", separator="--", wrong_rows="skip")
    assert tokens_of(source, tmp_path) == f"ab\n{END}e{END}"
    assert f"2 of 4 documents were left out (the first: {tmp_path}/a.txt, line 4" in caplog.text
    (tmp_path / "a.txt").write_bytes(b"".join(b"%d--\xff%d--" % (i, i) for i in range(20)))
    lost = []
    for start, stop in ((0.0, 0.5), (0.5, 1.0)):
        caplog.clear()
        tokens_of(dataclasses.replace(source, start=start, stop=stop), tmp_path)
        lost += [int(number) for number in re.findall(r"(\d+) of \d+ documents", caplog.text)]
    assert sum(lost) == 20, "each is on one side of a split"
    assert len(lost) == 2
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"has no document .*; 1 of 1 documents were left out"):
        corpus("a.txt", wrong_rows="skip").open(tmp_path)


def test_rows_without_a_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [b'{"text": "abc"}', b'{"text": "\xff"}', b"", b'{"txt": "d"}', b'{"text": "ef"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2 is not UTF-8 text: byte 26"):
        corpus("a.jsonl", field="text").open(tmp_path)
    source = corpus("a.jsonl", field="text", wrong_rows="skip")
    assert tokens_of(source, tmp_path) == f"abc{END}ef{END}"
    assert "2 of 4 documents were left out" in caplog.text
    with pytest.raises(UserError, match="wrong_rows must be 'stop' or 'skip', not 'drop'"):
        TextFiles(("a.txt",), wrong_rows="drop")  # type: ignore[arg-type]


def test_subwords_know_their_unknown_token(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("low lower lowest " * 20)
    for model, unknown in (("wordpiece", "[UNK]"), ("unigram", "<unk>"), ("bpe", None)):
        tokenizer = TrainedSubword((str(tmp_path / "a.txt"),), 270, model)
        expected = None if unknown is None else tokenizer.token_id(unknown)
        assert tokenizer.unknown_id == expected
        texts = ["low ☃", "lowest", ""]
        for ids, text in zip(tokenizer.encode_batch(texts), texts, strict=True):
            np.testing.assert_array_equal(ids, tokenizer.encode(text))
