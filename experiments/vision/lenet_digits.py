"""LeNet on the 1,797 handwritten digits of 8×8 pixels that scikit-learn brings along.

The main job of `make demo`: real data, no download. A fifth of the digits is the test set.

    python -m research.train --config experiments/vision/lenet_digits.py --workdir runs/digits

Expected: test accuracy 0.994 (15 s on 2 CPU cores).

The search space is judged by the last 288 training digits, which its trials are not
trained on:

    python -m launch.sweep --config experiments/vision/lenet_digits.py --sweepdir sweeps/digits \\
        --trials 64 --workers 2
"""

from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The experiment."""
    return ConfigDict(
        {
            "objective": {
                "name": "vision.Classification",
                "model": {
                    "name": "vision.LeNet",
                    "channels": (16, 32),
                    "kernel_size": 3,
                    "padding": ("SAME", "SAME"),
                },
            },
            "data": {
                "source": {"name": "data.sources.Digits", "split": "train"},
                "transforms": [{"name": "data.augment.ToFloat"}],
                "batch_size": 64,
            },
            "evaluations": {
                "test": {
                    "source": {"name": "data.sources.Digits", "split": "test"},
                    "transforms": [{"name": "data.augment.ToFloat"}],
                    "every": "5 epochs",
                },
            },
            "duration": "40 epochs",
            "optimizer": {
                "name": "adam",
                "learning_rate": 2e-3,
                "schedule": {"name": "cosine", "warmup": "5%"},
            },
            "checkpoints": {"every": "10 epochs"},
            "log_every": "1 epochs",
            "reference": {
                "paper": "our own bar: 97 % of the test digits",
                "metric": "test/accuracy",
                "value": 0.97,
                "tolerance": 0.0,
            },
        }
    )


def get_sweep() -> dict[str, Any]:
    """The search space."""
    train = {"name": "data.sources.Digits", "split": "train"}
    return {
        "metric": "validation/accuracy",
        "mode": "max",
        "settings": {
            "data.source": {"name": "data.sources.Subset", "source": train, "stop": -288},
            "evaluations.validation": {
                "source": {"name": "data.sources.Subset", "source": train, "start": -288},
                "transforms": [{"name": "data.augment.ToFloat"}],
                "every": "2 epochs",
            },
            "evaluations.test.every": "100%",
        },
        "space": {
            "optimizer.learning_rate": {"log_uniform": (1e-4, 1e-1), "num": 4},
            "objective.label_smoothing": {"uniform": (0.0, 0.2), "num": 3},
        },
    }
