"""Documents of text as one stream of tokens, encoded once."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from research.data.cache import worth_keeping
from research.data.dataset import Dataset
from research.data.progress import Progress
from research.data.sources.documents import Document, Documents
from research.data.sources.tally import Tally, decode_tallied, tell
from research.data.sources.windows import Windows, check_windows
from research.data.tokenizers.base import Tokenizer, below, encode_all, files_of, unknown_id_of
from research.errors import UserError

CHARACTERS_AT_ONCE = 1 << 22

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenCorpus:
    """Windows of `block_size` + 1 tokens, every `stride` tokens, of documents in a row.

    Each document is followed by `end_token`, a token's name (None: by nothing). The tokens are
    encoded once into a memory-mapped file in the cache of decoded data, of two bytes a token (one
    or four where the vocabulary is of another size), and never are in memory as a whole; the file
    is there when all of it is. `start` and `stop` choose a share of the documents, by the hash of
    their text: a document is on one side of a split whatever comes before it, and so are its
    copies. Documents without a token are refused, or skipped with `skip_empty`. How many were, and
    how many tokens are unknown, is logged.

    A batch is that of `windows.Windows`: with `packed` it has `segments`, so that attention stays
    within documents. A window begins and ends anywhere in a document; rows that overlap nowhere are
    those of a `stride` of `block_size`, which are for evaluation, too. An order of all windows
    takes 8 bytes each: a larger `stride` makes fewer of a large corpus.
    """

    documents: Documents
    tokenizer: Tokenizer
    block_size: int
    end_token: str | None
    stride: int = 1
    packed: bool = False
    start: float = 0.0
    stop: float = 1.0
    skip_empty: bool = False

    def __post_init__(self) -> None:
        check_windows("TokenCorpus", self.block_size, self.stride)
        if not 0.0 <= self.start < self.stop <= 1.0:
            raise UserError(
                f"TokenCorpus.start and TokenCorpus.stop must be fractions with 0 <= start < stop "
                f"<= 1; got {self.start} and {self.stop}."
            )
        if self.packed and self.end_token is None:
            raise UserError("TokenCorpus.packed needs an end_token, which tells documents apart.")

    def open(self, data_dir: Path) -> Dataset:
        """Raises UserError where a document cannot be encoded, where there is no space for the
        tokens, and where they are too few for a window."""
        files = self.documents.files(data_dir)
        tokenizer = below(self.tokenizer, data_dir)
        end = None if self.end_token is None else _token_id(tokenizer, self.end_token)
        # Not repr(self): the windows' settings change nothing in the stream.
        settings = f"TokenCorpus {self.documents!r} {tokenizer!r} {self.end_token!r}"
        settings += f" {self.start} {self.stop} {self.skip_empty}"
        arrays, tally = decode_tallied(
            [*files, *files_of(tokenizer)],
            settings,
            lambda tally: self._encode(tally, tokenizer, end, data_dir),
            worth_keeping(files),
            in_memory=False,
        )
        windows = Windows(
            len(arrays["tokens"]),
            self.block_size,
            self.stride,
            end_token=end if self.packed else None,
        )
        self._report(tally, windows.padding)
        if windows.size < 1:
            raise UserError(
                f"{_told(files)} {'has' if len(files) == 1 else 'have'} {windows.num_tokens} "
                f"tokens in the documents between {self.start} and {self.stop}; a window of "
                f"block_size {self.block_size} needs {windows.needs}."
            )
        return windows.open(arrays["tokens"])

    def _encode(
        self, tally: Tally, tokenizer: Tokenizer, end: int | None, data_dir: Path
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """The tokens, piece by piece."""
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        unknown = unknown_id_of(tokenizer)
        yield {"tokens": np.zeros(0, dtype)}
        with Progress("Encoding") as progress:
            for group in _groups(self._right(tally, data_dir)):
                pieces: list[Any] = []
                for document, ids in zip(group, _ids(tokenizer, group), strict=True):
                    _check(document, ids, tokenizer.vocab_size, end)
                    if not len(ids):
                        if not self.skip_empty:
                            raise UserError(
                                f"{document.place} is empty: it has no token; set "
                                "TokenCorpus.skip_empty to pass over such documents."
                            )
                        tally.leave_out("empty", document.place)
                        continue
                    tally.counts["kept"] += 1
                    tally.add_tokens(ids, unknown)
                    pieces += [ids] if end is None else [ids, [end]]
                if pieces:
                    yield {"tokens": np.concatenate(pieces).astype(dtype)}
                progress.update(group[-1].share)

    def _right(self, tally: Tally, data_dir: Path) -> Iterator[Document]:
        """The documents between `start` and `stop` that are not to be left out."""
        for document in self._chosen(data_dir):
            tally.counts["documents"] += 1
            if document.flaw:
                tally.leave_out("wrong", document.flaw)
            else:
                yield document

    def _chosen(self, data_dir: Path) -> Iterator[Document]:
        """The documents between `start` and `stop`."""
        for document in self.documents.documents(data_dir):
            if self.start == 0.0 and self.stop == 1.0:
                yield document
                continue
            digest = hashlib.blake2b(
                document.text.encode(errors="surrogatepass"), digest_size=8
            ).digest()
            if self.start <= int.from_bytes(digest) / 2**64 < self.stop:
                yield document

    def _report(self, tally: Tally, padding: float) -> None:
        wrong = tally.told("wrong", "documents", "documents were left out")
        if not tally.counts["kept"]:
            raise UserError(
                f"{self.documents} has no document between {self.start} and {self.stop}"
                f"{wrong and '; '}{wrong}."
            )
        logger.info("%s has %d documents.", self.documents, tally.counts["kept"])
        empty = tally.told("empty", "documents", "documents are empty and were skipped")
        tell(self.documents, [wrong, empty, tally.unknown()], padding)


def _groups(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Some documents at a time, which a tokenizer may encode by several threads."""
    group: list[Document] = []
    characters = 0
    for document in documents:
        group.append(document)
        characters += len(document.text)
        if characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _ids(tokenizer: Tokenizer, group: list[Document]) -> list[Int[np.ndarray, " tokens"]]:
    try:
        return encode_all(tokenizer, [document.text for document in group])
    except UserError:
        for document in group:  # which of them is it?
            try:
                tokenizer.encode(document.text)
            except UserError as error:
                raise UserError(f"{document.place}: {error}") from error
        raise


def _check(
    document: Document, ids: Int[np.ndarray, " tokens"], vocab_size: int, end: int | None
) -> None:
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    if low < 0 or high >= vocab_size:
        raise UserError(
            f"{document.place}: the tokenizer gives the id {low if low < 0 else high}, which is "
            f"not in [0, {vocab_size}), its vocabulary."
        )
    if end is not None and (ids == end).any():
        raise UserError(
            f"{document.place} has TokenCorpus.end_token inside it, so that documents could not "
            "be told apart; choose one that no text has."
        )


def _token_id(tokenizer: Any, name: str) -> int:
    """The id of a token by its name, or, where tokens have none, by its text."""
    if hasattr(tokenizer, "token_id"):
        return tokenizer.token_id(name)
    ids = tokenizer.encode(name)
    if len(ids) != 1:
        raise UserError(f"TokenCorpus.end_token = {name!r} is {len(ids)} tokens, not one.")
    return int(ids[0])


def _told(files: list[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
