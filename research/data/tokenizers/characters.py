"""Tokens that are characters or bytes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from research.data.tokenizers.base import Ids, check_ids
from research.errors import UserError


@dataclass(frozen=True)
class Char:
    """One token a character; the id of a character is its place in `alphabet`."""

    alphabet: str

    def __post_init__(self) -> None:
        repeated = [char for char in dict.fromkeys(self.alphabet) if self.alphabet.count(char) > 1]
        if repeated or not self.alphabet:
            raise UserError(
                f"Char.alphabet must name each character once; "
                f"{'it is empty' if not repeated else f'{repeated[0]!r} is repeated'}."
            )

    @property
    def vocab_size(self) -> int:
        return len(self.alphabet)

    def encode(self, text: str) -> Int[np.ndarray, " tokens"]:
        """Raises UserError for a character outside the alphabet, with its position."""
        alphabet = _code_points(self.alphabet)
        order = np.argsort(alphabet)
        points = _code_points(text)
        places = np.searchsorted(alphabet, points, sorter=order)
        ids = order[np.minimum(places, len(alphabet) - 1)]
        unknown = np.flatnonzero(alphabet[ids] != points)
        if unknown.size:
            position = int(unknown[0])
            raise UserError(
                f"The character {text[position]!r} at position {position} is not in "
                f"Char.alphabet ({len(self.alphabet)} characters)."
            )
        return ids.astype(np.int32)

    def decode(self, ids: Ids) -> str:
        return "".join(self.alphabet[index] for index in check_ids(ids, self.vocab_size))

    def byte_lengths(self) -> Int[np.ndarray, " vocab_size"]:
        """How many bytes of UTF-8 each character is."""
        lengths = [len(char.encode("utf-8", errors="surrogatepass")) for char in self.alphabet]
        return np.asarray(lengths, np.int32)


@dataclass(frozen=True)
class Byte:
    """One token a byte of UTF-8; ids are the bytes' values, 0 to 255."""

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, text: str) -> Int[np.ndarray, " tokens"]:
        return np.frombuffer(text.encode("utf-8", errors="surrogatepass"), np.uint8).astype(
            np.int32
        )

    def decode(self, ids: Ids) -> str:
        """Bytes that are no UTF-8 (a model may make some) become U+FFFD."""
        return bytes(check_ids(ids, self.vocab_size).tolist()).decode("utf-8", errors="replace")

    def byte_lengths(self) -> Int[np.ndarray, " vocab_size"]:
        """One byte each."""
        return np.ones(self.vocab_size, np.int32)


def _code_points(text: str) -> Int[np.ndarray, " characters"]:
    # Lone surrogates are characters of a Python string too.
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
