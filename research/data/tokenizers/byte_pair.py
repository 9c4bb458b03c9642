"""Byte-level byte pair encoding (Sennrich et al. 2016; Radford et al. 2019, GPT-2).

A text is cut into words by GPT-2's pattern; the UTF-8 bytes of each word are joined pair by pair,
in the order in which the pairs were learnt. Every string can be encoded, and is decoded exactly.
Files are in the `tokenizer.json` format of the HuggingFace tokenizers library.
"""

import functools
import heapq
import itertools
import json
import os
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from research.data.files import read_text
from research.data.tokenizers.base import Ids, check_ids, find_file
from research.errors import UserError

Pair = tuple[int, int]


@dataclass(frozen=True)
class BytePairEncoding:
    """Tokens learnt by `train_byte_pair_encoding`, or by others with GPT-2's pre-tokenizer.

    Special tokens in the text are text as any other; their ids decode to their names.
    """

    file: str

    @property
    def vocab_size(self) -> int:
        return len(self._model().token_bytes)

    def encode(self, text: str) -> Int[np.ndarray, " tokens"]:
        model = self._model()
        return np.fromiter(
            itertools.chain.from_iterable(map(model.encode_word, _words(text))), np.int32
        )

    def decode(self, ids: Ids) -> str:
        """Bytes that are no UTF-8 (a model may make some) become U+FFFD."""
        tokens = self._model().token_bytes
        data = b"".join(tokens[index] for index in check_ids(ids, len(tokens)))
        return data.decode("utf-8", errors="replace")

    def _model(self) -> "_Model":
        path = find_file(self.file)
        return _load(path, path.stat().st_mtime_ns)


class _Model:
    """A loaded vocabulary; remembers how the words it met are encoded."""

    def __init__(self, token_bytes: list[bytes], merges: list[Pair], joined: list[int]):
        self.token_bytes = token_bytes
        self._merges = {
            pair: (rank, token)
            for rank, (pair, token) in enumerate(zip(merges, joined, strict=True))
        }
        self._byte_ids = {
            token: index for index, token in enumerate(token_bytes) if len(token) == 1
        }
        self.encode_word = functools.lru_cache(maxsize=1 << 16)(self._encode_word)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        ids = [self._byte_ids[bytes((byte,))] for byte in _utf8(word)]
        none = (sys.maxsize, -1)
        while len(ids) > 1:
            pairs = list(itertools.pairwise(ids))
            best = min(pairs, key=lambda pair: self._merges.get(pair, none))
            if best not in self._merges:
                break
            ids = _join(ids, best, self._merges[best][1])
        return tuple(ids)


def train_byte_pair_encoding(
    texts: Iterable[str], vocab_size: int, file: str | Path
) -> BytePairEncoding:
    """Learns `vocab_size` tokens, 256 of them bytes, from texts and writes them to `file`.

    The most frequent pair is joined first; of equally frequent ones the one with the lowest ids.
    There are fewer tokens when every word has become one token before.
    Raises UserError when `vocab_size` is below 256.
    """
    if vocab_size < 256:
        raise UserError(f"vocab_size must be at least 256, one token a byte; got {vocab_size}.")
    tokens = list(_byte_chars().values())
    byte_ids = {byte: index for index, byte in enumerate(_byte_chars())}
    words = Counter(word for text in texts for word in _words(text))
    merges = _learn(
        [([byte_ids[byte] for byte in _utf8(word)], count) for word, count in words.items()],
        vocab_size - 256,
    )
    names = []
    for first, second in merges:
        names.append([tokens[first], tokens[second]])
        tokens.append(tokens[first] + tokens[second])
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    content: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": names,
        },
    }
    path = Path(file).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, path)
    return BytePairEncoding(str(path))


def _learn(words: list[tuple[list[int], int]], num_merges: int) -> list[Pair]:
    """The pairs to join, in order; the n-th makes token 256 + n."""
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (ids, count) in enumerate(words):
        for pair in itertools.pairwise(ids):
            counts[pair] += count
            places[pair].add(index)
    # An entry of the heap is out of date when its count is no longer the pair's.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < num_merges:
        count, best = heapq.heappop(heap)
        if counts[best] != -count or not count:
            continue
        merges.append(best)
        changed: set[Pair] = set()
        for index in places.pop(best):
            ids, times = words[index]
            joined = _join(ids, best, 255 + len(merges))
            for pair in itertools.pairwise(ids):
                counts[pair] -= times
                changed.add(pair)
            for pair in itertools.pairwise(joined):
                counts[pair] += times
                places[pair].add(index)
                changed.add(pair)
            words[index] = (joined, times)
        for pair in changed:
            heapq.heappush(heap, (-counts[pair], pair))
    return merges


def _join(ids: list[int], pair: Pair, token: int) -> list[int]:
    """`ids` with every occurrence of the pair, from the left, replaced by the token."""
    joined: list[int] = []
    position = 0
    while position < len(ids):
        if tuple(ids[position : position + 2]) == pair:
            joined.append(token)
            position += 2
        else:
            joined.append(ids[position])
            position += 1
    return joined


@functools.lru_cache(maxsize=8)
def _load(path: Path, modified: int) -> _Model:
    try:
        content = json.loads(read_text(path))
        _check(content)
        vocab: Mapping[str, int] = content["model"]["vocab"]
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        if sorted({**vocab, **added}.values()) != list(range(len({**vocab, **added}))):
            raise ValueError("the ids are not 0, 1, 2, …")
        pairs = [
            tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair)
            for pair in content["model"]["merges"]
        ]
        merges = [(vocab[first], vocab[second]) for first, second in pairs]
        joined = [vocab[first + second] for first, second in pairs]
        char_bytes = {char: bytes((byte,)) for byte, char in _byte_chars().items()}
        missing = [char for char in char_bytes if char not in vocab]
        if missing:
            raise ValueError(f"{len(missing)} of the 256 bytes have no token")
        token_bytes = {
            vocab[token]: b"".join(map(char_bytes.__getitem__, token)) for token in vocab
        }
        token_bytes |= {index: token.encode() for token, index in added.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no byte-level BPE vocabulary in the tokenizer.json format: {error}."
        ) from error
    return _Model([token_bytes[index] for index in range(len(token_bytes))], merges, joined)


def _check(content: Mapping[str, Any]) -> None:
    """Refuses what would be encoded otherwise than by GPT-2's rules."""
    steps = content["pre_tokenizer"]
    if (
        content["model"]["type"] != "BPE"
        or content["model"].get("ignore_merges")
        or content.get("normalizer") is not None
        or steps["type"] != "ByteLevel"
        or steps.get("add_prefix_space")
        or not steps.get("use_regex", True)
    ):
        raise ValueError("it is not a BPE model with GPT-2's ByteLevel pre-tokenizer")


@functools.cache
def _byte_chars() -> Mapping[int, str]:
    """A printable character for every byte, in the order of the first 256 ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + index) for index, byte in enumerate(others)
    }


def _words(text: str) -> Iterator[str]:
    return (match.group() for match in _pattern().finditer(text))


@functools.cache
def _pattern() -> re.Pattern[str]:
    r"""GPT-2's pattern; `re` knows no \p{L} and \p{N}, and its \s holds U+001C to U+001F."""
    letter, number = _category("L"), _category("N")
    space = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    alternatives = (
        "'s|'t|'re|'ve|'m|'ll|'d",
        f" ?[{letter}]+",
        f" ?[{number}]+",
        f" ?[^{space}{letter}{number}]+",
        f"[{space}]+(?![^{space}])",
        f"[{space}]+",
    )
    return re.compile("|".join(alternatives))


def _category(initial: str) -> str:
    """The characters whose Unicode category starts with `initial`, as ranges of a pattern."""
    points = [
        point
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point))[0] == initial
    ]
    ranges = []
    for _, group in itertools.groupby(enumerate(points), lambda item: item[1] - item[0]):
        members = [point for _, point in group]
        ranges.append(f"{chr(members[0])}-{chr(members[-1])}")
    return "".join(ranges)


def _utf8(text: str) -> bytes:
    # Lone surrogates, which JSON may hold, are encoded like other characters.
    return text.encode("utf-8", errors="surrogatepass")
