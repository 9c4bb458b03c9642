"""Jobs on a real Slurm of two nodes on this host; skipped where it cannot be started."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from launch import slurm, slurm_jobs
from launch.slurm_jobs import Job, JobState, Resources
from research import train
from research.engine.files import read_json
from tests import processes
from tests.commands import run_command
from tests.shared import once
from tests.shrink import arguments

HERE = Path(__file__).parent
TIMEOUT = 200


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of this process's own, that ends with it."""
    program = [sys.executable, str(HERE / "slurm_cluster.py")]
    with subprocess.Popen(
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        line = process.stdout.readline().strip()
        name, _, value = line.removeprefix("export ").partition("=")
        if not line.startswith("export "):
            pytest.skip(line)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            yield
        process.stdin.close()
        assert process.wait(60) == 0


def lenet(workdir: Path, **overrides: object) -> list[str]:
    """The flags of a run of 200 steps."""
    given = {"duration": "200 steps", "checkpoints__every": "50 steps", **overrides}
    return arguments("vision/lenet_digits.py", workdir, workdir.parent, **given)


def small(workdir: Path) -> list[str]:
    """The flags of a run of two processes."""
    config = HERE.parent / "engine" / "distributed_config.py"
    overrides = {
        "parallelism.mode": "pmap",
        "duration": "40 steps",
        "log_every": "2 steps",
        "evaluations.test.every": "40 steps",
    }
    settings = [f"--config.{path}={value}" for path, value in overrides.items()]
    return [f"--config={config}", f"--workdir={workdir}", *settings]


def wait_for(condition: Callable[[], object], what: Callable[[], str], pause: float = 0.05):
    """What the condition gives once it is true."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(pause)
    return found


def printed(job: Job) -> str:
    return job.log().read_text() if job.log().exists() else "(nothing printed)"


def ended(*jobs: Job) -> list[JobState]:
    """The states of jobs once all have ended."""

    def states() -> list[JobState] | None:
        found = slurm_jobs.states(jobs)
        return found if all(state.ended for state in found) else None

    return wait_for(states, lambda: "\n".join([call("squeue"), *map(printed, jobs)]))


def until(job: Job, state: str) -> None:
    wait_for(lambda: slurm_jobs.states([job])[0].state == state, lambda: printed(job))


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit_run(flags: Sequence[str], *options: str, capsys: pytest.CaptureFixture[str]) -> Job:
    """The job of a run that the launcher submitted."""
    result = run_command(slurm.run, [*options, "--", *flags], capsys)
    assert result.code == 0, result.stderr
    workdir = next(Path(flag.partition("=")[2]) for flag in flags if flag.startswith("--workdir"))
    return Job(result.stdout.split(":")[0].removeprefix("Submitted job "), workdir / "slurm")


def pause(workdir: Path, job: Job) -> int:
    """Holds a run that has written its first metrics; its main process."""
    metrics = workdir / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size, lambda: printed(job), pause=0.005)
    process = json.loads((workdir / ".lock").read_text())["pid"]
    os.kill(process, signal.SIGSTOP)
    return process


def test_two_nodes_told_to_stop_go_on_to_the_end_of_an_undisturbed_run(
    cluster, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent / "engine"))
    monkeypatch.syspath_prepend(str(HERE.parent / "engine"))
    workdir, alone = tmp_path / "nodes", tmp_path / "alone"
    job = submit_run(small(workdir), "--nodes=2", "--cpus_per_task=1", capsys=capsys)
    process = pause(workdir, job)
    call("scancel", "--signal=TERM", job.job_id)
    os.kill(process, signal.SIGCONT)
    shared = (f"--coordinator=127.0.0.1:{processes.free_port()}", "--num_processes=2")
    processes.finish(
        *(
            processes.start(processes.run_train, [*small(alone), *shared, f"--process_id={index}"])
            for index in range(2)
        )
    )
    assert ended(job) == [JobState("complete", code=0)], printed(job)

    text = printed(job)
    assert text.count("Requeued.") == 1, text
    assert text.count("Going on from the checkpoint of step") == 1, text
    for name in ("metrics.jsonl", "result.json"):
        assert (workdir / name).read_bytes() == (alone / name).read_bytes(), name
    environment = read_json(workdir / "environment.json")
    assert environment["process_count"] == 2
    assert environment["device_count"] == 2


def test_a_preempted_run_ends_with_the_bits_of_an_undisturbed_one(cluster, tmp_path, capsys):
    workdir, alone = tmp_path / "run", tmp_path / "alone"
    job = submit_run(lenet(workdir), "--extra=exclusive", capsys=capsys)
    process = pause(workdir, job)
    urgent = Resources(nodes=2, partition="urgent", extra={"exclusive": True})
    (other,) = slurm_jobs.submit(["true"], 1, urgent, tmp_path / "other", "urgent")
    wait_for(lambda: "COMPLETING" in call("squeue", "--format=%T"), lambda: call("squeue"))
    os.kill(process, signal.SIGCONT)
    assert train.run(lenet(alone)) == 0
    assert ended(job, other) == [JobState("complete", code=0)] * 2, printed(job)
    text = printed(job)
    assert "Stopping after this step" in text
    assert text.count("Going on from the checkpoint of step") == 1, text
    for name in ("metrics.jsonl", "result.json"):
        assert (workdir / name).read_bytes() == (alone / name).read_bytes(), name
