"""Tokens that are words."""

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from research.data.files import read_text
from research.data.json_rows import parse_row, text_of
from research.data.tokenizers.base import Ids, check_ids, find_file, fingerprint_of
from research.errors import UserError


@dataclass(frozen=True)
class Word:
    r"""One token a word; the vocabulary is given, or is the words of a text file.

    `pattern` is a regular expression of what a word is, by default all between white space;
    r"\w+|[^\w\s]" also takes punctuation apart. Words of a `file` are those of the text by falling
    count, ties in order of appearance, so a list of words, one a line, is such a file too; of a
    .jsonl file the texts are in `field`. At most `max_size` words are kept. The tokens `unknown`,
    which stands for every other word, and `end_of_line` (where given; "<eos>" counts the tokens of
    Penn Treebank as papers do) come first unless they are among the words.
    """

    vocabulary: tuple[str, ...] = ()
    file: str | None = None
    field: str | None = None
    max_size: int | None = None
    pattern: str = r"\S+"
    lowercase: bool = False
    unknown: str = "<unk>"
    end_of_line: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        if bool(self.vocabulary) == (self.file is not None):
            raise UserError("Word takes either a vocabulary or a file to take the words from.")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            word, _ = Counter(self.vocabulary).most_common(1)[0]
            raise UserError(f"Word.vocabulary must name each word once; {word!r} is repeated.")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UserError(f"Word.pattern {self.pattern!r} is not valid: {error}.") from error

    @property
    def words(self) -> tuple[str, ...]:
        """Every token, in the order of the ids."""
        return tuple(self._ids())

    @property
    def vocab_size(self) -> int:
        return len(self._ids())

    def encode(self, text: str) -> Int[np.ndarray, " tokens"]:
        """Words outside the vocabulary become `unknown`."""
        ids = self._ids()
        unknown = ids[self.unknown]
        return np.fromiter((ids.get(word, unknown) for word in self.split(text)), np.int32)

    def decode(self, ids: Ids) -> str:
        """The words with a space between them; `end_of_line` becomes a line feed."""
        words = self.words
        tokens = (words[index] for index in check_ids(ids, len(words)))
        return " ".join("\n" if token == self.end_of_line else token for token in tokens)

    def token_id(self, token: str) -> int:
        """The id of a word. Raises UserError for one that is not in the vocabulary."""
        ids = self._ids()
        if token not in ids:
            raise UserError(f"There is no token {token!r} in {self.file or 'the vocabulary'}.")
        return ids[token]

    @property
    def unknown_id(self) -> int:
        """The id of what stands for every word outside the vocabulary."""
        return self._ids()[self.unknown]

    def fingerprint(self) -> str:
        """A digest of the words and their ids."""
        return fingerprint_of(self.words)

    def split(self, text: str) -> list[str]:
        """The words of a text and the ends of its lines, known or not."""
        if self.lowercase:
            text = text.lower()
        find_words = re.compile(self.pattern).finditer
        if self.end_of_line is None:
            return [match.group() for match in find_words(text)]
        *lines, rest = text.split("\n")
        words = []
        for line in lines:
            words += [match.group() for match in find_words(line)]
            words.append(self.end_of_line)
        return words + [match.group() for match in find_words(rest)]

    def _ids(self) -> Mapping[str, int]:
        if self.file is None:
            return _index(self, None, 0)
        path = find_file(self.file)
        return _index(self, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _index(word: Word, path: Path | None, modified: int) -> Mapping[str, int]:
    words = word.vocabulary
    if path is not None:
        counts: Counter[str] = Counter()
        for text in _texts(path, word.field):
            counts.update(word.split(text))
        words = tuple(token for token, _ in counts.most_common(word.max_size))
    special = (word.unknown,) if word.end_of_line is None else (word.unknown, word.end_of_line)
    tokens = dict.fromkeys((*(token for token in special if token not in words), *words))
    return {token: index for index, token in enumerate(tokens)}


def _texts(path: Path, field: str | None) -> Iterator[str]:
    if field is None:
        yield read_text(path)
        return
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield text_of(parse_row(line, place), field, place)
