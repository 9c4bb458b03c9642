import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from research.engine.lock import WorkdirLock
from research.errors import UserError

REPOSITORY = Path(__file__).parents[2]

HOLD_THE_LOCK = """
import os, sys, time
from pathlib import Path
from research.engine.lock import WorkdirLock

with WorkdirLock(Path(sys.argv[1])):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""


def test_the_lock_keeps_others_out_until_its_holder_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLD_THE_LOCK, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    worker = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError) as refused, WorkdirLock(tmp_path):
            pass
        for part in (str(tmp_path), f"process {holder.pid}", socket.gethostname(), "started 20"):
            assert part in str(refused.value)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(worker, 0)  # the forked worker is still there, and must not keep the lock
        with WorkdirLock(tmp_path):
            pass
    finally:
        holder.kill()
        os.kill(worker, signal.SIGKILL)
        holder.stdout.close()


def test_the_lock_is_free_again_after_use(tmp_path):
    for _ in range(2):
        with WorkdirLock(tmp_path / "new"), pytest.raises(UserError, match="is in use by process"):
            WorkdirLock(tmp_path / "new").__enter__()


def test_a_file_in_the_place_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="choose another folder"), WorkdirLock(tmp_path / "run"):
        pass
