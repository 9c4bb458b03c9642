"""Error rates of what is heard: that jiwer is asked about the right words."""

import dataclasses

import jax
import jiwer
import numpy as np
import pytest

from research.data.dataset import Dataset
from research.data.tokenizers import Word
from research.engine.objective import HasCheck, Probe
from research.errors import UserError
from research.sequence import CTC, AcousticEncoder, SequenceClassification, TranscriptionReport
from tests.parity import load_table
from tests.random_variables import random_variables

OBJECTIVE = CTC(
    AcousticEncoder(num_classes=4, hidden_dim=4, num_layers=1, stem_channels=2),
    Word(("one", "two", "six"), unknown="one"),
)
SAID = ["one six", "two", "six six one", "two two", "one"]


@dataclasses.dataclass(frozen=True)
class Said:
    """Noise of which it is known what is said."""

    num_frames: int = 24

    def open(self, data_dir):
        generator = np.random.default_rng(0)
        labels, label_mask = np.zeros((5, 3), np.int32), np.zeros((5, 3), np.float32)
        for i, text in enumerate(SAID):
            ids = OBJECTIVE.tokenizer.encode(text)
            labels[i, : len(ids)], label_mask[i, : len(ids)] = ids, 1
        arrays = {
            "inputs": generator.normal(size=(5, self.num_frames, 6)).astype(np.float32),
            "input_mask": np.ones((5, self.num_frames), np.float32),
            "labels": labels,
            "label_mask": label_mask,
        }
        return Dataset(5, arrays)


REPORT = TranscriptionReport(Said(), batch_size=2)


@pytest.fixture
def variables():
    dataset = Said().open(None)
    return random_variables(OBJECTIVE.init, dataset.gather(dataset.arrays, np.arange(2)))


def test_rates_are_jiwers(variables, monkeypatch):
    assert isinstance(REPORT, Probe)
    assert isinstance(REPORT, HasCheck)
    REPORT.check(OBJECTIVE, variables, "")
    said, heard = REPORT.transcripts(OBJECTIVE, variables, "")
    assert said == SAID
    assert any(heard), "the random model hears nothing: the test says little"
    numbers = REPORT(OBJECTIVE, variables, jax.random.key(0), "")
    assert set(numbers) == set(REPORT.metric_names())
    assert numbers["word_error_rate"] == jiwer.wer(SAID, heard)
    assert numbers["character_error_rate"] == jiwer.cer(SAID, heard)

    # What is heard does not depend on the batch, and what is heard right is right.
    alone = dataclasses.replace(REPORT, batch_size=1)
    assert alone.transcripts(OBJECTIVE, variables, "") == (said, heard)
    monkeypatch.setattr(TranscriptionReport, "transcripts", lambda *_: (SAID, SAID))
    assert set(REPORT(OBJECTIVE, variables, jax.random.key(0), "").values()) == {0.0}


def test_rates_are_those_of_the_table(monkeypatch):
    table = load_table("ctc")
    inputs, outputs = table["inputs"], table["outputs"]
    pair = ([" ".join(inputs["reference"])], [" ".join(inputs["heard"])])
    monkeypatch.setattr(TranscriptionReport, "transcripts", lambda *_: pair)
    numbers = REPORT(OBJECTIVE, {}, jax.random.key(0), "")
    assert numbers["word_error_rate"] == outputs["word_error_rate"]
    for (said, heard), distance in zip(inputs["words"], outputs["edit_distance"], strict=True):
        if said:
            monkeypatch.setattr(
                TranscriptionReport, "transcripts", lambda *_, pair=([said], [heard]): pair
            )
            numbers = REPORT(OBJECTIVE, {}, jax.random.key(0), "")
            assert numbers["character_error_rate"] == pytest.approx(distance / len(said))


def test_mistakes_are_named_before_training(variables):
    with pytest.raises(UserError, match=r"sequence.CTC, not SequenceClassification"):
        REPORT.check(SequenceClassification(OBJECTIVE.model), variables, "")
    with pytest.raises(UserError, match=r"objective.tokenizer: missing"):
        REPORT.check(dataclasses.replace(OBJECTIVE, tokenizer=None), variables, "")
    with pytest.raises(UserError, match=r"labels of example 2 need 4 frames, and .* makes 3"):
        dataclasses.replace(REPORT, source=Said(12)).check(OBJECTIVE, variables, "")
    with pytest.raises(UserError, match="must be at least 1; got 0"):
        dataclasses.replace(REPORT, batch_size=0)
