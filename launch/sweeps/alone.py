"""One trial as a run of its own."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from launch.sweeps.failures import reason_of
from launch.sweeps.quiet import Quiet
from launch.sweeps.study import Claim, Study
from research.engine.actions import Watcher
from research.engine.config import override
from research.engine.loop import train
from research.engine.record import Record
from research.engine.result import result_of
from research.errors import NonFiniteError


def run_alone(study: Study, claim: Claim, data_dir: Path) -> bool:
    """Runs a trial to its end, whatever that is; False where it was stopped after saving."""
    metric, started = study.specification.sweep.metric, time.monotonic()
    pruned = False

    def watch(step: int, value: Any) -> bool:
        nonlocal pruned
        value = float(np.mean(value))
        pruned = math.isfinite(value) and study.report(claim, step, value)
        return pruned

    try:
        experiment = override(study.specification.experiment, claim.settings)
        with Record(claim.workdir) as record:
            outcome = train(
                experiment,
                claim.workdir,
                data_dir,
                record,
                lambda start, total: Quiet(),
                Watcher(metric, watch),
            )
            if outcome.stopped:
                study.leave(claim)
                return False
            step, total = outcome.step, outcome.total_steps
            record.result(result_of(step, total, outcome.metrics, experiment.reference))
    except NonFiniteError as error:
        study.finish(claim, "diverged", reason=str(error), step=error.step)
        return True
    except Exception as error:
        study.finish(claim, "failed", reason=reason_of(error, claim.workdir))
        return True
    seconds = time.monotonic() - started
    value = float(np.mean(outcome.metrics[metric]))
    if not math.isfinite(value):
        reason = f"{metric} = {value} at the end"
        study.finish(claim, "failed", reason=reason, step=step, seconds=seconds)
        return True
    state = "pruned" if pruned and step < total else "complete"
    study.finish(claim, state, value, step=step, seconds=seconds)
    return True
