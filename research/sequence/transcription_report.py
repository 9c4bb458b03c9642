"""How well is heard what is said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from research.data.dataset import Source
from research.engine.objective import Objective, Variables, split_variables
from research.errors import UserError
from research.sequence.ctc import CTC


@dataclass(frozen=True)
class TranscriptionReport:
    """The word and the character error rate over a whole data set, as `jiwer` counts them: words,
    or characters, that must be replaced, left out or put in, by those that were said.

    `num_beams` are those of the search for labels, the objective's where None.
    """

    source: Source
    batch_size: int = 64
    num_beams: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.num_beams is not None and self.num_beams < 1):
            raise UserError(
                "TranscriptionReport.batch_size and num_beams must be at least 1; got "
                f"{self.batch_size} and {self.num_beams}"
            )

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`word_error_rate` and `character_error_rate`, at least 0; above 1 where more is heard
        than was said."""
        import jiwer

        said, heard = self.transcripts(_checked(objective), variables, data_dir)
        return {
            "word_error_rate": float(jiwer.wer(said, heard)),
            "character_error_rate": float(jiwer.cer(said, heard)),
        }

    def transcripts(
        self, objective: CTC, variables: Variables, data_dir: str
    ) -> tuple[list[str], list[str]]:
        """What is said in each example, and what the objective hears."""
        dataset = self.source.open(Path(data_dir))
        params, collections = split_variables(variables)
        said: list[str] = []
        heard: list[str] = []
        for start in range(0, dataset.size, self.batch_size):
            # The last batch is filled up, so that one program serves all.
            places = np.minimum(np.arange(start, start + self.batch_size), dataset.size - 1)
            batch: Any = dataset.gather(dataset.arrays, places)
            rows = zip(batch["labels"], batch["label_mask"] > 0, strict=True)
            said += [objective.text(labels[has_label]) for labels, has_label in rows]
            heard += objective.texts(params, collections, batch, self.num_beams)
        return said[: dataset.size], heard[: dataset.size]

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing or does not fit, or the objective has no text."""
        checked = _checked(objective)
        if checked.tokenizer is None:
            raise UserError("objective.tokenizer: missing; transcripts are text")
        checked.check_data(self.source.open(Path(data_dir)).arrays)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns."""
        return "word_error_rate", "character_error_rate"


def _checked(objective: Objective) -> CTC:
    if not isinstance(objective, CTC):
        raise UserError(
            f"TranscriptionReport measures sequence.CTC, not {type(objective).__name__}"
        )
    return objective
