"""What a run ends with: `result.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from research.engine.experiment import Reference


def result_of(
    step: int, total_steps: int, metrics: Mapping[str, Any], reference: Reference | None
) -> dict[str, Any]:
    """The newest numbers, held against the reference where it names one of them."""
    result = {"step": step, "total_steps": total_steps, "metrics": dict(metrics)}
    if reference is not None and reference.metric in metrics:
        result["reference"] = _against(reference, metrics[reference.metric])
    return result


def _against(reference: Reference, value: Any) -> dict[str, Any]:
    measured = float(np.mean(value))  # over trials, where there are several
    sign = 1 if reference.mode == "max" else -1
    return {
        "paper": reference.paper,
        "metric": reference.metric,
        "value": reference.value,
        "tolerance": reference.tolerance,
        "measured": measured,
        "reached": bool(sign * (measured - reference.value) >= -reference.tolerance),
    }
