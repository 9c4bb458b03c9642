"""The command, with runs in processes of their own."""

import argparse
import json
import math
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from launch import reproduce
from launch.reproduction.markdown import BEGIN, END
from research.command_line import DONE, MISTAKE, STOPPED
from research.engine.checkpoint_folder import list_steps
from tests.commands import run_command
from tests.shrink import EXPERIMENTS
from tests.tiny_configs import write_config


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A folder of configs in the current folder, from which processes find this code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(EXPERIMENTS.parent))
    return Path("experiments") / "tiny"


def interrupt_when_saved(checkpoints):
    """As a user or a cluster would do it."""
    while not list_steps(checkpoints):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


def test_stopped_finished_and_not_run_again(family, capfd):
    write_config(family, "a", duration="160 steps", checkpoints__every="5 steps")
    write_config(family, "b", "NEEDS_ACCELERATOR = True")
    Path("README.md").write_text(f"# Mine\n\n{BEGIN}\n{END}\n")
    run = Path("runs/reproduce/tiny/a/seed_0")
    given = ["--seeds=1", "--budget=1h"]

    assert reproduce.run([*given, "--dry_run"]) == DONE
    plan = capfd.readouterr().out.splitlines()
    command = f"python -m research.train --config {family}/a.py --workdir {run} --config.seed=0"
    assert plan[:3] == [
        "# tiny/a, seed 0: to run",
        command,
        "# tiny/b, seed 0: not run: needs a GPU or TPU",
    ]
    assert not Path("runs").exists() and not Path("results.json").exists()

    threading.Thread(target=interrupt_when_saved, args=(run / "checkpoints",)).start()
    assert reproduce.run(given) == STOPPED
    shown = capfd.readouterr().out
    assert "[1 of 1] tiny/a, seed 0: python -m research.train" in shown
    assert "of 1:00:00 h)" in shown, "how far the budget is"
    assert "not finished: interrupted; step " in Path("RESULTS.md").read_text()

    assert reproduce.run(given) == DONE
    assert "Going on from the checkpoint of step" in capfd.readouterr().out, "the run's own output"
    stored, before = json.loads(Path("results.json").read_text()), os.stat(run / "result.json")
    a, b = stored["results"]
    assert (a["name"], a["summary"]["verdict"]) == ("tiny/a", "reproduced")
    assert a["commands"] == [command]
    assert a["seeds"][0]["value"] == a["summary"]["mean"]
    assert b["summary"]["verdict"] == "not run: needs a GPU or TPU"
    table = Path("README.md").read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert (
        f"| {a['summary']['mean']:.4g} (1) |" in table and table in Path("RESULTS.md").read_text()
    )

    page = Path("RESULTS.md").read_bytes()
    assert reproduce.run([*given, f"{family}/a.py"]) == DONE
    assert os.stat(run / "result.json").st_mtime_ns == before.st_mtime_ns
    assert Path("RESULTS.md").read_bytes() == page, "what is not named keeps its place"

    Path("RESULTS.md").unlink()
    assert reproduce.run(["--readme"]) == DONE
    assert Path("RESULTS.md").read_bytes() == page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=0"], "--seeds=0: must be at least 1"),
        (["--budget=30"], "'30' is no time: write such as 90s, 30m, 2h or 1h30m, or none"),
        (["--vmap=sometimes"], "--vmap"),
        (["--bugdet=30m"], "--bugdet: no such option; did you mean '--budget'?"),
        (["experiments/tiny/aa.py"], "no such file; did you mean 'experiments/tiny/a.py'"),
        (["experiments/tiny/none.py"], "has no `reference`"),
        (["--readme"], "results.json does not exist: run configs first"),
        (["--output=file"], "cannot write file/.reproduce"),
    ],
)
def test_mistakes_are_told_before_anything_runs(family, arguments, message, capsys):
    write_config(family, "a")
    write_config(family, "none", reference=None)
    Path("file").touch()
    ended = run_command(reproduce.run, arguments, capsys)
    assert ended.code == MISTAKE
    assert message in ended.stderr
    assert not Path("runs").exists()


def test_readme_with_half_its_markers_is_refused_first(family, capsys):
    write_config(family, "a")
    Path("README.md").write_text(BEGIN)
    ended = run_command(reproduce.run, [], capsys)
    assert ended.code == MISTAKE and END in ended.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5d", 43200), ("0s", 0)],
)
def test_budget(text, seconds):
    assert reproduce.parse_budget(text) == seconds


def test_no_budget():
    assert reproduce.parse_budget("none") == math.inf
    for text in ("", "30", "m", "30 m", "-5m", "1e3s", "h1"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
            reproduce.parse_budget(text)
