"""Plain text as a stream of tokens."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from research.data.cache import decode_once, worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, read_text
from research.data.tokenizers.base import Tokenizer, below, files_of
from research.errors import UserError


@dataclass(frozen=True)
class Text:
    """Windows of `block_size` + 1 tokens, every `stride` tokens, of a UTF-8 file (or .gz, .xz).

    `start` and `stop` are fractions of the characters, cut as text[int(start * n):int(stop * n)].
    A batch has tokens int32 (N, block_size + 1): all but the last are inputs, all but the first
    targets.

    With `stride` equal to `block_size`, which is for evaluation, the windows have every token of
    the split but the first as a target exactly once. The last window is padded, and a batch has
    token_mask float32 (N, block_size) too, 0 where there is no target. With other strides all
    windows are full.
    """

    file: str
    tokenizer: Tokenizer
    block_size: int
    stride: int = 1
    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.stride < 1:
            raise UserError(
                f"Text.block_size and Text.stride must be at least 1; "
                f"got {self.block_size} and {self.stride}."
            )
        if not 0.0 <= self.start < self.stop <= 1.0:
            raise UserError(
                f"Text.start and Text.stop must be fractions with 0 <= start < stop <= 1; "
                f"got {self.start} and {self.stop}."
            )

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        tokenizer = below(self.tokenizer, data_dir)

        def decode() -> Iterator[Mapping[str, np.ndarray]]:
            text = read_text(path)
            text = text[int(self.start * len(text)) : int(self.stop * len(text))]
            try:
                ids = tokenizer.encode(text)
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
            yield {"tokens": ids.astype(np.min_scalar_type(tokenizer.vocab_size - 1))}

        # Not repr(self): the windows' settings change nothing in the stream.
        settings = f"Text {tokenizer!r} {self.start} {self.stop}"
        files = [path, *files_of(tokenizer)]
        tokens = decode_once(files, settings, decode, worth_keeping([path]))["tokens"]
        num_tokens = len(tokens)
        covers = self.stride == self.block_size
        needed = 2 if covers else self.block_size + 1
        if num_tokens < needed:
            raise UserError(
                f"{path} has {num_tokens} tokens between {self.start} and {self.stop}; "
                f"a window of block_size {self.block_size} needs {needed}."
            )
        if covers:
            size = math.ceil((num_tokens - 1) / self.block_size)
            tokens = np.pad(tokens, (0, size * self.block_size + 1 - num_tokens))
        else:
            size = (num_tokens - self.block_size - 1) // self.stride + 1
        # Positions must fit the 32 bits of an index on the device.
        on_device = len(tokens) <= np.iinfo(np.int32).max
        gather = Windows(self.block_size, self.stride, num_tokens if covers else None)
        return Dataset(size, {"tokens": tokens}, gather, on_device)


@dataclass(frozen=True)
class Windows:
    """Gathers windows of a stream; masks targets from `num_tokens` on where that is given."""

    block_size: int
    stride: int
    num_tokens: int | None

    def __call__(self, arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
        starts = indices[:, None] * self.stride
        tokens = arrays["tokens"][starts + np.arange(self.block_size + 1)].astype(np.int32)
        if self.num_tokens is None:
            return {"tokens": tokens}
        has_target = starts + np.arange(1, self.block_size + 1) < self.num_tokens
        return {"tokens": tokens, "token_mask": has_target.astype(np.float32)}
