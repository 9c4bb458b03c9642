"""Texts in pairs: lines of two files that belong together."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from research.data.cache import decode_once, worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, read_text
from research.data.tokenizers.base import Tokenizer, below, files_of, id_or_none, named_id
from research.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextPairs:
    """Line i of the file `source` with line i of the file `target` (text, or .gz, .xz), as tokens.

    A target has `start_token` before it and `end_token` behind it, by their names in the target's
    tokenizer; a source has `end_token` behind it where its own tokenizer has that. `prefix` is put
    before every source ("translate English to German: "). Texts are cut to `max_length` tokens,
    and how many were is logged. A pair of which one line is empty stops the run, or is left out
    and counted with `empty_lines="skip"`.

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

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise UserError(f"TextPairs.max_length must be at least 1; got {self.max_length}.")
        if self.empty_lines not in ("stop", "skip"):
            raise UserError(
                f"TextPairs.empty_lines must be 'stop' or 'skip', not {self.empty_lines!r}."
            )

    def open(self, data_dir: Path) -> Dataset:
        paths = [find(data_dir, self.source), find(data_dir, self.target)]
        tokenizers = [
            below(self.source_tokenizer, data_dir),
            below(self.target_tokenizer, data_dir),
        ]
        arrays = decode_once(
            [*paths, *files_of(tokenizers[0]), *files_of(tokenizers[1])],
            repr(self),
            lambda: self._decode(paths, tokenizers),
            worth_keeping(paths),
        )
        lengths = np.maximum(arrays["source_length"], arrays["target_length"])
        return Dataset(len(lengths), arrays, gather_pairs, lengths=lengths)

    def texts(self, data_dir: Path) -> list[tuple[str, str]]:
        """The pairs as they are written, without the prefix and uncut, in their order."""
        return list(self._pairs([find(data_dir, self.source), find(data_dir, self.target)]))

    def _decode(self, paths: list[Path], tokenizers: list[Any]) -> Iterator[dict[str, np.ndarray]]:
        pairs = list(self._pairs(paths))
        start = named_id(tokenizers[1], self.start_token)
        end = named_id(tokenizers[1], self.end_token)
        texts = [self.prefix + source for source, _ in pairs], [target for _, target in pairs]
        ends = id_or_none(tokenizers[0], self.end_token), end
        padding = id_or_none(tokenizers[0], self.start_token), start
        arrays: dict[str, np.ndarray] = {}
        for side, name in enumerate(("source", "target")):
            before = [] if name == "source" else [start]
            behind = [] if ends[side] is None else [ends[side]]
            room = len(before) + self.max_length + len(behind)
            vocab_size = tokenizers[side].vocab_size
            rows = np.full(
                (len(pairs), room), padding[side] or 0, np.min_scalar_type(vocab_size - 1)
            )
            lengths = np.zeros(len(pairs), np.int32)
            num_cut = 0
            for row, text in enumerate(texts[side]):
                try:
                    ids = tokenizers[side].encode(text)
                except UserError as error:
                    raise UserError(f"{paths[side]}, {text!r}: {error}") from error
                num_cut += len(ids) > self.max_length
                tokens = [*before, *ids[: self.max_length], *behind]
                rows[row, : len(tokens)], lengths[row] = tokens, len(tokens)
            if num_cut:
                logger.warning(
                    "%s: %d of %d lines are longer than max_length = %d tokens and were cut.",
                    paths[side],
                    num_cut,
                    len(pairs),
                    self.max_length,
                )
            arrays |= {name: rows, f"{name}_length": lengths}
        yield arrays

    def _pairs(self, paths: list[Path]) -> Iterator[tuple[str, str]]:
        # Not splitlines: a line may hold separators that are no line feed.
        lines = [read_text(path).removesuffix("\n").split("\n") for path in paths]
        if len(lines[0]) != len(lines[1]):
            raise UserError(
                f"{paths[0]} has {len(lines[0])} lines, {paths[1]} has {len(lines[1])}: line i of "
                "one must belong to line i of the other."
            )
        num_empty = 0
        for number, pair in enumerate(zip(*lines, strict=True), start=1):
            source, target = (line.strip() for line in pair)
            if source and target:
                yield source, target
                continue
            if self.empty_lines == "stop":
                empty = paths[0] if not source else paths[1]
                raise UserError(
                    f"{empty}, line {number} is empty, so that its pair has one text only; "
                    'empty_lines="skip" leaves such pairs out.'
                )
            num_empty += 1
        if num_empty == len(lines[0]):
            raise UserError(f"{paths[0]} and {paths[1]} hold no pairs.")
        if num_empty:
            logger.warning("%s: %d pairs with an empty line were left out.", paths[0], num_empty)


def gather_pairs(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Rows of padded tokens with the masks that their lengths make."""
    batch = {}
    for name in ("source", "target"):
        batch[name] = arrays[name][indices].astype(np.int32)
        has_token = np.arange(batch[name].shape[1]) < arrays[f"{name}_length"][indices][:, None]
        batch[f"{name}_mask"] = has_token.astype(np.float32)
    return batch
