"""A temporal convolutional network on Bach's chorales (Bai et al., 2018): the next quarter
note's keys from those before it.

The data of Boulanger-Lewandowski et al. (2012), all pieces transposed to C; 229 pieces to train on,
76 and 77 to choose settings and to test on. The number is the paper's: nats a frame.

    python -m research.train --config experiments/sequence/tcn_jsb.py --workdir runs/tcn_jsb
    python -m research.generate --workdir runs/tcn_jsb --output samples/ \\
        --prompt=runs/tcn_jsb/sounds/piece_00002240.mid

Expected: test NLL 8.148, where the paper has 8.10 (seed 0; 8 min 39 s on one CPU core).
Data: `jsb_chorales/jsb-chorales-quarter.json`.
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
                    "name": "sequence.TCN",
                    "channels": (200, 200, 200, 200),
                    "kernel_size": 3,
                    "out_features": 88,
                    "dropout_rate": 0.5,
                    "input_dropout_rate": 0.2,
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
                "paper": "Bai et al. 2018, table 1: TCN",
                "metric": "test/nll",
                "value": 8.10,
                "tolerance": 0.05,
                "mode": "min",
            },
        }
    )
