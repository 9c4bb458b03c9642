"""Windows of a stream of tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Int

from research.data.dataset import Dataset
from research.errors import UserError

Tokens = Int[np.ndarray, " tokens"]


@dataclass(frozen=True)
class Windows:
    """Gathers windows of `block_size` + 1 of `num_tokens` tokens, window i from i · `stride` on.

    A batch has `tokens` int32 (N, block_size + 1). With `stride` equal to `block_size` the windows
    have every token but the first as a target exactly once; the last one is padded, and a batch has
    `token_mask` float32 (N, block_size) too, 0 where there is no target.

    With `streams` the tokens are cut into so many parts of equal length, and example
    i · streams + b is the i-th window of part b: a batch of `streams` examples in this order goes
    on where the batch before ended. `continues` bool (N,) is false for the first windows.

    With an `end_token`, which ends each document, `segments` int32 (N, block_size + 1) number the
    documents of a window.
    """

    num_tokens: int
    block_size: int
    stride: int = 1
    streams: int | None = None
    end_token: int | None = None

    @property
    def size(self) -> int:
        """How many windows there are; not above 0 where the tokens are too few for one."""
        targets = self.num_tokens - 1
        if self.streams is not None:
            return max(0, (self._stream_length - 1) // self.block_size) * self.streams
        if self._covers:
            return -(-targets // self.block_size)
        return (targets - self.block_size) // self.stride + 1

    @property
    def needs(self) -> int:
        """How many tokens one window of each stream needs."""
        if self._covers:
            return 2
        return (self.block_size + 1) * (self.streams or 1)

    @property
    def padding(self) -> float:
        """The share of all targets that is padding."""
        if not self._covers or self.size < 1:
            return 0.0
        return 1.0 - (self.num_tokens - 1) / (self.size * self.block_size)

    def open(self, tokens: Tokens) -> Dataset:
        """The windows as a data set."""
        # Positions must fit the 32 bits of an index on the device.
        on_device = self.num_tokens <= np.iinfo(np.int32).max
        return Dataset(self.size, {"tokens": tokens}, self, on_device)

    def __call__(self, arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
        if self.streams is None:
            starts = indices * self.stride
        else:
            window, stream = indices // self.streams, indices % self.streams
            starts = stream * self._stream_length + window * self.block_size
        tokens = _rows(arrays["tokens"], starts, self.block_size + 1)
        batch = {"tokens": tokens.astype(np.int32)}
        if self.streams is not None:
            batch["continues"] = indices >= self.streams
        elif self._covers:
            places = starts[:, None] + np.arange(1, self.block_size + 1)
            batch["token_mask"] = (places < self.num_tokens).astype(np.float32)
        if self.end_token is not None:
            is_end = tokens == self.end_token
            batch["segments"] = is_end.cumsum(1, dtype=np.int32) - is_end
        return batch

    @property
    def _covers(self) -> bool:
        return self.streams is None and self.stride == self.block_size

    @property
    def _stream_length(self) -> int:
        return self.num_tokens // (self.streams or 1)


def check_windows(source: str, block_size: int, stride: int, streams: int | None = None) -> None:
    """Raises UserError where these settings of a source are out of range."""
    if block_size < 1 or stride < 1:
        raise UserError(
            f"{source}.block_size and {source}.stride must be at least 1; "
            f"got {block_size} and {stride}."
        )
    if streams is not None and (streams < 1 or stride != 1):
        raise UserError(
            f"{source}.streams must be at least 1, and their windows follow each other without a "
            f"stride; got {streams} and {source}.stride = {stride}."
        )


def _rows(tokens: Any, starts: Int[Any, " batch"], length: int) -> Int[Any, "batch length"]:
    """`length` tokens from each start on; the last token again and again behind the end."""
    is_on_host = isinstance(starts, np.ndarray) and isinstance(tokens, np.ndarray)
    if is_on_host and starts.size and starts.max() + length <= len(tokens):
        # A view of every window, of which rows are copied whole: many times as fast as an index
        # for each token.
        shape, strides = (len(tokens) - length + 1, length), tokens.strides * 2
        return np.lib.stride_tricks.as_strided(tokens, shape, strides, writeable=False)[starts]
    places: Array | np.ndarray = starts[:, None] + np.arange(length)
    return tokens[places.clip(max=len(tokens) - 1)]
