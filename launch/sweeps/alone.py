"""One trial as a run of its own."""

import errno
import math
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from launch.sweeps.quiet import Quiet
from launch.sweeps.study import Claim, Study
from research.engine.actions import Watcher
from research.engine.config import override
from research.engine.files import cannot_write, write_atomically
from research.engine.loop import train
from research.engine.record import Record
from research.engine.result import result_of
from research.errors import NonFiniteError, UserError, WriteError


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
    except WriteError:
        raise  # another trial would fare no better, and this one can go on
    except UserError as error:
        study.finish(claim, "failed", reason=str(error))
        return True
    except Exception as error:
        raise_if_full(error, claim.workdir)
        study.finish(claim, "failed", reason=keep_traceback(error, claim.workdir))
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


def raise_if_full(error: Exception, folder: Path) -> None:
    """Raises WriteError where an error says that the disk is full, also to orbax or Optuna."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise cannot_write(folder, error) from error


def keep_traceback(error: Exception, folder: Path) -> str:
    """Writes where an error comes from to `error.txt`; what it is and where that stands."""
    text = "".join(traceback.format_exception(error))
    write_atomically(folder / "error.txt", text.encode())
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first} (traceback in {folder / 'error.txt'})"
