"""Sentences with a tag for each word, in columns as of CoNLL's shared tasks."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from research.data.cache import worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, line_of, read_bytes, wrong_byte
from research.data.sources.tally import Tally, decode_tallied, padding_of, tell
from research.data.tokenizers.base import Tokenizer, below, files_of, named_id, unknown_id_of
from research.errors import UserError
from research.suggestion import did_you_mean

PADDING, UNKNOWN = 0, 1  # ids of words and of characters
NO_TAG = -1


class Line(NamedTuple):
    """A word, its tag and the number of its line."""

    word: str
    tag: str
    number: int


@dataclass(frozen=True)
class ConllColumns:
    """Sentences of a file with a word a line, in the first of its columns, which white space parts,
    and the word's tag in column `tag_column` (-1: the last); an empty line ends a sentence.

    A file in a zip archive is "archive.zip:folder/file". Lines of -DOCSTART- are passed over. A
    word's tag is its place in `tags`.

    The words, in small letters if `lowercase`, are those of the file `vocabulary_file`, as a rule
    the training data, by falling count; ties in order of appearance. At most `vocab_size` - 2 have
    ids, from 2 on; 1 stands for all others, and 0 is padding. A word's characters are its first
    `max_characters`, as Unicode's numbers, or 1 where that is not below `num_characters`, and 0
    behind its end.

    With a `tokenizer` (of subwords) in place of a `vocabulary_file`, each word is tokens, the
    first of which has its tag; `start_token` stands before a sentence and `end_token` behind it,
    where given. There are no characters then.

    Sentences of more than `max_length` tokens become several examples; a word that has more is cut.
    How many did and were is logged, how many words have more than `max_characters`, how many tokens
    are unknown and how much is padding.

    A batch has tokens int32 (N, max_length), token_mask float32, 1 where there is a token, tags
    int32, -1 where there is none, and characters int32 (N, max_length, max_characters).
    """

    file: str
    tags: tuple[str, ...]
    max_length: int
    vocabulary_file: str | None = None
    vocab_size: int | None = None
    lowercase: bool = True
    num_characters: int = 592  # Latin letters with all their accents
    max_characters: int = 20
    tokenizer: Tokenizer | None = None
    start_token: str | None = None
    end_token: str | None = None
    tag_column: int = -1
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", tuple(self.tags))
        if len(set(self.tags)) != len(self.tags) or not self.tags:
            raise UserError(f"ConllColumns.tags must name each tag once; got {self.tags}.")
        by_words = self.vocabulary_file is not None and self.vocab_size is not None
        neither = self.vocabulary_file is None and self.vocab_size is None
        if not (neither if self.tokenizer is not None else by_words):
            raise UserError(
                "ConllColumns takes either a vocabulary_file and a vocab_size, or a tokenizer."
            )
        if self.tokenizer is None and (self.start_token or self.end_token):
            raise UserError("ConllColumns.start_token and end_token are of a tokenizer.")
        if self.vocab_size is not None and self.vocab_size < 3:
            raise UserError(
                f"ConllColumns.vocab_size must be at least 3, with padding and what is unknown; "
                f"got {self.vocab_size}."
            )
        if self.max_length < 1 or self.max_characters < 1 or self.num_characters < 2:
            raise UserError(
                "ConllColumns.max_length and max_characters must be at least 1, num_characters at "
                f"least 2; got {self.max_length}, {self.max_characters}, {self.num_characters}."
            )

    def open(self, data_dir: Path) -> Dataset:
        tokenizer = below(self.tokenizer, data_dir)
        file, *vocabulary_file = (
            _Columns.find(data_dir, name) for name in (self.file, self.vocabulary_file) if name
        )
        on_disk = [place.on_disk for place in (file, *vocabulary_file)]

        def decode(tally: Tally) -> Iterator[Mapping[str, np.ndarray]]:
            sentences = list(self._sentences(file))
            if tokenizer is not None:
                yield self._with_subwords(tally, file, sentences, tokenizer)
                return
            counted = self._sentences(vocabulary_file[0], any_tag=True)
            counts = Counter(self._key(line.word) for sentence in counted for line in sentence)
            words = [word for word, _ in counts.most_common((self.vocab_size or 2) - 2)]
            yield self._with_words(tally, sentences, words)

        files = [*on_disk, *files_of(tokenizer)]
        arrays, tally = decode_tallied(files, repr(self), decode, worth_keeping(on_disk))
        length = arrays["length"]
        long = f"sentences have more than max_length = {self.max_length} tokens"
        shortened = f"words have more than max_characters = {self.max_characters} and were cut"
        tell(
            file,
            [
                tally.told("parted", "sentences", f"{long} and became several examples"),
                tally.told("cut", "words", "words alone have more tokens and were cut"),
                tally.told("shortened", "words", shortened),
                tally.unknown(),
            ],
            padding_of(length, self.max_length),
        )
        return Dataset(len(length), arrays, gather_tagged, lengths=length)

    def sentences(self, data_dir: Path) -> list[list[Line]]:
        """The sentences as they are in the file."""
        return list(self._sentences(_Columns.find(data_dir, self.file)))

    def _key(self, word: str) -> str:
        return word.lower() if self.lowercase else word

    def _sentences(self, file: "_Columns", any_tag: bool = False) -> Iterator[list[Line]]:
        sentence: list[Line] = []
        num_columns = num_sentences = 0
        for number, line in enumerate(file.text(self.encoding).split("\n"), start=1):
            columns = line.split()
            if columns and columns[0] != "-DOCSTART-":
                num_columns = num_columns or len(columns)
                place = f"{file}, line {number}"
                if len(columns) != num_columns or num_columns < 2:
                    raise UserError(
                        f"{place} has {len(columns)} column(s): {line!r}; a word and its tag are "
                        f"at least 2, and all lines have as many as the first, {num_columns}."
                    )
                try:
                    tag = columns[self.tag_column]
                except IndexError:
                    raise UserError(
                        f"{place} has no column {self.tag_column}, of {num_columns}."
                    ) from None
                if tag not in self.tags and not any_tag:
                    raise UserError(
                        f"{place}: the tag {tag!r} is none of ConllColumns.tags"
                        f"{did_you_mean(tag, self.tags)}"
                    )
                sentence.append(Line(columns[0], tag, number))
            elif sentence:
                yield sentence
                sentence, num_sentences = [], num_sentences + 1
        if sentence:
            yield sentence
        elif not num_sentences:
            raise UserError(f"{file} holds no sentences.")

    def _with_words(
        self, tally: Tally, sentences: Sequence[Sequence[Line]], words: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Arrays of words by their ids, and how each is spelt, by its place in `spellings`."""
        ids = {word: index for index, word in enumerate(words, start=UNKNOWN + 1)}
        spelt: dict[str, int] = {"": 0}
        tokens = [
            [[ids.get(self._key(line.word), UNKNOWN)] for line in sentence]
            for sentence in sentences
        ]
        arrays, rows = self._rows(tally, sentences, tokens, [], [], UNKNOWN)
        arrays["spelling"] = np.zeros(arrays["tokens"].shape, np.int32)
        for spelling, row in zip(arrays["spelling"], rows, strict=True):
            spelling[: len(row)] = [spelt.setdefault(line.word, len(spelt)) for line in row]
            tally.counts["shortened"] += sum(len(line.word) > self.max_characters for line in row)
        spellings = np.zeros((len(spelt), self.max_characters), np.uint32)
        for word, index in spelt.items():
            numbers = [ord(character) for character in word[: self.max_characters]]
            spellings[index, : len(numbers)] = numbers
        spellings[spellings >= self.num_characters] = UNKNOWN
        return {**arrays, "spellings": spellings}

    def _with_subwords(
        self,
        tally: Tally,
        file: "_Columns",
        sentences: Sequence[Sequence[Line]],
        tokenizer: Any,
    ) -> dict[str, np.ndarray]:
        before, behind = (
            [] if name is None else [named_id(tokenizer, name)]
            for name in (self.start_token, self.end_token)
        )
        tokens: list[list[list[int]]] = []
        for sentence in sentences:
            tokens.append([])
            for line in sentence:
                place = f"{file}, line {line.number}"
                try:
                    parts = [int(i) for i in tokenizer.encode(f" {line.word}")]
                except UserError as error:
                    raise UserError(f"{place}: {error}") from error
                if not parts:
                    raise UserError(f"{place}: the tokenizer makes no token of {line.word!r}")
                tokens[-1].append(parts)
        unknown = unknown_id_of(tokenizer)
        return self._rows(tally, sentences, tokens, before, behind, unknown)[0]

    def _rows(
        self,
        tally: Tally,
        sentences: Sequence[Sequence[Line]],
        tokens: Sequence[Sequence[list[int]]],
        before: list[int],
        behind: list[int],
        unknown: int | None,
    ) -> tuple[dict[str, np.ndarray], list[list[Line]]]:
        """The tokens and tags of each example, and its words. Words are never parted."""
        room = self.max_length - len(before) - len(behind)
        if room < 1:
            raise UserError(f"ConllColumns.max_length = {self.max_length} leaves room for no word.")
        rows: list[list[Line]] = []
        ids_of_rows: list[list[list[int]]] = []
        for sentence, words in zip(sentences, tokens, strict=True):
            first = len(rows)
            used = room
            for line, parts in zip(sentence, words, strict=True):
                tally.counts["cut"] += len(parts) > room
                parts = parts[:room]
                if used + len(parts) > room:
                    rows.append([])
                    ids_of_rows.append([])
                    used = 0
                rows[-1].append(line)
                ids_of_rows[-1].append(parts)
                used += len(parts)
            tally.add_tokens(np.asarray([index for parts in words for index in parts]), unknown)
            tally.counts["words"] += len(words)
            tally.counts["sentences"] += 1
            tally.counts["parted"] += len(rows) - first > 1
        place = {tag: index for index, tag in enumerate(self.tags)}
        shape = (len(rows), self.max_length)
        arrays: dict[str, np.ndarray] = {
            "tokens": np.zeros(shape, np.int32),
            "tags": np.full(shape, NO_TAG, np.int16),
            "length": np.zeros(len(rows), np.int32),
        }
        for i, (row, ids) in enumerate(zip(rows, ids_of_rows, strict=True)):
            flat = [*before, *(index for parts in ids for index in parts), *behind]
            starts = len(before) + np.cumsum([0, *map(len, ids)])[:-1]
            arrays["tokens"][i, : len(flat)] = flat
            arrays["tags"][i, starts] = [place[line.tag] for line in row]
            arrays["length"][i] = len(flat)
        return arrays, rows


def gather_tagged(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Rows of padded tokens with their tags and, of words, their characters."""
    tokens = arrays["tokens"][indices]
    has_token = np.arange(tokens.shape[1]) < arrays["length"][indices][:, None]
    batch = {
        "tokens": tokens,
        "token_mask": has_token.astype(np.float32),
        "tags": arrays["tags"][indices].astype(np.int32),
    }
    if "spelling" in arrays:
        characters = arrays["spellings"][arrays["spelling"][indices]]
        batch["characters"] = characters.astype(np.int32)
    return batch


class _Columns(NamedTuple):
    """A file, or one in an archive."""

    on_disk: Path
    inside: str

    @classmethod
    def find(cls, data_dir: Path, file: str) -> "_Columns":
        name, separator, inside = file.partition(".zip:")
        return cls(find(data_dir, f"{name}.zip" if separator else file), inside)

    def __str__(self) -> str:
        return f"{self.on_disk}:{self.inside}" if self.inside else str(self.on_disk)

    def text(self, encoding: str) -> str:
        content = self._read_inside() if self.inside else read_bytes(self.on_disk)
        try:
            return content.decode(encoding)
        except LookupError as error:
            raise UserError(f"ConllColumns.encoding = {encoding!r}: {error}.") from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self}, line {line_of(error, encoding)} is not text in ConllColumns.encoding = "
                f"{encoding!r}: {wrong_byte(error)}."
            ) from error

    def _read_inside(self) -> bytes:
        try:
            with zipfile.ZipFile(self.on_disk) as archive:
                if self.inside not in archive.namelist():
                    hint = did_you_mean(self.inside, archive.namelist())
                    raise UserError(f"{self.on_disk} has no {self.inside!r}{hint}")
                return archive.read(self.inside)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"{self.on_disk} is no zip archive, or a corrupt one: {error}."
            ) from error
