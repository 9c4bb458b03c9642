"""How many spans a tagger finds."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from research.data.dataset import Source
from research.engine.objective import Objective, Variables, split_variables
from research.errors import UserError
from research.sequence.spans import are_of_spans
from research.sequence.token_tagging import TokenTagging

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaggingReport:
    """Precision, recall and F1 of the spans in tags O, B-… and I-…, as `seqeval` counts them, whose
    default is the shared tasks' `conlleval`: a span counts where its type and both ends are right.

    Its table is logged. `batch_size` sentences at a time go through the model.
    """

    source: Source
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"TaggingReport.batch_size must be at least 1; got {self.batch_size}")

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`precision`, `recall` and `f1` of all spans, and `f1_<type>` of those of each type, in
        [0, 1]; 0 where there are none."""
        numbers, table = report(*self._tags(_checked(objective), variables, data_dir))
        logger.info("\n%s", table)
        return numbers

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing, or the objective does not tag spans."""
        checked = _checked(objective)
        checked.check_data(self.source.open(Path(data_dir)).arrays)

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns of any tags."""
        return "precision", "recall", "f1"

    def _tags(
        self, objective: TokenTagging, variables: Variables, data_dir: str
    ) -> tuple[list[list[str]], list[list[str]]]:
        """The true and the predicted tags of each sentence."""
        dataset = self.source.open(Path(data_dir))
        params, collections = split_variables(variables)
        both: tuple[list[list[str]], list[list[str]]] = ([], [])
        for start in range(0, dataset.size, self.batch_size):
            # The last batch is filled up, so that one program serves all.
            places = np.minimum(np.arange(start, start + self.batch_size), dataset.size - 1)
            batch: Any = dataset.gather(dataset.arrays, places)
            predicted, true = objective.predict(params, collections, batch)
            for sentences, tags in zip(
                both, (np.asarray(true), np.asarray(predicted)), strict=True
            ):
                sentences += [[objective.tags[i] for i in row[row >= 0]] for row in tags]
        return both[0][: dataset.size], both[1][: dataset.size]


def report(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[dict[str, float], str]:
    """The numbers, and seqeval's table."""
    from seqeval.metrics import classification_report

    given = ([list(tags) for tags in true], [list(tags) for tags in predicted])
    found: Any = classification_report(*given, output_dict=True, zero_division=0)
    total = found.pop("micro avg")
    numbers = {
        "precision": float(total["precision"]),
        "recall": float(total["recall"]),
        "f1": float(total["f1-score"]),
    }
    types = [name for name in found if not name.endswith(" avg")]
    numbers |= {f"f1_{name}": float(found[name]["f1-score"]) for name in types}
    return numbers, classification_report(*given, digits=4, zero_division=0)


def _checked(objective: Objective) -> TokenTagging:
    if not isinstance(objective, TokenTagging):
        raise UserError(
            f"TaggingReport measures sequence.TokenTagging, not {type(objective).__name__}"
        )
    if not are_of_spans(objective.tags):
        raise UserError(
            f"objective.tags: spans have tags O, B-… and I-…; these are {objective.tags}"
        )
    return objective
