"""Texts, and their classes, in a file of one JSON object a line."""

import json
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
from research.suggestion import did_you_mean


@dataclass(frozen=True)
class JsonLines:
    """The field `text` of every object as tokens, and the field `label`, if given, as a class.

    Texts are cut to `max_length` tokens, or to the last `max_length` with `keep="end"`. The class
    of an object is the place of its label's value, as a string, in `classes`.

    A batch has tokens int32 (N, max_length), 0 behind the text's end, token_mask float32
    (N, max_length), 1 where there is text, and label int32 (N,).
    """

    file: str
    text: str
    tokenizer: Tokenizer
    max_length: int
    label: str | None = None
    classes: tuple[str, ...] = ()
    keep: str = "start"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        if self.max_length < 1:
            raise UserError(f"JsonLines.max_length must be at least 1; got {self.max_length}.")
        if self.keep not in ("start", "end"):
            raise UserError(f"JsonLines.keep must be 'start' or 'end', not {self.keep!r}.")
        if (self.label is None) != (not self.classes):
            raise UserError("JsonLines takes a label together with its classes, or neither.")

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        tokenizer = below(self.tokenizer, data_dir)
        arrays = decode_once(
            [path, *files_of(tokenizer)],
            repr(self),
            lambda: self._decode(path, tokenizer),
            worth_keeping([path]),
        )
        return Dataset(len(arrays["length"]), arrays, gather_padded, lengths=arrays["length"])

    def _decode(self, path: Path, tokenizer: Tokenizer) -> Iterator[dict[str, np.ndarray]]:
        rows = list(self._rows(path, tokenizer))
        if not rows:
            raise UserError(f"{path} holds no examples.")
        tokens = np.zeros(
            (len(rows), self.max_length), np.min_scalar_type(tokenizer.vocab_size - 1)
        )
        for row, (ids, _) in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        length = np.asarray([len(ids) for ids, _ in rows], np.int32)
        arrays = {"tokens": tokens, "length": length}
        if self.label is not None:
            arrays["label"] = np.asarray([label for _, label in rows], np.int32)
        yield arrays

    def _rows(self, path: Path, tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, int]]:
        # Not splitlines: a JSON string may hold line separators that are no line feed.
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{place} is not valid JSON: {error}.") from error
            if not isinstance(row, dict):
                raise UserError(f"{place} is {type(row).__name__}, not a JSON object.")
            text = _field(row, self.text, place)
            if not isinstance(text, str):
                raise UserError(f"{place}: field {self.text!r} is {text!r}, not a string.")
            try:
                ids = tokenizer.encode(text)
            except UserError as error:
                raise UserError(f"{place}, field {self.text!r}: {error}") from error
            ids = ids[: self.max_length] if self.keep == "start" else ids[-self.max_length :]
            yield ids, self._class(row, place)

    def _class(self, row: Mapping[str, Any], place: str) -> int:
        if self.label is None:
            return 0
        value = str(_field(row, self.label, place))
        if value not in self.classes:
            raise UserError(
                f"{place}: field {self.label!r} is {value!r}, not one of the classes "
                f"{', '.join(map(repr, self.classes))}."
            )
        return self.classes.index(value)


def gather_padded(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Rows of padded tokens with the mask that their lengths make."""
    tokens = arrays["tokens"][indices].astype(np.int32)
    has_token = np.arange(tokens.shape[1]) < arrays["length"][indices][:, None]
    batch = {"tokens": tokens, "token_mask": has_token.astype(np.float32)}
    return batch | ({"label": arrays["label"][indices]} if "label" in arrays else {})


def _field(row: Mapping[str, Any], name: str, place: str) -> Any:
    if name not in row:
        raise UserError(f"{place} has no field {name!r}{did_you_mean(name, row)}")
    return row[name]
