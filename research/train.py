"""Trains an experiment: `python -m research.train --config FILE.py --workdir DIR`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research import command_line
from research.command_line import DONE, STOPPED
from research.errors import UserError

_EXAMPLES = """examples:
  python -m research.train --config experiments/vision/lenet_digits.py --workdir runs/digits
  python -m research.train --config experiments/sequence/gpt_shakespeare.py:gpu --workdir runs/gpt
  python -m research.train --config experiments/vision/lenet_mnist.py --workdir runs/lenet \\
      --config.optimizer.learning_rate=3e-4 --config.seed=1

The same command on an existing workdir goes on from its newest good checkpoint.
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, experiment = read_flags(arguments)
    workdir = options.workdir
    command_line.start_jax(options)

    import jax

    from research.data.files import default_data_dir
    from research.engine.lock import WorkdirLock
    from research.engine.loop import train
    from research.engine.progress import Progress
    from research.engine.record import Record

    main_process = jax.process_index() == 0
    data_dir = default_data_dir()
    lock = WorkdirLock(workdir) if main_process else contextlib.nullcontext()
    with lock, Record(workdir, enabled=main_process) as record:
        _refuse_change(options, experiment)
        outcome = train(
            experiment,
            workdir,
            data_dir,
            record,
            lambda start, total: Progress(total, start, enabled=main_process),
        )
        if outcome.stopped:
            if main_process:
                print(
                    f"Stopped at step {outcome.step} of {outcome.total_steps}, saved in {workdir}; "
                    "the same command goes on."
                )
            return STOPPED
        if main_process:
            _finish(experiment, workdir, record, outcome)
    return DONE


def read_flags(arguments: Sequence[str]) -> tuple[argparse.Namespace, Any]:
    """The command's options and its checked experiment.

    Raises:
      UserError: for all that the command refuses before it looks at data and devices.
    """
    arguments, overrides = command_line.split_overrides(arguments)
    parser = command_line.make_parser(
        "research.train", "Train an experiment, or go on with one.", _EXAMPLES
    )
    command_line.add_config(parser)
    parser.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    command_line.add_data_dir(parser)
    parser.add_argument(
        "--allow_config_change",
        action="store_true",
        help="go on with a run although its config has changed; measure a finished one again",
    )
    parser.add_argument("--settings", action=_ListSettings, help="list every setting and exit")
    command_line.add_distributed(parser)
    options = parser.parse_args(arguments)

    from research.engine import config

    experiment = config.load(options.config, overrides)
    _refuse_change(options, experiment)
    return options, experiment


def _refuse_change(options: argparse.Namespace, experiment: Any) -> None:
    """Raises UserError where the run in the folder was made with other settings."""
    from research.engine import config

    if options.allow_config_change:
        return
    changes = config.changes_since(options.workdir, experiment)
    if changes:
        listed = "\n  ".join(changes)
        raise UserError(
            f"{options.workdir} holds a run with another config:\n  {listed}\n"
            "Take another --workdir, or --allow_config_change to go on with the new one."
        )


def _finish(experiment: Any, workdir: Path, record: Any, outcome: Any) -> None:
    """The result, the learning curves, and where everything lies."""
    from research.engine import figures
    from research.engine.record import METRICS, read_metrics
    from research.engine.result import result_of

    result = result_of(outcome.step, outcome.total_steps, outcome.metrics, experiment.reference)
    record.result(result)
    # A training of no steps, without evaluations, has none.
    if (workdir / METRICS).exists():
        figures.learning_curves(read_metrics(workdir), workdir / "images" / "learning_curves.png")
    for name, value in sorted(outcome.metrics.items()):
        print(f"{name} = {_shown(value)}")
    if "reference" in result:
        entry = result["reference"]
        verdict = "reached" if entry["reached"] else "missed"
        print(f"{entry['paper']}: {entry['metric']} {entry['value']:g}, {verdict}")
    print(
        f"Done: {outcome.step} steps. Everything is in {workdir}: result.json, metrics.jsonl, "
        "images/learning_curves.png, checkpoints/, tensorboard/."
    )


def _shown(value: Any) -> str:
    import numpy as np

    return " ".join(f"{number:.5g}" for number in np.ravel(value))


class _ListSettings(argparse.Action):
    """Prints every setting with its default and meaning."""

    def __init__(self, **options: Any):
        super().__init__(nargs=0, **options)

    def __call__(self, *_: Any) -> None:
        from research.engine.config import document

        for path, default, doc in document():
            print(f"{path} = {default}\n    {doc}")
        sys.exit(DONE)


if __name__ == "__main__":
    command_line.main(run)
