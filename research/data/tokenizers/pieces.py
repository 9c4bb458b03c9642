"""Tokens as pieces of text: how long they are, which are special, and where words begin."""

import unicodedata

import numpy as np
from jaxtyping import Bool, Int

from research.data.tokenizers.base import Tokenizer
from research.data.tokenizers.subword import Subword, TrainedSubword
from research.data.tokenizers.words import Word


def pieces_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What each token adds to a text that ends in a letter, such as " the" or "ing"."""
    if isinstance(tokenizer, Subword | TrainedSubword):
        return tokenizer.pieces()
    if isinstance(tokenizer, Word):
        return tuple("\n" if w == tokenizer.end_of_line else f" {w}" for w in tokenizer.words)
    return tuple(tokenizer.decode([index]) for index in range(tokenizer.vocab_size))


def byte_lengths(tokenizer: Tokenizer) -> Int[np.ndarray, " vocab_size"] | None:
    """How many bytes of UTF-8 each token stands for, 0 for special tokens: those of all tokens of a
    text are as many as the text has.

    None where that cannot be: for tokenizers that change a text (small letters, Unicode's normal
    forms, spaces between words) or have a token for what they do not know.
    """
    own = getattr(tokenizer, "byte_lengths", None)
    return None if own is None else own()


def special_ids(tokenizer: Tokenizer) -> Int[np.ndarray, " special"]:
    """The ids of tokens that are no text: those that a subword tokenizer says are special, and what
    stands for unknown words."""
    if isinstance(tokenizer, Subword | TrainedSubword):
        return np.asarray(tokenizer.special_ids(), np.int32)
    if isinstance(tokenizer, Word):
        return np.asarray([tokenizer.token_id(tokenizer.unknown)], np.int32)
    return np.zeros(0, np.int32)


def word_edges(
    tokenizer: Tokenizer,
) -> tuple[Bool[np.ndarray, " vocab_size"], Bool[np.ndarray, " vocab_size"]]:
    """Whether each token begins a word whatever is before it, and whether whatever is behind it
    begins one.

    A word is a run of letters and digits, with a space before it; every other character is one by
    itself.
    """
    if isinstance(tokenizer, Word):  # whatever its words are
        everywhere = np.ones(tokenizer.vocab_size, bool)
        return everywhere, everywhere
    pieces = pieces_of(tokenizer)
    begins = [not piece or not _is_of_word(piece[0]) for piece in pieces]
    ends = [not piece or not (_is_of_word(piece[-1]) or piece[-1].isspace()) for piece in pieces]
    return np.asarray(begins), np.asarray(ends)


def _is_of_word(character: str) -> bool:
    # U+FFFD is a part of a character that is several bytes, most likely of a letter.
    return unicodedata.category(character)[0] in "LMN" or character == "\ufffd"
