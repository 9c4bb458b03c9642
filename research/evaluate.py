"""Evaluates a run: `python -m research.evaluate --workdir DIR` prints its metrics as JSON."""

from collections.abc import Sequence
from pathlib import Path

from research import command_line
from research.command_line import DONE
from research.errors import UserError

_EXAMPLES = """examples:
  python -m research.evaluate --workdir runs/lenet
  python -m research.evaluate --workdir runs/gpt --step best
  python -m research.evaluate --workdir runs/lenet --step 4690 --only test
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = command_line.make_parser(
        "research.evaluate", "Evaluate a run on all data sets and probes of its config.", _EXAMPLES
    )
    parser.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    add_step(parser)
    parser.add_argument("--only", help="the one evaluation or probe to run")
    command_line.add_data_dir(parser)
    options = parser.parse_args(arguments)

    from research.engine.restore import read_experiment

    experiment = read_experiment(options.workdir)
    names = [*experiment.evaluations, *experiment.probes]
    if options.only is not None and options.only not in names:
        raise UserError(f"--only={options.only}: the config has {', '.join(names) or 'none'}")
    command_line.start_jax()

    from research.data.files import default_data_dir
    from research.engine.files import encode_json
    from research.engine.restore import evaluate_run

    data_dir = default_data_dir()
    wanted = names if options.only is None else [options.only]
    step, measured = evaluate_run(options.workdir, options.step, data_dir, wanted)
    print(encode_json({"step": step, **measured}, indent=2))
    return DONE


def add_step(parser: command_line.Parser) -> None:
    """Adds --step: latest, best or a number."""

    def which(text: str) -> int | str:
        if text in ("latest", "best"):
            return text
        if text.isdigit():
            return int(text)
        raise ValueError(text)

    which.__name__ = "step: a number, latest or best"
    parser.add_argument(
        "--step",
        type=which,
        default="latest",
        metavar="N|best|latest",
        help="which checkpoint; default: latest",
    )


if __name__ == "__main__":
    command_line.main(run)
