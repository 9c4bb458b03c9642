"""Several processes as one run on this host, which end as one to which nothing happens."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from launch import local
from research.engine.checkpoint import list_steps
from research.engine.files import read_json
from research.engine.restore import load_checkpoint, read_experiment
from research.errors import UserError
from tests import processes
from tests.launch.children import gone
from tests.shrink import arguments

REPOSITORY = Path(__file__).parents[2]
STEPS = 40


def flags(workdir: Path, **overrides: object) -> list[str]:
    """A run in two processes with a checkpoint every ten steps."""
    given = {
        "parallelism__mode": "pmap",
        "duration": f"{STEPS} steps",
        "checkpoints__every": "10 steps",
        **overrides,
    }
    return arguments("vision/lenet_digits.py", workdir, workdir.parent, **given)


def given_two(workdir: Path, *own: str) -> list[str]:
    return ["--processes=2", "--grace=1", *own, "--", *flags(workdir)]


def printed(capsys: pytest.CaptureFixture[str], *own: str, workdir: Path) -> list[str]:
    """The lines of a dry run."""
    capsys.readouterr()
    assert local.run([*own, "--dry_run", "--", *flags(workdir)]) == 0
    return capsys.readouterr().out.splitlines()


def run_lines(lines: list[str]) -> None:
    """Runs what a dry run printed, as somebody who pastes it into a shell each."""
    shells = [
        subprocess.Popen(
            ["sh", "-c", f"exec env {line}"], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=-2
        )
        for line in lines
    ]
    try:
        outputs = [shell.communicate(timeout=280)[0] for shell in shells]
    finally:
        for shell in shells:
            shell.kill()
    assert [shell.returncode for shell in shells] == [0, 0], outputs


def wait_until(happened: Callable[[], object], supervisor: processes.Process) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert supervisor.running and time.monotonic() < end, supervisor.log.read_text()
        time.sleep(0.005)


def launch(arguments: list[str]) -> None:
    sys.exit(local.run(arguments))


def newest(workdir: Path) -> int:
    return max(list_steps(workdir / "checkpoints"), default=-1)


def last_attempt(workdir: Path, index: int) -> str:
    log = workdir / "processes" / f"process_{index}.log"
    return log.read_text().rpartition("--- attempt ")[2]


def train_process(supervisor: processes.Process, index: int) -> psutil.Process:
    children = psutil.Process(supervisor.pid).children()
    (found,) = [child for child in children if f"--process_id={index}" in child.cmdline()]
    return found


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    import jax

    _, restored = load_checkpoint(read_experiment(workdir), workdir, "latest")
    assert restored.step == STEPS
    leaves = jax.tree_util.tree_leaves_with_path(restored.state.replace(rng=None))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@pytest.mark.timeout(900)  # seconds when the machine is busy; 40 otherwise
def test_a_run_that_is_killed_and_stopped_ends_as_if_nothing_happened(tmp_path, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_lines(printed(capsys, "--processes=2", workdir=whole))

    supervisor = processes.start(launch, given_two(cut))
    try:
        wait_until(lambda: newest(cut) > 0, supervisor)
        with pytest.raises(UserError, match=f"in use by process {supervisor.pid} on"):
            local.run(given_two(cut))
        first = [train_process(supervisor, index) for index in range(2)]
        first[1].kill()
        wait_until(lambda: last_attempt(cut, 0).startswith("2, "), supervisor)
        assert all(gone(process.pid, 0.01) for process in first)
        killed_at = newest(cut)
        assert killed_at < STEPS, "killed too late"
        wait_until(lambda: f"/{STEPS} " in last_attempt(cut, 0), supervisor)
        second = [train_process(supervisor, index) for index in range(2)]
        supervisor.send_signal(signal.SIGINT)
        code, text = supervisor.wait()
    finally:
        supervisor.kill()
    assert code == 75, text
    assert all(gone(process.pid, 0.01) for process in (*first, *second))
    assert "Process 1 was killed (SIGKILL" in text
    assert f"The end of {cut / 'processes' / 'process_1.log'}:" in text
    assert f"Going on from the checkpoint of step {killed_at}." in text
    stopped_at = newest(cut)
    assert killed_at < stopped_at < STEPS
    assert f"Stopped at step {stopped_at} of {STEPS}" in text
    for index in range(2):
        assert last_attempt(cut, index).startswith("2, "), "one restart"

    finished = processes.start(launch, given_two(cut))
    try:
        code, text = finished.wait()
    finally:
        finished.kill()
    assert code == 0, text
    assert f"Going on from the checkpoint of step {stopped_at}." in text
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert read_json(cut / "environment.json")["process_count"] == 2
    expected, found = parameters(whole), parameters(cut)
    assert expected.keys() == found.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


def test_a_dry_run_prints_the_commands_and_touches_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_given=1")
    workdir = tmp_path / "a run"
    lines = printed(
        capsys, "--processes=2", "--devices_per_process=3", "--grace=0", workdir=workdir
    )
    ports = set()
    for index, line in enumerate(lines):
        words = shlex.split(line)
        assert words[:2] == [
            "PYTHONUNBUFFERED=1",
            "XLA_FLAGS=--xla_given=1 --xla_force_host_platform_device_count=3",
        ]
        command = [sys.executable, "-m", "research.train", *flags(workdir)]
        assert words[2:-3] == command
        assert words[-2:] == ["--num_processes=2", f"--process_id={index}"]
        ports.add(words[-3])
    (port,) = ports
    assert port.startswith("--coordinator=127.0.0.1:")
    assert len(lines) == 2 and not workdir.exists()

    (line,) = printed(capsys, "--processes=1", workdir=workdir)
    assert shlex.split(line) == ["PYTHONUNBUFFERED=1", *command]
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("own", "changes", "message"),
    [
        (["--processes=2"], {"duraton": "1 steps"}, "did you mean 'duration'"),
        (["--processes=2"], {"parallelism.mode": "jit"}, "write --config.parallelism.mode=mesh or"),
        (["--processes=3"], {}, "data.batch_size = 16: not divisible by 3 processes"),
        (["--processes=0"], {}, "0 is not positive"),
        (["--processes=2", "--max_restarts=-1"], {}, "-1 is negative"),
        (["--processes=2", "--grace=nan"], {}, "nan is not a time"),
        (["--proceses=2"], {}, "did you mean '--processes'"),
        ([], {}, "--processes"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry_run"]])
def test_mistakes_are_refused_before_anything_starts(tmp_path, own, changes, message, dry):
    changed = [f"--config.{path}={value}" for path, value in changes.items()]
    with pytest.raises(UserError) as refused:
        local.run([*own, *dry, "--", *flags(tmp_path / "run"), *changed])
    assert message in str(refused.value)
    assert not (tmp_path / "run").exists()


LISTED = """#!/bin/sh
echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'
echo '  MIG 1g.10gb Device 0: (UUID: MIG-1)'
echo 'GPU 1: NVIDIA H100 (UUID: GPU-2)'
"""


def test_gpus_are_counted_without_jax(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local.visible_gpus({}) == [], "no nvidia-smi, no GPUs"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(LISTED)
    tool.chmod(0o755)
    assert local.visible_gpus({}) == ["0", "1"]
    assert local.visible_gpus({"CUDA_VISIBLE_DEVICES": "3, GPU-7,5"}) == ["3", "GPU-7", "5"]
    assert local.visible_gpus({"CUDA_VISIBLE_DEVICES": "3,-1,5"}) == ["3"]
    assert local.visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert local.visible_gpus({"JAX_PLATFORMS": "cpu"}) == []
    assert local.visible_gpus({"JAX_PLATFORMS": "cuda,cpu"}) == ["0", "1"]
    tool.write_text("#!/bin/sh\nexit 9")
    assert local.visible_gpus({}) == [], "a driver that does not answer"


def test_gpus_are_shared_out_evenly():
    four = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    shares = local.process_environments(four, 2, None)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4,5", "6,7"]
    with pytest.raises(UserError, match="--processes=3: 4 GPUs can't be shared out evenly"):
        local.process_environments(four, 3, None)
    with pytest.raises(UserError, match="counts CPU devices, but here are 4 GPUs"):
        local.process_environments(four, 2, 1)
    (alone,) = local.process_environments({"CUDA_VISIBLE_DEVICES": ""}, 1, None)
    assert alone == {"PYTHONUNBUFFERED": "1"}, "CPU devices are left as they are"


def test_every_start_has_a_port_of_its_own():
    ports = {local.process_commands([], 2)[0][-3] for _ in range(3)}
    assert len(ports) > 1
    assert all(port.startswith("--coordinator=127.0.0.1:") for port in ports)
    assert os.fspath(sys.executable) == local.process_commands([], 1)[0][0]


def test_flags_of_training_without_the_dashes_before_them():
    for flags in (["--config", "x.py"], ["--config.seed=1"], ["--workdir=r"]):
        with pytest.raises(UserError, match=r"flags of research\.train stand behind --"):
            local.run(["--processes=2", *flags])
