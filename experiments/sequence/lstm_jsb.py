"""An LSTM on Bach's chorales: the next quarter note's keys from those before it.

    python -m research.train --config experiments/sequence/lstm_jsb.py --workdir runs/lstm_jsb
    python -m research.generate --workdir runs/lstm_jsb --output samples/

Expected: test NLL 8.423 (seed 0; 3 min 20 s on one CPU core). Dropout was chosen on the validation
pieces: 8.358 with 0.5 and 0.2 of the input, 8.432 with 0.5 and 0.1, 8.408
with 0.3 and 0.1. Data: `jsb_chorales/jsb-chorales-quarter.json`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The experiment."""
    chorales = {
        "name": "data.sources.PianoRolls",
        "file": "jsb_chorales/jsb-chorales-quarter.json",
    }
    return ConfigDict(
        {
            "objective": {
                "name": "sequence.PolyphonicMusic",
                "model": {
                    "name": "sequence.RecurrentNetwork",
                    "cell": "lstm",
                    "hidden_dim": 200,
                    "out_features": 88,
                    "input_dropout_rate": 0.2,
                    "dropout_rate": 0.5,
                },
            },
            "data": {
                "source": {**chorales, "split": "train"},
                "batch_size": 16,
                "length_buckets": (64, 129),
            },
            "evaluations": {
                "validation": {
                    "source": {**chorales, "split": "valid"},
                    "batch_size": 76,
                    "every": "4 epochs",
                },
                "test": {
                    "source": {**chorales, "split": "test"},
                    "batch_size": 77,
                    "every": "100%",
                },
            },
            "duration": "160 epochs",
            "optimizer": {
                "name": "adam",
                "learning_rate": 4e-3,
                "clip_norm": 1.0,
                "schedule": {"name": "cosine", "warmup": "5%"},
            },
            "ema_decay": 0.99,
            "log_every": "4 epochs",
            "checkpoints": {
                "every": "25%",
                "best_metric": "validation/nll",
                "best_mode": "min",
            },
            "reference": {
                "paper": "Bai et al. 2018, table 1: LSTM",
                "metric": "test/nll",
                "value": 8.45,
                "mode": "min",
            },
        }
    )
