"""What every tokenizer has, and where its file is."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from research.data.files import default_data_dir, find
from research.errors import UserError

Ids = Sequence[int] | Int[np.ndarray, " tokens"]


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids in [0, vocab_size) and back; equal settings make equal, hashable tokenizers."""

    @property
    def vocab_size(self) -> int:
        """The number of different tokens."""
        ...

    def encode(self, text: str) -> Int[np.ndarray, " tokens"]:
        """The ids of a text, int32. Raises UserError for what it has no token for."""
        ...

    def decode(self, ids: Ids) -> str:
        """The text of ids. Raises UserError for an id outside the vocabulary."""
        ...


def named_id(tokenizer: Any, token: str) -> int:
    """The id of a special token by its name. Raises UserError where the tokenizer has none such."""
    if not hasattr(tokenizer, "token_id"):
        raise UserError(
            f"{type(tokenizer).__name__} has no special tokens, and {token!r} is needed; take "
            "data.tokenizers.Subword, TrainedSubword or Word."
        )
    return tokenizer.token_id(token)


def below(tokenizer: Any, data_dir: Path) -> Any:
    """The same tokenizer reading its files, where it has relative ones, below `data_dir`."""
    if getattr(tokenizer, "files", None) is not None:
        files = tuple(str(find(data_dir, file)) for file in tokenizer.files)
        return dataclasses.replace(tokenizer, files=files)
    if getattr(tokenizer, "file", None) is None:
        return tokenizer
    return dataclasses.replace(tokenizer, file=str(find(data_dir, tokenizer.file)))


def unknown_id_of(tokenizer: Any) -> int | None:
    """The id of what stands for all that has no token; None where there is nothing like it."""
    return getattr(tokenizer, "unknown_id", None)


def id_or_none(tokenizer: Any, token: str) -> int | None:
    """The id of a special token; None where the tokenizer does not have it."""
    try:
        return tokenizer.token_id(token)
    except (AttributeError, UserError):
        return None


def files_of(tokenizer: Any) -> list[Path]:
    """The files a tokenizer reads."""
    files = getattr(tokenizer, "files", None)
    if files is not None:
        return [find_file(file) for file in files]
    file = getattr(tokenizer, "file", None)
    return [] if file is None else [find_file(file)]


def find_file(file: str) -> Path:
    """A tokenizer's file: below the default data folder where the path is relative."""
    return find(default_data_dir(), file)


def fingerprint_of(content: Any) -> str:
    """A digest of what a tokenizer was read from, as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def encode_all(tokenizer: Any, texts: Sequence[str]) -> list[Int[np.ndarray, " tokens"]]:
    """The ids of each text; at once by tokenizers that can, which have `encode_batch`."""
    if hasattr(tokenizer, "encode_batch"):
        return tokenizer.encode_batch(texts)
    return [tokenizer.encode(text) for text in texts]


def check_ids(ids: Ids, vocab_size: int) -> Int[np.ndarray, " tokens"]:
    """The ids as a flat integer array; raises UserError for one outside [0, vocab_size)."""
    array = np.asarray(ids, np.int64).reshape(-1)
    outside = np.flatnonzero((array < 0) | (array >= vocab_size))
    if outside.size:
        position = int(outside[0])
        raise UserError(
            f"The id {array[position]} at position {position} is not in [0, {vocab_size}), "
            "the tokenizer's vocabulary."
        )
    return array
