"""Jobs on a real Slurm of two nodes on this host; skipped where it cannot be started."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launch import slurm, slurm_jobs, slurm_script, sweep
from launch.slurm_jobs import Job, JobState
from launch.slurm_script import Resources
from launch.sweeps.results import read_sweep
from research import command_line
from research.engine.files import read_json
from tests import processes
from tests.commands import run_command
from tests.launch.sweeps_in_tests import rows_of
from tests.shrink import arguments

HERE = Path(__file__).parent
ENGINE = HERE.parent / "engine"
ROOT = HERE.parents[1]
TIMEOUT = 250

# Slurm signals the sleeping one, too, and may do so first.
HELD = "while :; do sleep 0.1; done"
STOPPED = JobState("failed", "stopped after saving; the same command goes on", 75)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Job]:
    """A cluster of this process's own, which ends with it, and a job of one minute on its first
    node, which Slurm warns within half of that."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "slurm_cluster.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.startswith("export "):
            pytest.skip(line)
        name, _, value = line.removeprefix("export ").partition("=")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            shell = 'trap "exit 75" USR2; test $SLURM_RESTART_COUNT || ' + HELD
            limits = {"minutes": 1, "signal_delay": 30, "extra": {"nodelist": "127.0.0.1"}}
            (short,) = submit(shell, tmp_path_factory.mktemp("short"), **limits)
            yield short
        process.stdin.close()
        assert process.wait(60) == 0


def wait_for(condition: Callable[[], Any], otherwise: Callable[[], str], pause: float = 0.1) -> Any:
    """What the condition gives once that is true."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(pause)
    return found


def printed(*jobs: Job) -> str:
    return "\n".join(job.log().read_text() for job in jobs if job.log().exists())


def ended(*jobs: Job) -> list[JobState]:
    """The states of jobs once all have ended."""

    def states() -> list[JobState] | None:
        found = slurm_jobs.states(jobs)
        return found if all(state.ended for state in found) else None

    return wait_for(states, lambda: call("squeue") + printed(*jobs))


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(shell: str, folder: Path, count: int = 1, **resources: Any) -> tuple[Job, ...]:
    """Jobs that run a line of shell."""
    return slurm_jobs.submit(["sh", "-c", shell], count, Resources(**resources), folder, "test")


def run_launcher(given: list[str]) -> None:
    """`python -m launch.slurm` with these arguments."""
    sys.argv = ["launch.slurm", *given]
    command_line.main(slurm.run)


def run_sweep(given: list[str]) -> None:
    sys.argv = ["sweep", *given]
    command_line.main(sweep.run)


def train_in_two(workdir: Path) -> list[str]:
    """The flags of a run of two processes."""
    overrides = {
        "parallelism.mode": "pmap",
        "duration": "40 steps",
        "log_every": "2 steps",
        "evaluations.test.every": "40 steps",
    }
    settings = [f"--config.{path}={value}" for path, value in overrides.items()]
    return [f"--config={ENGINE / 'distributed_config.py'}", f"--workdir={workdir}", *settings]


@pytest.mark.timeout(600)  # seconds when the machine is busy; 30 otherwise
def test_run_on_two_nodes_is_stopped_and_ends_as_an_undisturbed_one_without_slurm(
    cluster, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PYTHONPATH", str(ENGINE))
    monkeypatch.syspath_prepend(str(ENGINE))
    workdir, alone = tmp_path / "nodes", tmp_path / "alone"
    given = ["--nodes=2", "--cpus_per_task=1", "--time=20m", "--", *train_in_two(workdir)]
    dry = run_command(slurm.run, ["--dry_run", *given], capsys)
    assert not workdir.exists(), "a dry run writes nothing"

    launcher = processes.start(run_launcher, ["--wait", *given])
    try:
        metrics = workdir / "metrics.jsonl"
        wait_for(
            lambda: (metrics.exists() and metrics.stat().st_size) or not launcher.running,
            lambda: launcher.log.read_text(),
            pause=0.005,
        )
        assert launcher.running, launcher.log.read_text()
        # Held until Slurm has signalled it: the run must not be over before.
        process = json.loads((workdir / ".lock").read_text())["pid"]
        os.kill(process, signal.SIGSTOP)
        (file,) = (workdir / "slurm").glob("[0-9]*_submission.sh")
        job = Job(file.name.partition("_")[0], workdir / "slurm")
        call("scancel", "--signal=TERM", job.job_id)
        os.kill(process, signal.SIGCONT)

        peers = (f"--coordinator=127.0.0.1:{processes.free_port()}", "--num_processes=2")
        both = [[*train_in_two(alone), *peers, f"--process_id={index}"] for index in range(2)]
        processes.finish(*(processes.start(processes.run_train, each) for each in both))
        code, output = launcher.wait()
    finally:
        launcher.kill()
    text = printed(job)
    assert code == 0, output + text
    assert f"Submitted job {job.job_id}: " in output
    assert f"Job {job.job_id} is complete" in output
    assert text.count("Requeued.") == 1, text
    assert text.count("Going on from the checkpoint of step") == 1, text
    for name in ("metrics.jsonl", "result.json"):
        assert (workdir / name).read_bytes() == (alone / name).read_bytes(), name
    environment = read_json(workdir / "environment.json")
    assert environment["process_count"] == environment["device_count"] == 2
    assert dry.stdout == file.read_text()


@pytest.mark.timeout(600)
def test_sweep_is_ended_by_an_array_one_of_whose_jobs_is_cancelled(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "sweep"
    given = [f"--config={HERE / 'quadratic_config.py'}", f"--sweepdir={folder}", "--trials=16"]
    sweeper = processes.start(
        run_sweep, [*given, "--backend=slurm", "--workers=2", "--cpus_per_task=1", "--time=20m"]
    )
    try:
        saved = wait_for(
            lambda: list(folder.glob("trials/*/checkpoints/20")) or not sweeper.running,
            lambda: sweeper.log.read_text(),
            pause=0.01,
        )
        assert sweeper.running, sweeper.log.read_text()
        (file,) = (folder / "slurm").glob("[0-9]*_submission.sh")
        array = file.name.partition("_")[0]
        call("scancel", f"{array}_0")
        code, output = sweeper.wait()
    finally:
        sweeper.kill()
    assert code == 0, output
    assert saved
    assert f"Job {array}_0 " in output and "another takes its place" in output, output
    trials = read_sweep(folder).trials
    assert [trial.number for trial in trials] == list(range(16))
    for trial in trials:
        assert trial.state in ("complete", "diverged"), trial
        steps = [row["step"] for row in rows_of(trial.workdir) if "loss" in row]
        assert steps == sorted(set(steps)), f"trial {trial.number} made steps twice"


def test_waiting_ends_with_the_code_of_the_run(cluster, tmp_path, capsys):
    given = arguments("vision/lenet_mnist.py", tmp_path / "run", tmp_path / "no_data")
    result = run_command(slurm.run, ["--wait", "--name=mnist", "--", *given], capsys)
    assert result.code == 2, result.stdout + result.stderr
    assert "no_data" in result.stdout, "the end of what it printed says what is wrong"
    assert "is failed: ended with exit code 2" in result.stderr
    assert str(tmp_path / "run" / "slurm") in result.stderr


def test_array_ends_each_task_by_itself(cluster, tmp_path, monkeypatch):
    # As from within a job, of which nothing may reach the new ones.
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "99")
    held = 'test -e go || { trap "exit 75" USR2 TERM; touch up; ' + HELD + "; }"
    shell = f"""cd {shlex.quote(str(tmp_path))}; n=$SLURM_ARRAY_TASK_ID
        case $n in
            0) echo "${{SLURM_CPUS_PER_TASK-none}}" > cpus;;
            1) exit 3;;
            2) kill -9 $$;;
            3) kill -9 $PPID;;
            *) {held};;
        esac"""
    jobs = submit(shell, tmp_path / "log", count=5)
    assert os.environ["SLURM_JOB_ID"] == "1"
    monkeypatch.delenv("SLURM_JOB_ID")
    assert [job.job_id.partition("_")[2] for job in jobs] == list("01234")
    command, name = ["sh", "-c", shell], "test"
    script = slurm_script.script(command, 5, Resources(), tmp_path / "log", name)
    array_id = jobs[0].job_id.partition("_")[0]
    assert (tmp_path / "log" / f"{array_id}_submission.sh").read_text() == script

    wait_for((tmp_path / "up").exists, lambda: printed(*jobs))
    assert slurm_jobs.states(jobs[4:]) == [JobState("running")]
    slurm_jobs.cancel(jobs[4:])
    # The last is not requeued although it stopped by itself.
    assert [(state.state, state.reason) for state in ended(*jobs)] == [
        ("complete", ""),
        ("failed", "ended with exit code 3"),
        ("failed", "killed by SIGKILL"),
        ("failed", "killed by SIGKILL"),
        ("failed", "cancelled"),
    ]
    assert (tmp_path / "cpus").read_text() == "none\n"
    slurm_jobs.cancel(jobs)  # which have ended already

    (tmp_path / "go").touch()
    again = submit(shell.replace("$SLURM_ARRAY_TASK_ID", "4"), tmp_path / "log")
    assert ended(*again) == [JobState("complete", code=0)]


def test_job_that_slurm_has_forgotten(cluster, tmp_path):
    jobs = [Job(str(number), tmp_path) for number in (900001, 900002, 900003)]
    (tmp_path / "900001_exit_code").write_text("0\n")
    (tmp_path / "900002_exit_code").write_text("1\n")
    complete, failed, killed = slurm_jobs.states(jobs)
    assert complete == JobState("complete", code=0)
    assert failed == JobState("failed", "ended with exit code 1", 1)
    assert killed.state == "failed" and killed.code is None
    assert "killed" in killed.reason


def test_stopped_jobs_are_requeued_no_more_often_than_allowed(cluster, tmp_path):
    shell = 'trap "exit 75" USR2; echo started; ' + HELD
    (once,) = submit(shell, tmp_path / "once", max_requeues=1)
    (never,) = submit(shell, tmp_path / "never", max_requeues=0)
    for job, starts in ((once, 1), (never, 1), (once, 2)):
        wait_for(lambda: printed(job).count("started") == starts, lambda: printed(job))  # noqa: B023
        call("scancel", "--signal=USR2", job.job_id)
    assert ended(once, never) == [STOPPED, STOPPED]
    for job, number in ((once, 1), (never, 0)):
        text = printed(job)
        assert text.count("Requeued.") == number, text
        assert f"Not requeued: it was {number} times already." in text


def test_preempted_job_is_told_to_stop_and_goes_on(cluster, tmp_path):
    # Slurm sends SIGTERM twice, and requeues by itself.
    shell = f"""cd {shlex.quote(str(tmp_path))}
        trap "echo saved; exit 75" USR2; trap "" TERM
        test $SLURM_RESTART_COUNT || {{ touch up; {HELD}; }}"""
    node = {"exclusive": True, "nodelist": "127.0.0.2"}
    (job,) = submit(shell, tmp_path / "log", extra=node)
    wait_for((tmp_path / "up").exists, lambda: printed(job))
    (other,) = submit("exit 0", tmp_path / "urgent", partition="urgent", extra=node)
    assert ended(job, other) == [JobState("complete", code=0)] * 2, printed(job)
    text = printed(job)
    assert text.count("saved") == 1, text
    assert "Requeued." not in text, "Slurm does"


def test_mistakes_reach_no_queue(cluster, tmp_path, capsys):
    given = arguments("vision/lenet_digits.py", tmp_path / "run", tmp_path)
    mistakes = {
        "optimizer.learning_rte": ([], [*given, "--config.optimizer.learning_rte=1"]),
        "runs in one process": (["--nodes=2"], given),
        "invalid partition specified: nope": (["--partition=nope"], given),
        "Invalid feature specification": (["--constraint=none"], given),
        "unrecognized option": (["--extra=no-such-option"], given),
    }
    for message, (options, flags) in mistakes.items():
        result = run_command(slurm.run, [*options, "--", *flags], capsys)
        assert result.code == 2, message
        assert message in result.stderr
        assert result.stderr.count("rror:") == 1, "one message"
    assert call("squeue", "--noheader", "--states=pending,running", "--name=run") == ""
    assert not (tmp_path / "run").exists(), "what was not submitted leaves nothing"


def test_job_is_told_to_stop_before_its_time_is_over_and_goes_on(cluster):
    assert ended(cluster) == [JobState("complete", code=0)], printed(cluster)
    assert printed(cluster).count("Requeued.") == 1, printed(cluster)
