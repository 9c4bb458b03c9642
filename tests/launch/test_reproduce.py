"""The command, with runs in processes of their own."""

import argparse
import json
import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from launch import reproduce
from launch.reproduction.child import Ended
from launch.reproduction.markdown import BEGIN, END
from launch.reproduction.running import make_runs
from research.command_line import DONE, MISTAKE, STOPPED, UNEXPECTED
from research.engine.checkpoint_folder import list_steps
from tests.commands import run_command
from tests.shrink import EXPERIMENTS
from tests.tiny_configs import MACHINE, write_config


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A folder of configs in the current folder, from which processes find this code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(EXPERIMENTS.parent))
    # It takes a process; tests/launch/reproduction/test_machine.py asks the real one.
    monkeypatch.setattr("launch.reproduction.machine.this_machine", lambda: MACHINE)
    return Path("experiments") / "tiny"


def test_stopped_finished_and_not_run_again(family, capfd, monkeypatch):
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

    # The hour is over when the run has saved something.
    with monkeypatch.context() as patch:
        late = lambda: 3600.0 * bool(list_steps(run / "checkpoints"))  # noqa: E731
        patch.setattr(reproduce, "time", SimpleNamespace(monotonic=late))
        assert reproduce.run(given) == DONE
    shown = capfd.readouterr().out
    assert "[1 of 1] tiny/a, seed 0: python -m research.train" in shown
    assert "(0 s of 1:00:00 h)" in shown, "how far the budget is"
    saved = list_steps(run / "checkpoints")[0]
    assert 5 <= saved < 160
    told = f"not finished: budget; step {saved} of 160; the same command goes on"
    assert told in Path("RESULTS.md").read_text()

    assert reproduce.run(given) == DONE
    assert f"Going on from the checkpoint of step {saved}." in capfd.readouterr().out
    stored, before = json.loads(Path("results.json").read_text()), os.stat(run / "result.json")
    a, b = stored["results"]
    assert (a["name"], a["summary"]["verdict"]) == ("tiny/a", "reproduced")
    assert a["commands"] == [command]
    assert a["seeds"][0]["value"] == a["summary"]["mean"]
    assert b["summary"]["verdict"] == "not run: needs a GPU or TPU"
    shown = Path("README.md").read_text().partition(BEGIN)[2].partition(END)[0].strip()
    table, _, others = shown.partition("\n\n")
    assert (
        f"| {a['summary']['mean']:.4g} (1) |" in table and table in Path("RESULTS.md").read_text()
    )
    assert others == "Not measured yet: 1 more, in RESULTS.md."

    page = Path("RESULTS.md").read_bytes()
    assert reproduce.run([*given, f"{family}/a.py"]) == DONE
    assert os.stat(run / "result.json").st_mtime_ns == before.st_mtime_ns
    assert Path("RESULTS.md").read_bytes() == page, "what is not named keeps its place"

    Path("RESULTS.md").unlink()
    assert reproduce.run(["--readme"]) == DONE
    assert Path("RESULTS.md").read_bytes() == page


def test_told_to_stop_it_writes_what_there_is(family, monkeypatch):
    write_config(family, "a")

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return make_runs(*arguments)

    monkeypatch.setattr("launch.reproduction.running.make_runs", interrupted)
    assert reproduce.run([]) == STOPPED
    assert "| not run: interrupted |" in Path("RESULTS.md").read_text()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_runs_that_fail_are_named_and_tell_by_the_code(family, monkeypatch, capsys):
    write_config(family, "a")

    def failing(commands, command, log, over):
        return Ended(1, "ValueError: so it is\n", 1.0)

    monkeypatch.setattr("launch.reproduction.child.Commands.run", failing)
    ended = run_command(reproduce.run, ["--seeds=2"], capsys)
    assert ended.code == UNEXPECTED
    assert "Error: tiny/a, seed 1: failed with exit code 1: ValueError: so it is" in ended.stderr


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
