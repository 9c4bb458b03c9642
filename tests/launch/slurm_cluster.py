"""A Slurm cluster of two nodes on this host: `python tests/launch/slurm_cluster.py` starts one and
says how to use it; Ctrl-C, or the end of what it reads, ends it with all that runs on it."""

import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

# Names that are addresses of this host: JAX's processes find each other, and no file is edited.
NODES = ("127.0.0.1", "127.0.0.2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
START_SECONDS = 30
PR_SET_PDEATHSIG = 1

# `urgent` takes its nodes from `main`. A requeued job waits `cred_expire` seconds.
CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
FirstJobId={first_job}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={nodes[0]} NodeAddr={nodes[0]} NodeHostname={host} Port={ports[1]} CPUs=8 State=UNKNOWN
NodeName={nodes[1]} NodeAddr={nodes[1]} NodeHostname={host} Port={ports[2]} CPUs=8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=patient Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


class CannotStartError(Exception):
    """Why there is no cluster on this host."""


@contextmanager
def cluster() -> Iterator[Mapping[str, str]]:
    """The environment variables that lead to a cluster, which ends with the context.

    Raises:
      CannotStartError: where Slurm is not installed or does not start.
    """
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        raise CannotStartError(f"{', '.join(missing)} not found: install slurm-wlm and munge")
    folder = Path(tempfile.mkdtemp(prefix="slurm_"))
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _write_files(folder)
        for name, *arguments in _daemons(folder):
            stack.callback(_end, _start(folder, name, *arguments))
        stack.callback(_end_jobs, environment)
        _wait_for_nodes(folder, environment)
        yield environment


def _program(name: str) -> str | None:
    return shutil.which(
        name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    )


def _write_files(folder: Path) -> None:
    (folder / "state").mkdir()
    config = CONFIG.format(
        folder=folder,
        host=socket.gethostname().partition(".")[0],
        user=getpass.getuser(),
        ports=_free_ports(3),
        nodes=NODES,
        # JAX derives a port from the job's number: two clusters must not count alike.
        first_job=1000 + secrets.randbelow(50_000),
    )
    (folder / "slurm.conf").write_text(config)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)


def _daemons(folder: Path) -> Iterator[tuple[str, ...]]:
    yield (
        "munged",
        "--foreground",
        "--force",
        "--num-threads=2",
        f"--key-file={folder}/munge.key",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log",
        f"--seed-file={folder}/munge.seed",
    )
    config = ("-f", f"{folder}/slurm.conf")
    yield "slurmctld", "-D", *config
    for node in NODES:
        yield "slurmd", "-D", "-N", node, *config


def _start(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    program = _program(name)
    assert program is not None
    with open(folder / f"{name}.log", "ab") as log:
        # A session of its own: Ctrl-C must not end the daemons before the jobs.
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    deadline = time.monotonic() + START_SECONDS
    while name == "munged" and not (folder / "munge.socket").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            _end(process)
            raise CannotStartError(f"munged: {_last_lines(folder / 'munged.log')}")
        time.sleep(0.02)
    return process


def _die_with_parent() -> None:
    """Has the kernel end this process when its parent is killed before it could."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_for_nodes(folder: Path, environment: Mapping[str, str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        if found.stdout.split() == ["idle"] * len(NODES):
            return
        if time.monotonic() > deadline:
            logs = [f"{path.name}: {_last_lines(path)}" for path in sorted(folder.glob("*.log"))]
            raise CannotStartError("; ".join([f"nodes are {found.stdout or found.stderr}", *logs]))
        time.sleep(0.05)


def _last_lines(path: Path, number: int = 3) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return " | ".join(lines[-number:])


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(number)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def _end_jobs(environment: Mapping[str, str]) -> None:
    """Kills every job, and waits until none of its processes is left."""
    environment = {**os.environ, **environment}
    deadline = time.monotonic() + 15
    with suppress(subprocess.SubprocessError, OSError):
        while time.monotonic() < deadline:
            listed = subprocess.run(
                ["squeue", "--noheader", "--format=%A"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=10,
            )
            jobs = sorted(set(listed.stdout.split()))
            if not jobs:
                return
            for command in (["scancel", "--full", "--signal=KILL", *jobs], ["scancel", *jobs]):
                subprocess.run(command, env=environment, capture_output=True, timeout=10)
            time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Starts a cluster and keeps it until the end of stdin, SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with suppress(KeyboardInterrupt), cluster() as environment:
            for name, value in environment.items():
                print(f"export {name}={value}", flush=True)
            print("# Run the above elsewhere, then sinfo. Ctrl-D ends the cluster.", flush=True)
            sys.stdin.read()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except CannotStartError as error:
        sys.exit(f"Cannot start Slurm: {error}")


if __name__ == "__main__":
    main()
