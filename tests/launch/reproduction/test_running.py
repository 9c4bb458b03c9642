"""Real runs of tiny configs: what is made, in which order, and why not."""

import json
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from launch.reproduction.child import Commands, Ended
from launch.reproduction.collect import collect
from launch.reproduction.plan import plan
from launch.reproduction.results import verdict
from launch.reproduction.running import clock, make_runs, reason_for
from launch.reproduction.target import read_targets
from research.command_line import STOPPED
from tests.tiny_configs import MACHINE, start_here, write_config

pytestmark = pytest.mark.usefixtures("undrawn")
DATA = Path("data")


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A folder of configs in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path("experiments") / "tiny"


def make(*locations, seeds=1, start=start_here, over=lambda: "", vmap="never", said=None):
    """Makes the runs; returns the results, and the folders in the order they were run in."""
    targets, said = read_targets(locations), [] if said is None else said
    runs = plan(targets, seeds, Path("runs"), accelerator=False, vmap=vmap)
    order = []

    def noted(run):
        order.append(str(run.folder.relative_to("runs/tiny")))
        return start(run)

    made = make_runs(runs, MACHINE, noted, over, said.append, DATA)
    return collect(targets, made.runs, made.reasons, MACHINE, seeds), order


def test_finished_runs_are_not_run_again(family):
    write_config(family, "a")
    said = []
    (first,), order = make(seeds=2, said=said)
    assert order == ["a/seed_0", "a/seed_1"]
    assert said[0].startswith("[1 of 2] tiny/a, seed 0: python -m research.train --config")
    assert said[1] == "[1 of 2] tiny/a, seed 0: finished after 2 s"
    for seed in first.seeds:
        stored = json.loads(Path(f"runs/tiny/a/seed_{seed.seed}/result.json").read_text())
        assert seed.value == stored["metrics"]["test/accuracy"]
        assert (seed.seconds, seed.total_steps) == (1.5, 6)
    assert verdict(first) == "reproduced"
    assert (first.device, first.processor, first.cores) == ("cpu", "Abacus 3000", "2")
    assert first.versions.keys() >= {"python", "jax", "flax"} and first.revision
    (again,), order = make(seeds=2)
    assert (again, order) == (first, [])


def test_seeds_of_another_device_are_a_result_of_their_own(family):
    write_config(family, "a")
    make(seeds=2)
    for name, key, value in (
        ("seed_0/environment.json", "device_kind", "H100"),
        ("seed_1/result.json", "metrics", {"test/accuracy": "NaN"}),
    ):
        file = Path("runs/tiny/a") / name
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    (on_gpu, on_cpu), order = make(seeds=3, over=lambda: "budget")
    assert order == []
    assert (on_gpu.device, [seed.seed for seed in on_gpu.seeds]) == ("H100", [0])
    assert (on_cpu.device, [seed.seed for seed in on_cpu.seeds]) == ("cpu", [1, 2])
    assert verdict(on_gpu) == "reproduced"
    assert verdict(on_cpu) == "no number: test/accuracy is nan"


def test_the_code_before_a_run_was_resumed_is_named_too(family):
    write_config(family, "a")
    make()
    file = Path("runs/tiny/a/seed_0/environment.json")
    last = json.loads(file.read_text())
    first = {**last, "git": {"revision": "a" * 40, "dirty": False}}
    last["git"] = {"revision": "b" * 40, "dirty": True}
    file.write_text(json.dumps({**last, "earlier": [first]}))
    (result,), _ = make()
    assert result.revision == "aaaaaaaaaaaa and bbbbbbbbbbbb with changes"


def test_runs_without_their_data_are_said_so_once(family):
    source = {"name": "data.sources.Idx", "images": "mnist/none.gz", "labels": "mnist/none.gz"}
    write_config(family, "a", data__source=source)
    write_config(family, "b")
    (a, b), order = make(seeds=2, start=lambda run: start_here(run))
    assert order == ["a/seed_0", "b/seed_0", "b/seed_1"], "the second seed has no data, either"
    assert verdict(b) == "reproduced"
    assert verdict(a).startswith("not run: data not found: "), verdict(a)


def test_diverged_seeds_count(family):
    write_config(family, "a", optimizer__learning_rate=1e30)
    (result,), order = make(seeds=2, vmap="always")
    assert order == ["a/seeds_0_1", "a/seed_0", "a/seed_1"], "apart, to know which it was"
    assert verdict(result) == "diverged, 2 of 2 seeds"
    assert [seed.state for seed in result.seeds] == ["diverged", "diverged"]
    assert all(1 <= seed.step <= 6 for seed in result.seeds)
    assert make(seeds=2, vmap="always")[1] == [], "they would diverge again"


def test_trials_of_one_program_are_seeds(family):
    write_config(family, "a")
    (result,), order = make(seeds=2, vmap="always")
    assert order == ["a/seeds_0_1"]
    stored = json.loads(Path("runs/tiny/a/seeds_0_1/result.json").read_text())
    assert result.values == stored["metrics"]["test/accuracy"]
    assert result.seconds == 0.75, "a seed's share"


def test_what_builds_on_another_run_waits_for_it(family):
    write_config(family, "z")
    probe = {"name": "generative.ClassifierProbe", "workdir": "runs/by/hand"}
    requires = "REQUIRES = {'probes.classifier.probe.workdir': 'experiments/tiny/z.py'}"
    a = write_config(family, "a", requires, probes={"classifier": {"probe": probe}})

    def broken(run):
        return Ended(1, "Traceback\n  File\nValueError: so it is\n", 2.0)

    (result,), order = make(a, start=broken)
    assert order == ["z/seed_0"]
    assert verdict(result) == (
        "not run: needs tiny/z, seed 0: failed with exit code 1: ValueError: so it is"
    )


def test_what_is_left_at_the_end_of_the_budget_is_said_so(family):
    write_config(family, "a")
    write_config(family, "b")
    started = []

    def start(run):
        started.append(run)
        return start_here(run)

    (a, b), order = make(seeds=2, start=start, over=lambda: "budget" if started else "")
    assert order == ["a/seed_0"]
    assert verdict(a) == "reproduced; 1 of 2 seeds, 1 not run"
    assert verdict(b) == "not run: budget"


WAITS = """
import signal, sys, time
from pathlib import Path
def stop(number, frame):
    print(f"told by {number}", file=sys.stderr, flush=True)
    if sys.argv[1] == "saves":
        sys.exit(75)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
Path("ready").touch()
time.sleep(60)
time.sleep(60)
"""


def test_commands_pass_ctrl_c_on(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def interrupt():
        while not Path("ready").exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    with Commands() as commands:
        threading.Thread(target=interrupt).start()
        ended = commands.run(
            [sys.executable, "-c", WAITS, "saves"],
            tmp_path / "log",
            lambda: "interrupted" if commands.interrupted else "",
        )
    assert (ended.code, ended.stopped) == (STOPPED, "interrupted")
    assert ended.output == f"told by {int(signal.SIGTERM)}\n", "once: the second would end it"
    assert "told by" in capfd.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_commands_that_do_not_stop_are_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Commands(grace=0.1) as commands:
        ended = commands.run(
            [sys.executable, "-c", WAITS, "stays"],
            tmp_path / "log",
            lambda: "budget" if Path("ready").exists() else "",
        )
    assert (ended.code, ended.stopped) == (-signal.SIGKILL, "budget")
    assert ended.seconds < 30


@pytest.mark.parametrize(
    ("code", "errors", "reason"),
    [
        (1, "Traceback\nValueError: so it is\n", "failed with exit code 1: ValueError: so it is"),
        (1, "", "failed with exit code 1: nothing was said"),
        (2, "Error: data/x.gz is truncated\nmore", "$RESEARCH_DATA_DIR/x.gz is truncated"),
        (75, "", "stopped by somebody else"),
        (-9, "", "killed by signal 9 (memory?)"),
        (-11, "", "killed by signal 11"),
    ],
)
def test_reasons_are_told_in_a_line(code, errors, reason):
    assert reason_for(Ended(code, errors, 1.0), DATA) == reason


def test_missing_data_is_told_by_its_place(tmp_path):
    from research.data.files import find
    from research.errors import UserError

    with pytest.raises(UserError) as error:
        find(tmp_path, "mnist/images.gz")
    ended = Ended(2, f"Error: {error.value}\n", 1.0)
    assert reason_for(ended, tmp_path) == "data not found: mnist/images.gz"


def test_clock():
    assert [clock(x) for x in (7.6, 125, 3725)] == ["8 s", "2:05 min", "1:02:05 h"]
