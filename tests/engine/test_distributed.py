"""Two processes of two devices each against one process of four."""

from pathlib import Path
from typing import Any

import pytest
import small

from research.engine.checkpoint import restore
from research.engine.files import read_json
from research.engine.record import read_metrics
from tests import processes

HERE = Path(__file__).parent
TIMEOUT = 400

FSDP = ("--config.parallelism.mode=mesh", "--config.parallelism.fsdp=2")
PMAP = ("--config.parallelism.mode=pmap",)
HOST = "--config.data.on_device=False"


def start(workdir: Path, num_devices: int, *arguments: str) -> processes.Process:
    given = [f"--config={HERE / 'distributed_config.py'}", f"--workdir={workdir}", *arguments]
    return processes.start(processes.run_train, given, num_devices=num_devices)


def train(workdir: Path, num_processes: int, *arguments: str) -> Path:
    """A run of four devices through the command."""
    if num_processes == 1:
        processes.finish(start(workdir, 4, *arguments), timeout=TIMEOUT)
        return workdir
    shared = (*arguments, f"--coordinator=127.0.0.1:{processes.free_port()}", "--num_processes=2")
    both = [start(workdir, 2, *shared, f"--process_id={index}") for index in range(num_processes)]
    processes.finish(*both, timeout=TIMEOUT)
    return workdir


def final_state(workdir: Path) -> Any:
    run = small.ready(**small.HARD, duration="6 steps")
    restored = restore(workdir / "checkpoints", run.restore_target())
    assert restored.step == 6
    return restored.state.replace(rng=None)


@pytest.mark.timeout(900)  # seconds when the machine is busy; 30 otherwise
def test_two_processes_train_as_one(tmp_path: Path, subtests: pytest.Subtests) -> None:
    alone = train(tmp_path / "alone", 1, *FSDP)
    for name, arguments in {"mesh, batches from the host": (*FSDP, HOST), "pmap": PMAP}.items():
        with subtests.test(name):
            together = train(tmp_path / name.partition(",")[0], 2, *arguments)
            difference = small.largest_difference(final_state(together), final_state(alone))
            assert difference < 1e-6
            results = [read_json(folder / "result.json")["metrics"] for folder in (together, alone)]
            assert results[0] == pytest.approx(results[1], rel=1e-5)
            check_rows(read_metrics(together), read_metrics(alone))


def check_rows(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """What was recorded is over the examples of all processes."""
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
