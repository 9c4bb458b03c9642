"""What the commands share: options, overrides, exit codes."""

import argparse
import importlib
import os
import subprocess
import sys

import jax
import pytest

from research import command_line, evaluate, generate, preview, train
from research.command_line import make_parser, split_overrides
from research.errors import NonFiniteError, UserError
from tests.commands import run_command

COMMANDS = {"train": train, "preview": preview, "evaluate": evaluate, "generate": generate}


@pytest.mark.parametrize(
    ("arguments", "rest", "overrides"),
    [
        ([], [], []),
        (["--config=a.py", "--workdir", "w"], ["--config=a.py", "--workdir", "w"], []),
        (["--config.seed=3"], [], [("seed", "3")]),
        (["--config.seed", "3"], [], [("seed", "3")]),
        (["--config.a.b=x=y"], [], [("a.b", "x=y")]),
        (["--config.a="], [], [("a", "")]),
        (["--config.a=--b"], [], [("a", "--b")]),
        (["--config.a", "-1"], [], [("a", "-1")]),
        (["--config.a", "two words"], [], [("a", "two words")]),
        (
            ["--config", "c.py", "--config.a=1", "--x", "--config.b", "2"],
            ["--config", "c.py", "--x"],
            [("a", "1"), ("b", "2")],
        ),
    ],
)
def test_split_overrides(arguments, rest, overrides):
    assert split_overrides(arguments) == (rest, overrides)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.seed"], "--config.seed: give it a value, --config.seed=VALUE"),
        (["--config.seed", "--workdir"], "--config.seed: give it a value"),
        (["--config.=3"], "--config.=3: write the path of a setting"),
    ],
)
def test_overrides_that_say_nothing(arguments, message):
    with pytest.raises(UserError, match=message):
        split_overrides(arguments)


def parser(*options):
    made = make_parser("research.train", "Trains.")
    for option in options:
        made.add_argument(option)
    return made


def test_options_are_parsed():
    assert parser("--workdir", "--steps").parse_args(["--workdir=w", "--steps", "3"]) == (
        argparse.Namespace(workdir="w", steps="3")
    )


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (["--workdir"], ["--wrkdir=w"], "--wrkdir: no such option; did you mean '--workdir'?"),
        (["--workdir"], ["--work=w"], "--work: no such option; did you mean '--workdir'?"),
        (["--a"], ["--zzzzzz"], "--zzzzzz: no such option; known are --a, --help, -h"),
        (["--config"], ["--seed=3"], "a setting of the experiment is written --config.seed=VALUE"),
        (["--a"], ["--a"], "argument --a: expected one argument"),
        (["--a"], ["b"], "unrecognized arguments: b"),
    ],
)
def test_wrong_options_are_one_message(options, arguments, message):
    with pytest.raises(UserError) as raised:
        parser(*options).parse_args(arguments)
    assert message in str(raised.value)
    assert "`python -m research.train --help`" in str(raised.value)


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (0, 0, ""),
        (75, 75, ""),
        (UserError("x.y: wrong"), 2, "Error: x.y: wrong\n"),
        (NonFiniteError(7, {"loss": "nan"}), 3, "Stopped: not finite at step 7: loss = nan\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_exit_codes(outcome, code, message, capsys, monkeypatch):
    # A broken pipe puts another file in the place of the standard output.
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)

    def command(_):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    ended = run_command(command, [], capsys)
    assert (ended.code, ended.stderr) == (code, message)


def test_other_errors_keep_their_traceback():
    def command(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command_line.main(command)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name, capsys):
    ended = run_command(COMMANDS[name].run, ["--help"], capsys)
    assert ended.code == 0
    for words in ("examples:", f"python -m research.{name} ", "exit codes:", "75  stopped"):
        assert words in ended.stdout
    assert "[-h]" in ended.stdout


def test_the_help_of_training_says_how_to_set_a_setting(capsys):
    ended = run_command(train.run, ["--help"], capsys)
    for words in ("--config.optimizer.learning_rate=3e-4", "--settings", "goes on from its newest"):
        assert words in " ".join(ended.stdout.split())


def test_settings_are_listed_without_a_config(capsys):
    ended = run_command(train.run, ["--settings"], capsys)
    assert ended.code == 0
    for line in (
        "data.batch_size = (required)",
        "optimizer.learning_rate = (required)",
        "optimizer.schedule.warmup = '0 steps'",
        "evaluations.NAME.every = '1 epochs'",
        "early_stopping.patience = 5",
        "parallelism.mode = 'jit'",
    ):
        assert line in ended.stdout.splitlines()
    assert "(one of 'sgd', 'momentum'" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_processes=2"], "--coordinator, --num_processes and --process_id go together"),
        (["--process_id=0"], "--coordinator, --num_processes and --process_id go together"),
        (
            ["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2: must be at least 0 and below --num_processes=2",
        ),
        (
            ["--coordinator=localhost", "--num_processes=2", "--process_id=0"],
            "--coordinator=localhost: write HOST:PORT",
        ),
        (["--distributed"], "--distributed: the environment does not name the other processes"),
    ],
)
def test_processes_that_cannot_find_each_other(arguments, message, monkeypatch):
    def initialize(*_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    made = make_parser("research.train", "Trains.")
    command_line.add_distributed(made)
    with pytest.raises(UserError, match=message):
        command_line.start_jax(made.parse_args(arguments))


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("bad"), 2), (NonFiniteError(3, {"loss": "nan"}), 3), (RuntimeError("broken"), 1)],
)
def test_one_of_several_processes_that_fails_ends_at_once(error, code, monkeypatch, capsys):
    """JAX's own end would wait for the others, which do not know yet."""

    def fail(_):
        raise error

    def leave(number):
        raise SystemExit(f"left with {number}")

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(SystemExit, match=f"left with {code}"):
        command_line.main(fail)
    assert str(error) in capsys.readouterr().err


def test_help_and_usage_need_no_jax():
    """What a mistyped option costs is the start of Python."""
    names = ("jax", "flax", "numpy")
    script = f"import sys, research.train; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    assert importlib.util.find_spec("jax") is not None
