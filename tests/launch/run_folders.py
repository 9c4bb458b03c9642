"""Run folders as `research.train` leaves them, written in no time."""

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.trials import Trial, Trials
from research.engine.config import load, to_plain
from research.engine.config_file import set_place
from research.engine.files import write_json
from research.engine.record import Record
from tests.shrink import EXPERIMENTS

METRIC = "test/accuracy"


def write_run(
    workdir: Path,
    values: Sequence[Any] = (0.5, 0.75),
    *,
    losses: Sequence[Any] = (2.0, 1.0),
    settings: Mapping[str, Any] | None = None,
    finished: bool = True,
) -> Path:
    """A run that measured these accuracies and losses at steps 10, 20, …"""
    config = copy.deepcopy(_config())
    for path, value in (settings or {}).items():
        set_place(config, path, value)
    with Record(workdir, tensorboard=False) as record:
        record.config(config)
        for place, loss in enumerate(losses):
            record.metrics(10 * place + 10, {"loss": loss, "learning_rate": 0.1})
            if place < len(values):
                record.metrics(10 * place + 10, {METRIC: values[place], "test/loss": loss})
        record.timing(1, {"seconds_to_first_step": 3.0})
        record.timing(21, {"steps_per_second": 10.0})
        if finished:
            record.result({"step": 10 * len(losses)})
    write_json(workdir / "data.json", {"total_steps": 100})
    return workdir


def write_failure(workdir: Path, step: int, loss: str = "nan") -> None:
    """The report of a run whose loss was not finite."""
    write_json(
        workdir / "failure" / "report.json",
        {"step": step, "metrics": {"grad_norm": loss, "loss": loss}},
    )


def trials(*rows: Mapping[str, Any], mode: Any = "max") -> Trials:
    """Trials without folders; a row has settings, and what else a trial has behind `_`."""
    found = []
    for number, row in enumerate(rows):
        settings = {path: value for path, value in row.items() if not path.startswith("_")}
        more = {path[1:]: value for path, value in row.items() if path.startswith("_")}
        defaults = {"state": "complete", "workdir": Path(f"/nowhere/{number}")}
        found.append(Trial(number=number, settings=settings, **(defaults | more)))
    return Trials("a sweep", METRIC, mode, tuple(found))


@functools.cache
def _config() -> dict[str, Any]:
    return json.loads(json.dumps(to_plain(load(str(EXPERIMENTS / "vision/lenet_digits.py")))))
