"""How good answers to questions are."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from research.data.sources.squad import Squad
from research.engine.objective import Objective, Variables, split_variables
from research.errors import UserError
from research.sequence.question_answering import QuestionAnswering


@dataclass(frozen=True)
class AnswerReport:
    """Exact match and F1 of the best answer to each question, in percent, as the official script of
    SQuAD 2.0 counts them.

    Of a passage in several windows the span with the largest score counts, wherever it is. With a
    `null_threshold`, there is no answer where the smallest score of none in a window is larger than
    the best span's by more than it; without, there is always one.
    """

    source: Squad
    batch_size: int = 32
    null_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"AnswerReport.batch_size must be at least 1; got {self.batch_size}")

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`exact_match` and `f1` in [0, 100], the means over questions; where some questions have
        an answer and some have none also `f1_answerable` and `f1_unanswerable`."""
        questions = self.source.questions(Path(data_dir))
        answers = self.answers(_checked(objective), variables, data_dir)
        golds = [question.answers for question in questions]
        exact = [exact_match(answer, gold) for answer, gold in zip(answers, golds, strict=True)]
        f1s = np.asarray([f1(answer, gold) for answer, gold in zip(answers, golds, strict=True)])
        has_answer = np.asarray([bool(gold) for gold in golds], bool)
        numbers = {"exact_match": 100 * float(np.mean(exact)), "f1": 100 * float(f1s.mean())}
        if 0 < has_answer.sum() < len(golds):
            numbers["f1_answerable"] = 100 * float(f1s[has_answer].mean())
            numbers["f1_unanswerable"] = 100 * float(f1s[~has_answer].mean())
        return numbers

    def answers(
        self, objective: QuestionAnswering, variables: Variables, data_dir: str
    ) -> list[str]:
        """The answer to each question, as it is written in its passage; "" for none."""
        dataset = self.source.open(Path(data_dir))
        questions = self.source.questions(Path(data_dir))
        params, collections = split_variables(variables)
        texts = [""] * len(questions)
        best, none = np.full(len(questions), -np.inf), np.full(len(questions), np.inf)
        for first in range(0, dataset.size, self.batch_size):
            # The last batch is filled up, so that one program serves all.
            places = np.minimum(np.arange(first, first + self.batch_size), dataset.size - 1)
            batch: Any = dataset.gather(dataset.arrays, places)
            found = [np.asarray(x) for x in objective.answers(params, collections, batch)]
            for place, start, end, score, score_of_none in zip(places, *found, strict=True):
                question = dataset.arrays["question"][place]
                none[question] = min(none[question], score_of_none)
                if score > best[question]:
                    best[question] = score
                    offsets = dataset.arrays["offsets"][place]
                    passage = questions[question].passage
                    texts[question] = passage[offsets[start, 0] : offsets[end, 1]]
        if self.null_threshold is None:
            return texts
        has_none = none - best > self.null_threshold
        return ["" if no else text for text, no in zip(texts, has_none, strict=True)]

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing or does not fit, or the objective does not answer
        questions."""
        _checked(objective).check_data(self.source.open(Path(data_dir)).arrays)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns of any questions."""
        return "exact_match", "f1"


def normalized(answer: str) -> str:
    """In small letters without punctuation, articles and more than one space."""
    kept = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """Whether the answer is one of the right ones, normalised; without any, whether it is none."""
    return float(normalized(answer) in _rights(golds))


def f1(answer: str, golds: Sequence[str]) -> float:
    """The largest F1 of the answer's words and a right one's, in [0, 1]."""
    return max(_f1(normalized(answer).split(), gold.split()) for gold in _rights(golds))


def _rights(golds: Sequence[str]) -> list[str]:
    return [text for text in map(normalized, golds) if text] or [""]


def _f1(words: list[str], gold: list[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = sum((Counter(words) & Counter(gold)).values())
    # 2 P R / (P + R) with P and R over the two lengths.
    return 2 * common / (len(words) + len(gold))


def _checked(objective: Objective) -> QuestionAnswering:
    if not isinstance(objective, QuestionAnswering):
        raise UserError(
            f"AnswerReport measures sequence.QuestionAnswering, not {type(objective).__name__}"
        )
    return objective
