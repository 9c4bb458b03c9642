"""The flags of `research.train` as the launchers take them: behind `--`, checked before anything is
submitted."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research import train
from research.command_line import Parser
from research.errors import UserError

_JOINING = ("--distributed", "--coordinator", "--num_processes", "--process_id")


@dataclass(frozen=True)
class TrainFlags:
    """Checked flags of one run: those that `python -m research.train` gets, the experiment they
    mean and the run's folder."""

    flags: tuple[str, ...]
    experiment: Any
    workdir: Path


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A launcher's own arguments, and what stands behind `--`.

    Raises UserError for flags of `research.train` without it.
    """
    arguments = list(arguments)
    if "--" not in arguments:
        for argument in arguments:
            option = argument.partition("=")[0]
            if option in ("--config", "--workdir") or option.startswith("--config."):
                raise UserError(f"{option}: flags of research.train stand behind --, -- {option} …")
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def read_train_flags(parser: Parser, flags: Sequence[str], num_processes: int = 1) -> TrainFlags:
    """Checks what stood behind `--` as strictly as `research.train` does.

    Raises:
      UserError: for what `research.train` would refuse, for flags that join processes (the
        launcher adds them), and for an experiment that can't run in `num_processes`.
    """
    if "--help" in flags or "-h" in flags:
        raise UserError("the flags of the run: `python -m research.train --help` shows them all")
    if not flags:
        parser.error("write the flags of research.train behind --, -- --config … --workdir …")
    for flag in flags:
        if flag.partition("=")[0] in _JOINING:
            raise UserError(f"{flag}: leave it out; the launcher tells the processes of each other")
    options: argparse.Namespace
    options, experiment = train.read_flags(flags)
    mode = experiment.parallelism.mode
    if num_processes > 1 and mode in ("jit", "vmap"):
        raise UserError(
            f"parallelism.mode = {mode!r}: runs in one process; for {num_processes} processes "
            "write --config.parallelism.mode=mesh or pmap"
        )
    if experiment.data.batch_size % num_processes:
        raise UserError(
            f"data.batch_size = {experiment.data.batch_size}: not divisible by "
            f"{num_processes} processes"
        )
    return TrainFlags(tuple(flags), experiment, options.workdir)
