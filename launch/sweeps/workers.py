"""Worker processes on this machine, kept at work until no trial is left."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launch.child_processes import Child, start
from launch.stop_requests import StopRequests
from launch.sweeps.study import Study
from research.command_line import DONE, MISTAKE
from research.errors import UserError

MAX_DEATHS = 4
"""So often a worker may end, for each of them, without any trial having got on meanwhile."""

_TICK_SECONDS = 0.5


def worker_command(folder: Path, trials_per_program: int) -> tuple[str, ...]:
    """What every worker runs."""
    together = () if trials_per_program == 1 else (f"--trials_per_program={trials_per_program}",)
    return (sys.executable, "-m", "launch.sweep_worker", f"--sweepdir={folder}", *together)


def worker_environments(num_workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """What is added to each worker's environment: GPUs are shared out, and their memory where
    there are fewer of them than workers."""
    added = [{"PYTHONUNBUFFERED": "1"} for _ in range(num_workers)]
    if not gpus:
        return added
    sharing = -(-num_workers // len(gpus))
    for index, environment in enumerate(added):
        if sharing > 1:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / sharing:.3f}"
        else:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[index::num_workers])
    return added


def run_workers(
    study: Study,
    command: Sequence[str],
    environments: Sequence[Mapping[str, str]],
    show: Callable[[], None],
) -> bool:
    """Keeps a worker for each environment until all trials have ended; False where SIGTERM or
    Ctrl-C stopped them first, after saving.

    A worker that was killed is started anew, and goes on with the trial that it left.

    Raises:
      UserError: a worker met a mistake that another would meet as well, or they keep dying.
    """
    logs = [study.folder / "workers" / f"worker_{i}.log" for i in range(len(environments))]

    def begin(index: int) -> Child:
        return start(command, environments[index], logs[index])

    left, deaths = study.unfinished(), 0
    children: dict[int, Child] = {}
    with StopRequests() as stop:
        try:
            # More workers than trials would find nothing to do.
            children = {index: begin(index) for index in range(min(left, len(logs)))}
            while left:
                stop.sleep(_TICK_SECONDS)
                show()
                if stop.count:
                    _stop(children, stop)
                    return False
                before, left = left, study.unfinished()
                deaths = deaths if left == before else 0
                for index, child in list(children.items()):
                    code = child.poll()
                    if code is None:
                        continue
                    del children[index]
                    if code == MISTAKE:
                        raise UserError(_last_words(logs[index]))
                    if code != DONE and left:
                        deaths += 1
                        children[index] = begin(index)
                if left and not children:
                    # All found nothing to claim, before another one was killed.
                    deaths += 1
                    children[0] = begin(0)
                if deaths > MAX_DEATHS * len(logs):
                    raise UserError(
                        f"workers keep ending and no trial gets on; the end of {logs[0]}:\n"
                        f"{_last_words(logs[0])}"
                    )
            show()
            return True
        finally:
            for child in children.values():
                child.kill()


def _stop(children: Mapping[int, Child], stop: StopRequests) -> None:
    """Has all save and stop; a second request kills them."""
    print("\nStopping: the trials save first; once more to kill them.", file=sys.stderr, flush=True)
    for child in children.values():
        child.terminate()
    while stop.count < 2 and any(child.poll() is None for child in children.values()):
        time.sleep(_TICK_SECONDS / 10)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-15:])
