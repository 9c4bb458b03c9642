"""A sweep of the smallest objective: the learning rates above 1 diverge."""

from typing import Any


def get_config() -> dict[str, Any]:
    source = {"name": "tests.launch.quadratic.Numbers"}
    return {
        "objective": {"name": "tests.launch.quadratic.Quadratic"},
        "data": {"source": source, "batch_size": 4},
        "evaluations": {"test": {"source": source, "every": "20 steps"}},
        "duration": "60 steps",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "checkpoints": {"every": "20 steps"},
        "log_every": "10 steps",
    }


def get_sweep() -> dict[str, Any]:
    return {
        "metric": "test/loss",
        "mode": "min",
        "space": {
            "optimizer.learning_rate": {"log_uniform": (1e-3, 8.0), "num": 4},
            "objective.scale": {"uniform": (0.5, 1.0), "num": 2},
        },
    }
