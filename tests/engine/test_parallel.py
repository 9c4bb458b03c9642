"""The same numbers in every parallel mode, on eight devices."""

import json
from pathlib import Path
from typing import Any

import eight_devices
import numpy as np
import pytest

from tests import processes

MODES = {"pmap": 1e-6, "data": 1e-6, "fsdp": 1e-6, "tensor": 1e-5, "pmap, micro-batches": 1e-6}
"""How far each may be from one device."""

OWNERS = ("params", "ema", "opt_state/model/1/trace")
SHARDS = {
    # The dense kernel is (128, 64), the head's (64, 10) is too small to be split by itself.
    "jit": ([128, 64], [64, 10]),
    "data": ([128, 64], [64, 10]),
    "fsdp": ([32, 64], [64, 10]),
    "tensor": ([64, 32], [32, 10]),
}
"""What one of the devices has of the two kernels."""


def run_eight_devices(folder: Path) -> dict[str, Any]:
    """What `eight_devices.report` measures."""
    processes.finish(processes.start(eight_devices.report, folder, num_devices=8), timeout=800)
    report = json.loads((folder / "report.json").read_text())
    assert report["devices"] == 8
    return report


@pytest.mark.timeout(900)  # seconds when the machine is busy; 30 otherwise
def test_eight_devices_are_as_one(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """One test, so that the report is made once, however tests are spread over processes."""
    report = run_eight_devices(tmp_path)
    for mode, tolerance in MODES.items():
        with subtests.test("ten steps end where one device ends", mode=mode):
            # Parameters, batch statistics, momentum and average.
            assert report[mode]["difference"] < tolerance
            check_history(
                report[mode]["history"],
                report["jit, micro-batches" if "micro" in mode else "jit"]["history"],
            )
    for mode in ("pmap", "pmap, micro-batches"):
        with subtests.test("copies stay the same bits", mode=mode):
            assert report[mode]["replicas"] == 0
    for mode, (dense, head) in SHARDS.items():
        with subtests.test("parameters, average and momentum are split", mode=mode):
            expected = {f"{owner}/dense/kernel": dense for owner in OWNERS}
            expected |= {f"{owner}/head/kernel": head for owner in OWNERS}
            assert report[mode]["shards"] == expected
    for way in ("pmap -> jit", "jit -> fsdp", "tensor -> pmap"):
        with subtests.test("a checkpoint of one mode goes on in another", way=way):
            assert report[way]["restored"] == 0
            assert report[way]["placed"]
            assert report[way]["difference"] < (1e-5 if "tensor" in way else 1e-6)
    for mode in ("pmap", "data", "fsdp", "tensor"):
        with subtests.test("evaluation does not depend on the devices", mode=mode):
            # Of 77 examples, in batches of 8 and of all, which leaves 3 for padding.
            expected = report["jit"]["evaluation"]
            assert report[mode]["evaluation"] == pytest.approx(expected, rel=1e-6)
    with subtests.test("micro-batches have batch statistics of their own"):
        losses = [report[mode]["history"]["loss"][0] for mode in ("jit", "jit, micro-batches")]
        assert losses[0] != pytest.approx(losses[1], abs=1e-4)


def check_history(history: dict[str, Any], reference: dict[str, Any]) -> None:
    """Metrics of every step; the loss changes, so that there is something to compare."""
    assert abs(reference["loss"][0] - reference["loss"][-1]) > 1e-3
    assert history.keys() == reference.keys()
    for name, values in reference.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
