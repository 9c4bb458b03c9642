"""Plain text as a stream of tokens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.data.cache import worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, read_text
from research.data.sources.tally import Tally, decode_tallied, tell
from research.data.sources.windows import Windows, check_windows
from research.data.tokenizers.base import Tokenizer, below, files_of, unknown_id_of
from research.errors import UserError


@dataclass(frozen=True)
class Text:
    """Windows of `block_size` + 1 tokens, every `stride` tokens, of a UTF-8 file (or .gz, .xz).

    `start` and `stop` are fractions of the characters, cut as text[int(start * n):int(stop * n)].
    A batch has tokens int32 (N, block_size + 1): all but the last are inputs, all but the first
    targets. With `stride` equal to `block_size`, which is for evaluation, the windows have every
    token of the split but the first as a target exactly once. `streams` are for models that carry
    their state from batch to batch, with as many examples a batch and without shuffling. See
    `windows.Windows`. How many tokens are unknown and how much is padding is logged.
    """

    file: str
    tokenizer: Tokenizer
    block_size: int
    stride: int = 1
    start: float = 0.0
    stop: float = 1.0
    streams: int | None = None

    def __post_init__(self) -> None:
        check_windows("Text", self.block_size, self.stride, self.streams)
        if not 0.0 <= self.start < self.stop <= 1.0:
            raise UserError(
                f"Text.start and Text.stop must be fractions with 0 <= start < stop <= 1; "
                f"got {self.start} and {self.stop}."
            )

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        tokenizer = below(self.tokenizer, data_dir)

        def decode(tally: Tally) -> Iterator[Mapping[str, np.ndarray]]:
            text = read_text(path)
            text = text[int(self.start * len(text)) : int(self.stop * len(text))]
            try:
                ids = tokenizer.encode(text)
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
            tally.add_tokens(ids, unknown_id_of(tokenizer))
            yield {"tokens": ids.astype(np.min_scalar_type(tokenizer.vocab_size - 1))}

        # Not repr(self): the windows' settings change nothing in the stream.
        settings = f"Text {tokenizer!r} {self.start} {self.stop}"
        files = [path, *files_of(tokenizer)]
        arrays, tally = decode_tallied(files, settings, decode, worth_keeping([path]))
        tokens = arrays["tokens"]
        windows = Windows(len(tokens), self.block_size, self.stride, self.streams)
        if windows.size < 1:
            each = "" if self.streams is None else f" of each of {self.streams} streams"
            raise UserError(
                f"{path} has {len(tokens)} tokens between {self.start} and {self.stop}; "
                f"a window of block_size {self.block_size}{each} needs {windows.needs}."
            )
        tell(path, [tally.unknown()], windows.padding)
        return windows.open(tokens)
