"""What the launcher says and refuses before Slurm is asked."""

import os
import subprocess
import sys

import pytest

from launch import slurm, slurm_jobs
from launch.slurm_jobs import Job, JobState
from research.errors import UserError
from tests.commands import run_command
from tests.shrink import arguments

LATER = "sleep 9 > /dev/null 2>&1 & wait"  # what waits for its output does not wait for it


@pytest.fixture
def given(tmp_path) -> list[str]:
    return arguments("vision/lenet_digits.py", tmp_path / "run", tmp_path)


def script(options: list[str], given: list[str], capsys) -> list[str]:
    result = run_command(slurm.run, ["--dry_run", *options, "--", *given], capsys)
    assert result.code == 0, result.stderr
    return result.stdout.splitlines()


def test_dry_run_prints_the_script_without_slurm(tmp_path, given, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    options = {
        "gpus_per_node": "a100:4",
        "cpus_per_task": "8",
        "mem": "32G",
        "partition": "gpu",
        "account": "lab",
        "qos": "high",
        "constraint": "nvlink",
        "name": "a name",
    }
    written = [f"--{name}={value}" for name, value in options.items()]
    extra = ["--extra=exclusive", "--extra=mail-type=END", "--extra=exclude=n[1-2]"]
    lines = script([*written, *extra, "--time=4h", "--signal_delay=200"], given, capsys)
    for expected in (
        "--gpus-per-node=a100:4",
        "--cpus-per-task=8",
        "--mem=32G",
        "--partition=gpu",
        "--account=lab",
        "--qos=high",
        "--constraint=nvlink",
        "--job-name='a name'",
        "--exclusive",
        "--mail-type=END",
        "--exclude='n[1-2]'",
        "--time=240",
        "--signal=USR2@200",
        "--nodes=1",
        "--requeue",
        f"--output={tmp_path}/run/slurm/%j_0_log.out",
    ):
        assert f"#SBATCH {expected}" in lines
    (srun,) = (line for line in lines if line.startswith("srun "))
    assert " --cpus-per-task=8 " in srun, "srun does not take it from sbatch"
    assert not (tmp_path / "run").exists()


def test_no_requeues(given, capsys):
    lines = script(["--max_requeues=0"], given, capsys)
    assert "#SBATCH --no-requeue" in lines
    assert "#SBATCH --requeue" not in lines


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        *(("90", 90), ("90m", 90), ("4h", 240), ("1.5h", 90), ("2d", 2880)),
        *(("4:00:00", 240), ("00:30:01", 31), ("2-12:00:00", 3600)),
    ],
)
def test_times(written, minutes, given, capsys):
    assert f"#SBATCH --time={minutes}" in script([f"--time={written}"], given, capsys)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--time=soon", "'soon' is not a time: write 90 (minutes), 90m, 4h, 2d"),
        ("--time=0", "a job needs some time"),
        ("--time=1", "--signal_delay=90: must be shorter than --time, which is 60 seconds"),
        ("--nodes=0", "0 is not positive"),
        ("--max_requeues=-1", "-1 is negative"),
        ("--gpus_per_node=all", "--gpus_per_node=all: write a number, or a type and a number"),
        ("--extra=mem=3G", "--extra=mem=3G: write --mem instead"),
        ("--extra=ntasks_per_node=3", "write --tasks_per_node instead"),
        ("--extra=array=0-3", "--extra=array=0-3: the launcher sets it"),
        ("--extra==3", "write KEY=VALUE, or KEY"),
        ("--gpu_per_node=1", "--gpu_per_node: no such option; did you mean '--gpus_per_node'?"),
        ("--nodes=3", "data.batch_size = 16: not divisible by 3 processes"),
    ],
)
def test_mistakes_in_options(option, message, given, capsys):
    flags = [*given, "--config.parallelism.mode=pmap"]
    result = run_command(slurm.run, ["--dry_run", option, "--", *flags], capsys)
    assert result.code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_without_slurm(tmp_path, given, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run_command(slurm.run, ["--", *given], capsys)
    assert result.code == 2
    assert "sbatch is not on PATH: run this on a host of a Slurm cluster" in result.stderr
    assert not (tmp_path / "run").exists()


def test_log_folder_that_cannot_be_written(tmp_path, given, monkeypatch, capsys):
    for program in ("sbatch", "srun"):
        (tmp_path / program).write_text("#!/bin/sh\nexit 1")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "file").touch()
    for folder, message in {
        tmp_path / "file" / "logs": f"cannot write {tmp_path}/file/logs: Not a directory",
        tmp_path / "%j": f"{tmp_path}/%j: Slurm reads % in a path as a pattern",
    }.items():
        result = run_command(slurm.run, [f"--log_dir={folder}", "--", *given], capsys)
        assert result.code == 2
        assert message in result.stderr


def test_slurm_that_does_not_answer(tmp_path, monkeypatch):
    for program in ("squeue", "scancel"):
        text = f"#!/bin/sh\necho '{program}: error: Unable to contact slurm controller' >&2; exit 1"
        (tmp_path / program).write_text(text)
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = Job("17", tmp_path)
    (tmp_path / "17_exit_code").write_text("0")
    (state,) = slurm_jobs.states([job])
    assert state == JobState("unknown", "squeue: Unable to contact slurm controller")
    assert not state.ended
    with pytest.raises(UserError, match=r"^scancel: Unable to contact slurm controller$"):
        slurm_jobs.cancel([job])
    slurm_jobs.cancel([])


def run_task(shell: str) -> subprocess.CompletedProcess[str]:
    """A task as Slurm starts it; the shell's $PPID is the task."""
    program = "import sys; from launch.slurm_task import run_task; run_task(sys.argv[1:])"
    command = [sys.executable, "-c", program, "sh", "-c", shell]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("exit 3", 3),
        ("kill -9 $$", 137),
        # SIGTERM and SIGUSR2 reach the command as SIGUSR2, as often as they come.
        (f'trap "exit 75" USR2; kill -TERM $PPID; kill -TERM $PPID; {LATER}', 75),
        (f'trap "exit 4" USR2; kill -USR2 $PPID; {LATER}', 4),
        (f"kill -TERM $PPID; {LATER}", 75),
    ],
)
def test_task_ends_as_its_command_does(shell, code):
    assert run_task(shell).returncode == code
