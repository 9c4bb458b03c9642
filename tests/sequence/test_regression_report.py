"""Correlations of predictions with labels."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from research.data.sources import LabelledText
from research.data.tokenizers import Char
from research.engine.objective import HasCheck, Probe
from research.errors import UserError
from research.sequence import (
    RecurrentClassifier,
    RegressionReport,
    SequenceClassification,
    SequenceRegression,
)
from research.sequence.regression_report import BATCH_SIZE
from tests.random_variables import random_variables

KEY = jax.random.key(0)
OBJECTIVE = SequenceRegression(RecurrentClassifier(1, 4, 8, pooling="mean"))


def report_on(folder, labels):
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list("abcdefgh"), size=5)) for _ in labels]
    rows = [{"text": text, "y": y} for text, y in zip(texts, labels, strict=True)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return RegressionReport(LabelledText("a.jsonl", "text", Char("abcdefgh"), 5, "y"))


@pytest.fixture(scope="module")
def variables():
    return random_variables(OBJECTIVE.init, {"tokens": jnp.zeros((2, 5), jnp.int32)})


def test_correlations_are_scipys(variables, tmp_path):
    # Years: their squares have more digits than float32.
    labels = np.round(2000 + 5 * np.random.default_rng(1).normal(size=BATCH_SIZE + 20)).tolist()
    report = report_on(tmp_path, labels)
    assert isinstance(report, Probe)
    assert isinstance(report, HasCheck)
    report.check(OBJECTIVE, variables, str(tmp_path))
    numbers = report(OBJECTIVE, variables, KEY, str(tmp_path))
    assert tuple(numbers) == tuple(report.metric_names())
    dataset = report.source.open(tmp_path)
    batch = dataset.gather(dataset.arrays, np.arange(dataset.size))
    predictions = np.asarray(OBJECTIVE.predictions(variables["params"], {}, batch))
    assert numbers["pearson"] == pytest.approx(pearsonr(predictions, labels).statistic, abs=1e-5)
    assert numbers["spearman"] == pytest.approx(spearmanr(predictions, labels).statistic, abs=1e-3)


def test_of_equal_labels_there_is_no_correlation(variables, tmp_path):
    numbers = report_on(tmp_path, [3.0] * 5)(OBJECTIVE, variables, KEY, str(tmp_path))
    assert np.isnan(list(numbers.values())).all()


def test_refuses_what_is_no_regression(variables, tmp_path):
    report = report_on(tmp_path, [1.0, 2.0])
    with pytest.raises(UserError, match="not SequenceClassification"):
        report.check(SequenceClassification(OBJECTIVE.model), variables, str(tmp_path))
    unlabelled = RegressionReport(LabelledText("a.jsonl", "text", Char("abcdefgh"), 5))
    with pytest.raises(UserError, match="no `label`"):
        unlabelled.check(OBJECTIVE, variables, str(tmp_path))
