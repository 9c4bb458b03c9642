"""What a run leaves behind where its numbers stop being finite."""

from io import BytesIO
from pathlib import Path

import jax
import numpy as np

from research.engine.checkpoint import list_steps
from research.engine.files import write_atomically, write_json
from research.engine.prepare import Prepared
from research.errors import NonFiniteError


def write_failure(run: Prepared, error: NonFiniteError, workdir: Path) -> None:
    """Writes `failure/`: the step, its metrics and its batch, to look into what went wrong."""
    if jax.process_index() != 0:
        return
    folder = workdir / "failure"
    indices = run.orders[0].indices(error.step - 1)
    file = BytesIO()
    np.savez(file, **run.dataset.gather(run.dataset.arrays, indices))
    write_atomically(folder / "batch.npz", file.getvalue())
    kept = list_steps(workdir / "checkpoints")
    report = {
        "step": error.step,
        "metrics": dict(error.metrics),
        "example_indices": indices.tolist(),
        "newest_checkpoint": kept[0] if kept else None,
        "replay": "the same command goes on from the newest checkpoint and reaches the same "
        "step with the same numbers; JAX_DEBUG_NANS=True stops it at the operation",
    }
    write_json(folder / "report.json", report)
