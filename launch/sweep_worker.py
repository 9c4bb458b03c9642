"""Runs trials of a sweep until none is left: `python -m launch.sweep_worker --sweepdir DIR`."""

import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from launch.option_values import positive
from research import command_line
from research.command_line import DONE, STOPPED

_EXAMPLES = """examples:
  python -m launch.sweep_worker --sweepdir sweeps/digits

`python -m launch.sweep` starts workers by itself. Any number of them may work in one folder, also
on several machines that share it; each takes the next trial, and those that a killed worker left.
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = command_line.make_parser(
        "launch.sweep_worker", "Run trials of a sweep until none is left.", _EXAMPLES
    )
    parser.add_argument("--sweepdir", type=Path, required=True, help="the sweep's folder")
    parser.add_argument(
        "--trials_per_program",
        type=positive,
        default=1,
        help="up to so many trials of one structure share a program (vmap); default 1: each trial "
        "is a run of its own",
    )
    command_line.add_data_dir(parser)
    options = parser.parse_args(arguments)

    from launch.sweeps.specification import read_specification
    from launch.sweeps.study import Study
    from research.engine.stopping import STOPPING

    specification = read_specification(options.sweepdir)
    command_line.start_jax()
    # Training notices these by itself; between trials they end the worker here.
    for number in STOPPING:
        signal.signal(number, _interrupt)
    return work(Study(options.sweepdir, specification), options.trials_per_program)


def work(study: Any, trials_per_program: int = 1) -> int:
    """Runs trials until none is left to claim, or until it is told to stop; an exit code."""
    import gc

    import jax

    from launch.sweeps.alone import run_alone
    from launch.sweeps.grouping import kind_by_structure, traced_paths
    from launch.sweeps.together import run_together
    from research.data.files import default_data_dir

    data_dir, specification = default_data_dir(), study.specification
    if trials_per_program > 1:
        space = specification.sweep.space
        traced = traced_paths(specification.experiment, space, data_dir)
        kind_of = kind_by_structure(study.settings, traced)
    claims = []
    try:
        while claims := (
            study.claim() if trials_per_program == 1 else study.claim(trials_per_program, kind_of)
        ):
            if trials_per_program == 1:
                ended = run_alone(study, claims[0], data_dir)
            else:
                ended = run_together(study, claims, traced, data_dir)
            if not ended:
                return STOPPED
            # The next trial's programs are others.
            jax.clear_caches()
            gc.collect()
        return DONE
    except KeyboardInterrupt:
        for claim in claims:
            study.leave(claim)
        return STOPPED


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    command_line.main(run)
