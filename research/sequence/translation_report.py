"""How good translations are."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from research.data.sources.text_pairs import TextPairs
from research.engine.objective import Objective, Variables, split_variables
from research.errors import UserError
from research.sequence.sequence_to_sequence import SequenceToSequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TranslationReport:
    """BLEU (Papineni et al., 2002) and chrF (Popović, 2015) of what is made of each source, against
    its target as it is written in the file, as `sacrebleu` counts them, in [0, 100].

    Sources are translated `batch_size` at a time by the objective's beam, to at most
    `max_new_tokens` tokens (None: 100, or as many as the model takes). sacrebleu's signatures are
    logged.
    """

    source: TextPairs
    batch_size: int = 64
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"TranslationReport.batch_size = {self.batch_size}: must be at least 1")

    def __call__(
        self, objective: Objective, variables: Variables, rng: PRNGKeyArray, data_dir: str
    ) -> Mapping[str, float]:
        """`bleu` and `chrf` over the whole data set."""
        from sacrebleu.metrics import BLEU, CHRF

        references = [target for _, target in self.source.texts(Path(data_dir))]
        translations = self.translations(_checked(objective), variables, data_dir)
        numbers = {}
        for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
            numbers[name] = float(metric.corpus_score(translations, [references]).score)
            logger.info("%s: %s", name, metric.get_signature())
        return numbers

    def translations(
        self, objective: SequenceToSequence, variables: Variables, data_dir: str
    ) -> list[str]:
        """What the objective makes of each source."""
        dataset = self.source.open(Path(data_dir))
        params, collections = split_variables(variables)
        texts: list[str] = []
        for start in range(0, dataset.size, self.batch_size):
            # The last batch is filled up, so that one program serves all.
            places = np.minimum(np.arange(start, start + self.batch_size), dataset.size - 1)
            batch: Any = dataset.gather(dataset.arrays, places)
            texts += objective.texts(
                params, collections, batch["source"], batch["source_mask"], self.max_new_tokens
            )
        return texts[: dataset.size]

    def check(self, objective: Objective, variables: Variables, data_dir: str) -> None:
        """Raises UserError where data is missing, or the objective makes no translations or none
        of this length."""
        checked = _checked(objective)
        checked.check_new_tokens(self.max_new_tokens)
        for side in ("source", "target"):
            if getattr(checked, f"{side}_tokenizer") is None:
                raise UserError(f"objective.{side}_tokenizer: missing; translations are text")
        self.source.texts(Path(data_dir))

    def metric_names(self) -> Sequence[str]:
        """What `__call__` returns."""
        return "bleu", "chrf"


def _checked(objective: Objective) -> SequenceToSequence:
    if not isinstance(objective, SequenceToSequence):
        raise UserError(
            f"TranslationReport measures sequence.SequenceToSequence, not "
            f"{type(objective).__name__}"
        )
    return objective
