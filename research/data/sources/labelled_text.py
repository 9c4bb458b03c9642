"""Texts with their classes, or with numbers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from research.data.cache import worth_keeping
from research.data.dataset import Dataset
from research.data.files import find
from research.data.sources.tally import Tally, decode_tallied, padding_of, tell
from research.data.sources.text_rows import Row, read_rows
from research.data.tokenizers.base import Tokenizer, below, files_of, named_id, unknown_id_of
from research.errors import UserError
from research.suggestion import did_you_mean

ROWS_A_PIECE = 10_000


@dataclass(frozen=True)
class LabelledText:
    """The field `text` of every row as tokens, and the field `label`, if given.

    The file is .jsonl, .csv or .tsv (or .gz, .xz); fields of a table have the names in its first
    line, or `columns`. A label is the place of its value, as a string, in `classes`, or a number
    where there are none.

    A text is cut to `max_length` tokens: the first, the last with `keep="end"`, or half of each
    with "both" (Sun et al., 2019); with "all" a longer one becomes several examples of one label.
    `start_token` and `end_token` are put around it, by their names in the tokenizer ("[CLS]" and
    "[SEP]" of BERT). The field `second_text`, if given, comes behind, with an `end_token` of its
    own; the two together are cut to `max_length`, the longer one at its end (Devlin et al., 2019).
    A row without a text that has tokens, or without a label, stops the run, or is left out with
    `wrong_rows="skip"`. How many were, how many texts were cut, how many tokens are unknown and how
    much is padding is logged.

    A batch has tokens int32 (N, length), 0 behind a text's end, token_mask float32 (N, length), 1
    where there is text, label int32 (N,) of classes, else float32, and with a second text
    token_types int32 (N, length), 1 there and at its end; the length is `max_length` and the tokens
    around.
    """

    file: str
    text: str
    tokenizer: Tokenizer
    max_length: int
    label: str | None = None
    classes: tuple[str, ...] = ()
    keep: Literal["start", "end", "both", "all"] = "start"
    start_token: str | None = None
    end_token: str | None = None
    wrong_rows: Literal["stop", "skip"] = "stop"
    columns: tuple[str, ...] = ()
    second_text: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        object.__setattr__(self, "columns", tuple(self.columns))
        if self.max_length < 1:
            raise UserError(f"LabelledText.max_length must be at least 1; got {self.max_length}.")
        if self.keep not in ("start", "end", "both", "all"):
            raise UserError(
                f"LabelledText.keep must be 'start', 'end', 'both' or 'all', not {self.keep!r}."
            )
        if self.wrong_rows not in ("stop", "skip"):
            raise UserError(
                f"LabelledText.wrong_rows must be 'stop' or 'skip', not {self.wrong_rows!r}."
            )
        if self.second_text is not None and (self.keep != "start" or self.max_length < 2):
            raise UserError(
                "LabelledText.second_text needs keep = 'start' and a max_length of at least 2; got "
                f"{self.keep!r} and {self.max_length}."
            )
        if self.classes and self.label is None:
            raise UserError("LabelledText.classes are those of a label: name its field.")

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        tokenizer = below(self.tokenizer, data_dir)
        arrays, tally = decode_tallied(
            [path, *files_of(tokenizer)],
            repr(self),
            lambda tally: self._decode(tally, path, tokenizer),
            worth_keeping([path]),
        )
        more = "became several examples" if self.keep == "all" else "were cut"
        long = f"texts have more than max_length = {self.max_length} tokens and {more}"
        tell(
            path,
            [
                tally.told("wrong", "rows", "rows were left out"),
                tally.told("long", "texts", long),
                tally.unknown(),
            ],
            padding_of(arrays["length"], arrays["tokens"].shape[1]),
        )
        return Dataset(len(arrays["length"]), arrays, gather_padded, lengths=arrays["length"])

    def texts(self, data_dir: Path) -> list[tuple[str, float]]:
        """The texts as they are written (of two, the first), whether they have tokens or not, with
        their labels; a label is 0 where there is none."""
        path = find(data_dir, self.file)
        examples = self._examples(Tally(), path, lambda field, text: text)
        return [(texts[0], label) for texts, label in examples]

    def _decode(self, tally: Tally, path: Path, tokenizer: Any) -> Iterator[dict[str, np.ndarray]]:
        start, end = (
            [] if token is None else [named_id(tokenizer, token)]
            for token in (self.start_token, self.end_token)
        )
        room = len(start) + self.max_length + len(end) * (1 if self.second_text is None else 2)
        unknown = unknown_id_of(tokenizer)
        rows: list[tuple[list[int], int, float]] = []

        def piece() -> dict[str, np.ndarray]:
            tokens = np.zeros((len(rows), room), np.min_scalar_type(tokenizer.vocab_size - 1))
            for row, (ids, _, _) in zip(tokens, rows, strict=True):
                row[: len(ids)] = ids
            lengths, first_lengths = zip(
                *((len(ids), first) for ids, first, _ in rows), strict=True
            )
            arrays = {"tokens": tokens, "length": np.asarray(lengths, np.int32)}
            if self.second_text is not None:
                arrays["first_length"] = np.asarray(first_lengths, np.int32)
            if self.label is not None:
                dtype = np.int32 if self.classes else np.float32
                arrays["label"] = np.asarray([label for _, _, label in rows], dtype)
            return arrays

        for texts, label in self._examples(tally, path, partial(self._encode, tokenizer)):
            tally.counts["long"] += sum(map(len, texts)) > self.max_length
            for ids in texts:
                tally.add_tokens(ids, unknown)
            for parts in self._parts(texts):
                first = [*start, *parts[0], *end]
                second = [*parts[1], *end] if len(parts) == 2 else []
                rows.append(([*first, *second], len(first), label))
            if len(rows) >= ROWS_A_PIECE:
                yield piece()
                rows = []
        if rows:
            yield piece()

    def _parts(self, texts: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
        """What is kept of a row's texts, an example each."""
        (ids, *others), room = texts, self.max_length
        if others:
            kept = min(len(ids), max(room - len(others[0]), room - room // 2))
            return [(ids[:kept], others[0][: room - kept])]
        if self.keep == "all":
            return [(ids[start : start + room],) for start in range(0, len(ids), room)]
        if len(ids) <= room:
            return [(ids,)]
        first = {"start": room, "end": 0, "both": room // 2}[self.keep]
        return [(np.concatenate([ids[:first], ids[len(ids) - room + first :]]),)]

    def _examples(
        self, tally: Tally, path: Path, read: Callable[[str, str], Any]
    ) -> Iterator[tuple[list[Any], float]]:
        """What is read of the one or two texts of every row that is right, and its label."""
        fields = [self.text] if self.second_text is None else [self.text, self.second_text]
        for number, row in read_rows(path, self.columns):
            tally.counts["rows"] += 1
            try:
                texts = [read(field, _text(row, field)) for field in fields]
                example = texts, self._label(row)
            except UserError as error:
                flaw = f"{path}, line {number}: {error}"
                if self.wrong_rows == "stop":
                    raise UserError(flaw) from error
                tally.leave_out("wrong", flaw)
            else:
                tally.counts["texts"] += 1
                yield example
        if not tally.counts["texts"]:
            raise UserError(f"{path} holds no examples. {tally.reasons.get('wrong', '')}".rstrip())

    def _encode(self, tokenizer: Tokenizer, field: str, text: str) -> np.ndarray:
        try:
            ids = np.asarray(tokenizer.encode(text))
        except UserError as error:
            raise UserError(f"field {field!r}: {error}") from error
        if not len(ids):
            raise UserError(f"field {field!r} is {text!r}, which has no token.")
        return ids

    def _label(self, row: Row) -> float:
        if self.label is None:
            return 0
        value = str(_field(row, self.label)).strip()
        if self.classes:
            if value not in self.classes:
                raise UserError(
                    f"field {self.label!r} is {value!r}, not one of the classes "
                    f"{', '.join(map(repr, self.classes))}."
                )
            return self.classes.index(value)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"field {self.label!r} is {value!r}, not a finite number.")
        return number


def gather_padded(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Rows of padded tokens with the mask, and the types, that their lengths make."""
    tokens = arrays["tokens"][indices].astype(np.int32)
    places = np.arange(tokens.shape[1])
    has_token = places < arrays["length"][indices][:, None]
    batch = {"tokens": tokens, "token_mask": has_token.astype(np.float32)}
    if "first_length" in arrays:
        is_second = has_token & (places >= arrays["first_length"][indices][:, None])
        batch["token_types"] = is_second.astype(np.int32)
    return batch | ({"label": arrays["label"][indices]} if "label" in arrays else {})


def _text(row: Row, field: str) -> str:
    text = _field(row, field)
    if not isinstance(text, str):
        raise UserError(f"field {field!r} is {text!r}, not a string.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"field {field!r} is not UTF-8 text.") from error
    return text


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise UserError(f"no field {name!r}{did_you_mean(name, row)}")
    return row[name]
