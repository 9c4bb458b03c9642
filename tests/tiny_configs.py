"""Config files that train in a moment, on the digits that come with scikit-learn."""

from pathlib import Path
from typing import Any

from launch.reproduction.child import Ended
from launch.reproduction.machine import Machine
from launch.reproduction.plan import Run
from research import train
from research.command_line import MISTAKE, NON_FINITE
from research.engine.config_file import set_place
from research.errors import NonFiniteError, UserError

MACHINE = Machine("cpu", "cpu", 1, "Abacus 3000", 2)


def write_config(family: Path, name: str, extra: str = "", **settings: Any) -> str:
    """Writes a config below `family`; `extra` comes before `get_config`, and the settings' keys
    have __ for dots. Returns its location."""
    transforms = [{"name": "data.augment.ToFloat"}]
    source = {"name": "data.sources.Digits"}
    plain: dict[str, Any] = {
        "objective": {
            "name": "vision.Classification",
            "model": {
                "name": "vision.LeNet",
                "channels": (2, 2),
                "kernel_size": 3,
                "padding": ("SAME", "SAME"),
                "hidden": (8,),
            },
        },
        "data": {
            "source": {**source, "split": "train"},
            "transforms": transforms,
            "batch_size": 16,
        },
        "evaluations": {
            "test": {
                "source": {**source, "split": "test"},
                "transforms": transforms,
                "every": "1000 steps",
            },
        },
        "duration": "6 steps",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "show_examples": 8,
        "reference": {"paper": "Tiny et al. 1990", "metric": "test/accuracy", "value": 0.01},
    }
    for key, value in settings.items():
        set_place(plain, key.replace("__", "."), value)
    family.mkdir(parents=True, exist_ok=True)
    file = family / f"{name}.py"
    file.write_text(f"{extra}\n\n\ndef get_config(variant=''):\n    return {plain!r}\n")
    return str(file)


def start_here(run: Run) -> Ended:
    """Does in this process what the command of a run does in one of its own."""
    try:
        return Ended(train.run(run.arguments), "", 1.5)
    except UserError as error:
        return Ended(MISTAKE, f"a warning\nError: {error}\n", 0.5)
    except NonFiniteError as error:
        return Ended(NON_FINITE, f"Stopped: {error}\n", 0.5)
