"""Trials in one program are the runs they would be alone."""

from contextlib import nullcontext

import jax
import numpy as np
import pytest
import small

from research.engine.config import check_experiment, override
from research.engine.loop import train
from research.engine.prepare import prepare
from research.engine.record import Record
from research.errors import UserError

SETTINGS = {**small.HARD, "data__transforms": [{"name": "small.Jitter"}]}
TRIALS = {
    "seed": (0, 7),
    "optimizer.learning_rate": (0.05, 0.2),
    "objective.scale": (1.0, 0.5),
}


def test_each_trial_is_the_run_it_would_be_alone():
    run, together, history = small.trained(
        **SETTINGS, parallelism={"mode": "vmap", "trials": TRIALS}, steps_per_call=5
    )
    together = together.replace(rng=None)
    measured = run.evaluators["test"](together)
    ends = []
    for index in range(2):
        settings = {path.replace(".", "__"): values[index] for path, values in TRIALS.items()}
        alone_run, alone, alone_history = small.trained(**SETTINGS, **settings)
        alone = alone.replace(rng=None)
        trial = jax.tree.map(lambda x, i=index: x[i], together.replace(hyperparameters={}))
        assert small.largest_difference(trial, alone) < 1e-5
        for name, values in alone_history.items():
            assert history[name].shape == (10, 2)
            np.testing.assert_allclose(history[name][:, index], values, rtol=1e-4, atol=1e-5)
        for name, value in alone_run.evaluators["test"](alone).items():
            assert measured[name][index] == pytest.approx(value, rel=1e-5)
        ends.append(alone)
    assert small.largest_difference(*ends) > 1e-2, "the trials differ"


TINY_GPT = {
    "objective": {
        "name": "sequence.LanguageModeling",
        "model": {
            "name": "sequence.GPT",
            "vocab_size": 256,
            "block_size": 8,
            "num_layers": 1,
            "num_heads": 2,
            "embed_dim": 8,
            "dropout_rate": 0.1,
        },
    },
    "data": {
        "source": {
            "name": "data.sources.Text",
            "file": "text.txt",
            "block_size": 8,
            "tokenizer": {"name": "data.tokenizers.Byte"},
        },
        "batch_size": 4,
    },
    "duration": "6 steps",
    "ema_decay": 0.5,
    # Adam divides by the square root of tiny second moments: eps keeps it from enlarging rounding.
    "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 1.0, "eps": 1e-5},
    "log_norms": False,
}
DIGITS = {
    "objective": {
        "name": "vision.Classification",
        "model": {
            "name": "vision.LeNet",
            "channels": (2, 2),
            "hidden": (4,),
            "padding": ("SAME", "SAME"),
        },
    },
    "data": {
        "source": {"name": "data.sources.Digits", "split": "train"},
        "transforms": [
            {"name": "data.augment.ToFloat"},
            {"name": "data.augment.Mixup", "alpha": 0.2, "num_classes": 10},
        ],
        "batch_size": 8,
    },
    "duration": "6 steps",
    "optimizer": {"name": "adam", "learning_rate": 1e-2},
    "log_norms": False,
}
INSIDE_THE_STEP = {
    "a language model": (
        TINY_GPT,
        {
            "objective.model.dropout_rate": (0.0, 0.3),
            "optimizer.weight_decay": (0.0, 0.5),
            "optimizer.clip_norm": (0.1, 5.0),
            "optimizer.b1": (0.9, 0.5),
            "ema_decay": (0.9, 0.2),
            "seed": (1, 2),
        },
    ),
    "a classifier": (
        DIGITS,
        {
            "objective.label_smoothing": (0.0, 0.3),
            "data.transforms.1.alpha": (0.2, 1.0),
            "optimizer.eps": (1e-8, 1e-3),
        },
    ),
}


@pytest.mark.parametrize("name", INSIDE_THE_STEP)
def test_every_number_inside_the_step_may_differ(name, tmp_path):
    settings, trials = INSIDE_THE_STEP[name]
    (tmp_path / "text.txt").write_text("so shaken as we are, so wan with care " * 20)
    experiment = check_experiment(settings)
    together = override(experiment, {"parallelism.mode": "vmap", "parallelism.trials": trials})
    state, history = small.train_to_end(prepare(together, tmp_path))
    ends = []
    for index in range(2):
        own = {path: values[index] for path, values in trials.items()}
        alone, alone_history = small.train_to_end(prepare(override(experiment, own), tmp_path))
        trial = jax.tree.map(lambda x, i=index: x[i], state.evaluated_params)
        assert small.largest_difference(trial, alone.evaluated_params) < 1e-5
        np.testing.assert_allclose(history["loss"][:, index], alone_history["loss"], rtol=1e-5)
        ends.append(alone.evaluated_params)
    assert small.largest_difference(*ends) > 1e-3, "the trials differ"


def test_a_number_that_python_must_know_is_told(tmp_path):
    schedule = {"name": "step", "boundaries": ("50%",)}
    trials = {"optimizer.schedule.factor": (0.1, 0.5), "seed": (0, 1)}
    experiment = small.experiment(
        optimizer__schedule=schedule, parallelism={"mode": "vmap", "trials": trials}
    )
    with (
        Record(tmp_path) as record,
        pytest.raises(UserError, match=r"trials: the value of optimizer\.schedule\.factor decides"),
    ):
        train(experiment, tmp_path, tmp_path, record, lambda start, total: nullcontext())
