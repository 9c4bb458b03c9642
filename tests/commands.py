"""Runs the commands inside this process, as their tests do."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from research import command_line


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: Any
    stdout: str
    stderr: str


def run_command(
    command: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> Ended:
    """Runs a command through `command_line.main`, which exits."""
    before, sys.argv = sys.argv, ["command", *map(str, arguments)]
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as exit_info:
            command_line.main(command)
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return Ended(exit_info.value.code, captured.out, captured.err)
