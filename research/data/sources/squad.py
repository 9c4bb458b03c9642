"""Questions about passages, whose answers are spans of them, in SQuAD's format."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from research.data.cache import worth_keeping
from research.data.dataset import Dataset
from research.data.files import find, read_text
from research.data.sources.tally import Tally, decode_tallied, padding_of, tell
from research.data.tokenizers import Subword, TrainedSubword
from research.data.tokenizers.base import below, files_of, named_id, unknown_id_of
from research.errors import UserError


class Question(NamedTuple):
    """A question with what are right answers, and where each begins; none where the passage has
    no answer."""

    id: str
    text: str
    passage: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Squad:
    """Examples from a JSON file (or .gz, .xz) of SQuAD 1.1 (Rajpurkar et al., 2016) or 2.0 (2018),
    which has questions without an answer, too: `start_token`, a question, `separator`, a passage,
    `separator`, in tokens of subwords.

    A question is cut to `max_question_length` tokens. A passage that is too long for `max_length`
    becomes several examples, windows that begin every `doc_stride` of its tokens (Devlin et al.,
    2019). How many questions and passages that befell is logged, how many answers are in no window,
    how many tokens are unknown and how much is padding.

    A batch has tokens and token_types int32 (N, max_length), token_mask float32, 1 where there is a
    token, answer_mask float32, 1 where an answer may start or end, which is in the passage and, for
    none, at the first token; and start and end int32 (N,), the places of the first and last token
    of the first of the answers, 0 where the window has none.
    """

    file: str
    tokenizer: Subword | TrainedSubword
    max_length: int = 384
    doc_stride: int = 128
    max_question_length: int = 64
    start_token: str = "[CLS]"
    separator: str = "[SEP]"

    def __post_init__(self) -> None:
        if not isinstance(self.tokenizer, Subword | TrainedSubword):
            raise UserError(
                "Squad.tokenizer must be data.tokenizers.Subword or TrainedSubword, which know "
                f"where in a text their tokens are, not {type(self.tokenizer).__name__}."
            )
        if min(self.doc_stride, self.max_question_length) < 1:
            raise UserError(
                "Squad.doc_stride and max_question_length must be at least 1; got "
                f"{self.doc_stride} and {self.max_question_length}."
            )
        if self.max_length < self.max_question_length + 4:
            raise UserError(
                f"Squad.max_length = {self.max_length} leaves no room for a passage beside a "
                f"question of max_question_length = {self.max_question_length} tokens."
            )

    def open(self, data_dir: Path) -> Dataset:
        path = find(data_dir, self.file)
        tokenizer = below(self.tokenizer, data_dir)
        arrays, tally = decode_tallied(
            [path, *files_of(tokenizer)],
            repr(self),
            lambda tally: self._decode(tally, path, tokenizer),
            worth_keeping([path]),
        )
        cut = f"questions have more than {self.max_question_length} tokens and were cut"
        parted = f"passages are too long for {self.max_length} tokens and became windows"
        tell(
            path,
            [
                tally.told("cut", "questions", cut),
                tally.told("parted", "questions", parted),
                tally.told("lost", "questions", "answers are in no window"),
                tally.unknown(),
            ],
            padding_of(arrays["length"], self.max_length),
        )
        return Dataset(len(arrays["length"]), arrays, gather_windows, lengths=arrays["length"])

    def questions(self, data_dir: Path) -> list[Question]:
        """The questions of the file, in their order; examples have their places in `question`."""
        return list(_questions(find(data_dir, self.file)))

    def _decode(
        self, tally: Tally, path: Path, tokenizer: Any
    ) -> Iterator[Mapping[str, np.ndarray]]:
        questions = list(_questions(path))
        if not questions:
            raise UserError(f"{path} holds no questions.")
        first, separator = (
            named_id(tokenizer, name) for name in (self.start_token, self.separator)
        )
        unknown = unknown_id_of(tokenizer)

        @lru_cache(maxsize=8)
        def encode(passage: str) -> tuple[np.ndarray, np.ndarray]:
            ids, offsets = _encode(tokenizer, passage, path)
            tally.add_tokens(ids, unknown)
            return ids, offsets

        rows: list[dict[str, Any]] = []
        for number, question in enumerate(questions):
            asked, _ = _encode(tokenizer, question.text, path)
            tally.add_tokens(asked, unknown)
            tally.counts["questions"] += 1
            tally.counts["cut"] += len(asked) > self.max_question_length
            before = [first, *asked[: self.max_question_length], separator]
            ids, offsets = encode(question.passage)
            room = self.max_length - len(before) - 1
            answer = _tokens_of_answer(question, offsets)
            found = False
            begin = 0
            while True:
                window = slice(begin, begin + room)
                start = end = 0
                if answer and begin <= answer[0] and answer[1] < begin + room:
                    start, end = (len(before) + place - begin for place in answer)
                    found = True
                rows.append(
                    {
                        "tokens": [*before, *ids[window], separator],
                        "offsets": offsets[window],
                        "passage_start": len(before),
                        "start": start,
                        "end": end,
                        "question": number,
                    }
                )
                if begin + room >= len(ids):
                    break
                begin += min(room, self.doc_stride)
            tally.counts["parted"] += begin > 0
            tally.counts["lost"] += bool(question.answers) and not found
        yield self._arrays(rows)

    def _arrays(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        names = ("passage_start", "start", "end", "question")
        arrays = {name: np.asarray([row[name] for row in rows], np.int32) for name in names}
        arrays["length"] = np.asarray([len(row["tokens"]) for row in rows], np.int32)
        arrays["tokens"] = np.zeros((len(rows), self.max_length), np.int32)
        arrays["offsets"] = np.zeros((len(rows), self.max_length, 2), np.int32)
        for i, row in enumerate(rows):
            arrays["tokens"][i, : len(row["tokens"])] = row["tokens"]
            inside = slice(row["passage_start"], row["passage_start"] + len(row["offsets"]))
            arrays["offsets"][i, inside] = row["offsets"]
        return arrays


def gather_windows(arrays: Mapping[str, Any], indices: Int[Any, " batch"]) -> dict[str, Any]:
    """Rows of padded tokens with the masks that their lengths make."""
    tokens = arrays["tokens"][indices]
    length, start = (arrays[name][indices][:, None] for name in ("length", "passage_start"))
    place = np.arange(tokens.shape[1])
    has_token, in_passage = place < length, (place >= start) & (place < length)
    # The last token is the separator.
    may_answer = (place == 0) | (in_passage & (place < length - 1))
    return {
        "tokens": tokens,
        "token_mask": has_token.astype(np.float32),
        "token_types": in_passage.astype(np.int32),
        "answer_mask": may_answer.astype(np.float32),
        "start": arrays["start"][indices],
        "end": arrays["end"][indices],
    }


def _encode(
    tokenizer: Any, text: str, path: Path
) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, "tokens 2"]]:
    """The tokens of a text and their characters, without the space before a word, which some
    tokenizers count as a part of it."""
    try:
        ids, offsets = tokenizer.encode_with_offsets(text)
    except UserError as error:
        raise UserError(f"{path}, {text[:40]!r}…: {error}") from error
    for token in offsets:
        while token[0] < token[1] and text[token[0]].isspace():
            token[0] += 1
    return ids, offsets


def _tokens_of_answer(
    question: Question, offsets: Int[np.ndarray, "tokens 2"]
) -> tuple[int, int] | None:
    """The first and the last token with characters of the first answer; None without."""
    if not question.answers:
        return None
    begin, end = question.starts[0], question.starts[0] + len(question.answers[0])
    inside = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > begin))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _questions(path: Path) -> Iterator[Question]:
    try:
        articles = json.loads(read_text(path))["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no JSON of SQuAD's, with articles in `data`: {error}."
        ) from error
    place = "the first question"
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                passage = paragraph["context"]
                for given in paragraph["qas"]:
                    place = f"the question behind {given['id']!r}"
                    answers = [] if given.get("is_impossible", False) else given["answers"]
                    texts = tuple(answer["text"] for answer in answers)
                    starts = tuple(int(answer["answer_start"]) for answer in answers)
                    for text, start in zip(texts, starts, strict=True):
                        if passage[start : start + len(text)] != text:
                            raise UserError(
                                f"{path}, question {given['id']!r}: the answer {text!r} is not at "
                                f"answer_start = {start} of its passage, but "
                                f"{passage[start : start + len(text)]!r}."
                            )
                    yield Question(str(given["id"]), given["question"], passage, texts, starts)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}, {place}: {type(error).__name__} {error}.") from error
