"""Texts in pairs: lines of two files that belong together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from research.data.cache import worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, read_bytes
from research.data.sources.tally import Tally, decode_tallied, padding_of, tell
from research.data.tokenizers.base import (
    Tokenizer,
    below,
    files_of,
    id_or_none,
    named_id,
    unknown_id_of,
)
from research.errors import UserError

SIDES = ("source", "target")


class Pair(NamedTuple):
    """Two lines that belong together, and their number."""

    source: str
    target: str
    number: int


@dataclass(frozen=True)
class TextPairs:
    """Line i of the file `source` with line i of the file `target` (text, or .gz, .xz), as tokens.

    A target has `start_token` before it and `end_token` behind it, by their names in the target's
    tokenizer; a source has `end_token` behind it where its own tokenizer has that. `prefix` is put
    before every source ("translate English to German: "). Texts are cut to `max_length` tokens.

    A pair of which one line is empty stops the run, or is left out with `empty_lines="skip"`. One
    with a line that is not UTF-8 does so, too, or is left out with `wrong_rows="skip"`; as does one
    of which one line has more than `max_length_ratio` times the words of the other, where that is
    given (words are what white space parts; the ratio is that of Moses's clean-corpus-n). Many such
    pairs are the sign of files that are shifted against each other.

    How many pairs were left out, how many texts were cut, how many tokens are unknown and how much
    is padding is logged.

    A batch has source and target int32 (N, max_length + 1 or 2), padded with `start_token`,
    and source_mask and target_mask float32, 1 for tokens that are no padding.
    """

    source: str
    target: str
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    max_length: int
    start_token: str = "<s>"
    end_token: str = "</s>"
    prefix: str = ""
    empty_lines: Literal["stop", "skip"] = "stop"
    wrong_rows: Literal["stop", "skip"] = "stop"
    max_length_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise UserError(f"TextPairs.max_length must be at least 1; got {self.max_length}.")
        for name in ("empty_lines", "wrong_rows"):
            if getattr(self, name) not in ("stop", "skip"):
                raise UserError(
                    f"TextPairs.{name} must be 'stop' or 'skip', not {getattr(self, name)!r}."
                )
        if self.max_length_ratio is not None and not self.max_length_ratio >= 1.0:
            raise UserError(
                f"TextPairs.max_length_ratio must be at least 1; got {self.max_length_ratio}."
            )

    def open(self, data_dir: Path) -> Dataset:
        paths = [find(data_dir, self.source), find(data_dir, self.target)]
        tokenizers = [
            below(self.source_tokenizer, data_dir),
            below(self.target_tokenizer, data_dir),
        ]
        arrays, tally = decode_tallied(
            [*paths, *files_of(tokenizers[0]), *files_of(tokenizers[1])],
            repr(self),
            lambda tally: self._decode(tally, paths, tokenizers),
            worth_keeping(paths),
        )
        self._report(tally, paths, arrays)
        lengths = np.maximum(arrays["source_length"], arrays["target_length"])
        return Dataset(len(lengths), arrays, gather_pairs, lengths=lengths)

    def texts(self, data_dir: Path) -> list[tuple[str, str]]:
        """The pairs as they are written, without the prefix and uncut, in their order."""
        paths = [find(data_dir, self.source), find(data_dir, self.target)]
        return [(pair.source, pair.target) for pair in self._pairs(Tally(), paths)]

    def _decode(
        self, tally: Tally, paths: list[Path], tokenizers: list[Any]
    ) -> Iterator[dict[str, np.ndarray]]:
        pairs = list(self._pairs(tally, paths))
        start = named_id(tokenizers[1], self.start_token)
        end = named_id(tokenizers[1], self.end_token)
        texts = [self.prefix + pair.source for pair in pairs], [pair.target for pair in pairs]
        ends = id_or_none(tokenizers[0], self.end_token), end
        padding = id_or_none(tokenizers[0], self.start_token), start
        arrays: dict[str, np.ndarray] = {}
        for side, name in enumerate(SIDES):
            before = [] if name == "source" else [start]
            behind = [] if ends[side] is None else [ends[side]]
            room = len(before) + self.max_length + len(behind)
            vocab_size = tokenizers[side].vocab_size
            unknown = unknown_id_of(tokenizers[side])
            rows = np.full(
                (len(pairs), room), padding[side] or 0, np.min_scalar_type(vocab_size - 1)
            )
            lengths = np.zeros(len(pairs), np.int32)
            for row, text in enumerate(texts[side]):
                try:
                    ids = tokenizers[side].encode(text)
                except UserError as error:
                    place = f"{paths[side]}, line {pairs[row].number}"
                    raise UserError(f"{place}: {error}") from error
                tally.add_tokens(ids, unknown, f"{name} ")
                tally.counts[f"cut {name}s"] += len(ids) > self.max_length
                tokens = [*before, *ids[: self.max_length], *behind]
                rows[row, : len(tokens)], lengths[row] = tokens, len(tokens)
            arrays |= {name: rows, f"{name}_length": lengths}
        yield arrays

    def _pairs(self, tally: Tally, paths: list[Path]) -> Iterator[Pair]:
        # Not splitlines: a line may hold separators that are no line feed. Bytes that are no UTF-8
        # become surrogates, which no text has.
        contents = [read_bytes(path).decode("utf-8", "surrogateescape") for path in paths]
        lines = [content.removesuffix("\n").split("\n") for content in contents]
        if len(lines[0]) != len(lines[1]):
            raise UserError(
                f"{paths[0]} has {len(lines[0])} lines, {paths[1]} has {len(lines[1])}: line i of "
                "one must belong to line i of the other."
            )
        for number, (source, target) in enumerate(zip(*lines, strict=True), start=1):
            pair = Pair(source.strip(), target.strip(), number)
            tally.counts["pairs"] += 1
            setting, flaw = self._flaw(pair, paths)
            if not flaw:
                tally.counts["kept"] += 1
                yield pair
            elif getattr(self, setting) == "stop":
                raise UserError(f'{flaw}; {setting}="skip" leaves such pairs out.')
            else:
                tally.leave_out(setting, flaw)
        if not tally.counts["kept"]:
            found = "; ".join(tally.reasons.values())
            raise UserError(f"{paths[0]} and {paths[1]} hold no pairs: {found}.")

    def _flaw(self, pair: Pair, paths: list[Path]) -> tuple[str, str]:
        """What is wrong with a pair, and where, behind the setting for it; empty for nothing."""
        sides = list(zip(paths, (pair.source, pair.target), strict=True))
        for path, text in sides:
            if not text:
                flaw = f"{path}, line {pair.number} is empty, so that its pair has one text only"
                return "empty_lines", flaw
        for path, text in sides:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                byte = ord(text[error.start]) & 0xFF
                flaw = f"{path}, line {pair.number} is not UTF-8 text: it has a byte 0x{byte:02x}"
                return "wrong_rows", flaw
        if self.max_length_ratio is None:
            return "", ""
        counts = len(pair.source.split()), len(pair.target.split())
        if max(counts) <= self.max_length_ratio * min(counts):
            return "", ""
        return "wrong_rows", (
            f"{paths[0]}, line {pair.number} has {counts[0]} words, and that of {paths[1]} has "
            f"{counts[1]}, beyond max_length_ratio = {self.max_length_ratio}: the files may be "
            "shifted against each other"
        )

    def _report(
        self, tally: Tally, paths: list[Path], arrays: Mapping[str, Int[np.ndarray, "..."]]
    ) -> None:
        lost = [
            tally.told("empty_lines", "pairs", "pairs have an empty line and were left out"),
            tally.told("wrong_rows", "pairs", "pairs are wrong and were left out"),
        ]
        for side in SIDES:
            cut = f"{side}s were cut to max_length = {self.max_length} tokens"
            lost += [tally.told(f"cut {side}s", "kept", cut), tally.unknown(f"{side} ")]
        lengths = arrays["source_length"] + arrays["target_length"]
        width = arrays["source"].shape[1] + arrays["target"].shape[1]
        tell(f"{paths[0]} and {paths[1]}", lost, padding_of(lengths, width))


def gather_pairs(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Rows of padded tokens with the masks that their lengths make."""
    batch = {}
    for name in SIDES:
        batch[name] = arrays[name][indices].astype(np.int32)
        has_token = np.arange(batch[name].shape[1]) < arrays[f"{name}_length"][indices][:, None]
        batch[f"{name}_mask"] = has_token.astype(np.float32)
    return batch
