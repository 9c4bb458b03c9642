"""Reproduces the numbers that configs refer to: `python -m launch.reproduce`."""

import argparse
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research import command_line
from research.command_line import DONE, STOPPED, UNEXPECTED
from research.errors import UserError

_EXAMPLES = """examples:
  python -m launch.reproduce --budget=30m
  python -m launch.reproduce experiments/vision/lenet_mnist.py --seeds=5
  python -m launch.reproduce --dry_run
  python -m launch.reproduce --readme

Runs every config of experiments/ that has a `reference`, or those named, once a seed: 0, 1, 2. Each
run is the command that --dry_run prints, in a folder of its own below --workdir. Runs that are at
their end are not run again, and those that were stopped go on: call the same command until all is
done. Configs whose settings have changed since are refused, with the differences.

Ours is the mean over the finished seeds, and its 95 % interval by Student's t. The verdict:
  reproduced        the mean is at least as good as the reference's value
  within tolerance  it is worse, by no more than the reference's tolerance
  short by X        it is worse by X
  diverged          every seed that ended has: its loss became NaN or infinite
  not finished, not run   and why
Seeds that are missing in the mean are counted behind it.

Written are results.json, RESULTS.md made of it, and the table of what is measured in README.md,
where that has <!-- results --> and <!-- /results -->, all in --output. What was measured earlier,
or on another kind of device, is kept in results.json.

A config file says by NEEDS_ACCELERATOR = True, or by the names of variants, that it is too long for
a CPU, by REQUIRES = {SETTING: FILE.py} that a setting is the folder of another config's run of
seed 0, which is made first, and by SEEDS = (SETTING,) that a setting is the seed, too. The last two
may be mappings from variants.

The budget's end is no failure: 0. 1 is for runs that failed for no reason you could mend.
"""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    started = time.monotonic()
    options = _read_options(arguments)
    results_file = options.output / "results.json"

    from launch.reproduction.results import read_results

    earlier = read_results(results_file)
    _check_readme(options.output)
    if options.readme:
        if not earlier:
            raise UserError(f"{results_file} does not exist: run configs first, without --readme")
        _write(options.output, earlier)
        return DONE

    from launch.reproduction.machine import this_machine
    from launch.reproduction.plan import plan
    from launch.reproduction.target import read_targets

    targets = read_targets(options.configs)
    machine = this_machine()
    accelerator = machine.platform != "cpu"
    planned = plan(
        targets, options.seeds, options.workdir, accelerator=accelerator, vmap=options.vmap
    )
    if options.dry_run:
        _print_plan(planned)
        return DONE
    _check_writable(options.output)
    made, interrupted = _make(planned, options, machine, started)

    from launch.reproduction.collect import collect
    from launch.reproduction.results import merge

    new = collect(targets, made.runs, made.reasons, machine, options.seeds)
    results = merge(read_results(results_file), new)
    _write(options.output, results)
    _show(results)
    for failure in made.failed:
        print(f"Error: {failure}", file=sys.stderr)
    if interrupted:
        print("Interrupted; the same command goes on.")
        return STOPPED
    return UNEXPECTED if made.failed else DONE


def parse_budget(text: str) -> float:
    """Seconds of "90s", "30m", "1.5h" or "1h30m"; infinity of "none".

    Raises argparse.ArgumentTypeError for anything else.
    """
    if text == "none":
        return math.inf
    number = r"\d+(?:\.\d+)?"
    if not re.fullmatch(rf"({number}[smhd])+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write such as 90s, 30m, 2h or 1h30m, or none"
        )
    return sum(float(n) * _UNITS[unit] for n, unit in re.findall(rf"({number})([smhd])", text))


def _read_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.make_parser(
        "launch.reproduce", "Reproduce the numbers that configs refer to.", _EXAMPLES
    )
    parser.add_argument(
        "configs",
        nargs="*",
        metavar="FILE.py[:VARIANT]",
        help="default: all of experiments/ that have a reference",
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many; default 3: 0, 1, 2")
    parser.add_argument(
        "--budget",
        type=parse_budget,
        default=math.inf,
        metavar="TIME",
        help="of all runs together, such as 90s, 30m, 1h30m: the run at its end saves and goes on "
        "next time; 0s only collects what there is; default none",
    )
    parser.add_argument(
        "--vmap",
        choices=("auto", "always", "never"),
        default="auto",
        help="seeds as trials of one program, where that fits (parallelism.mode = jit, no "
        "early_stopping, no checkpoints.best_metric); auto: on a GPU or TPU, where it is faster",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path("runs/reproduce"),
        help="the folder of all runs; default runs/reproduce",
    )
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="for RESULTS.md; default ."
    )
    command_line.add_data_dir(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="print the commands, and what is finished, and exit"
    )
    parser.add_argument(
        "--readme",
        action="store_true",
        help="run nothing: write RESULTS.md and README.md's table from results.json as it is",
    )
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise UserError(f"--seeds={options.seeds}: must be at least 1")
    return options


def _make(
    planned: Sequence[Any], options: argparse.Namespace, machine: Any, started: float
) -> tuple[Any, bool]:
    """What came of the runs, and whether Ctrl-C or SIGTERM ended it."""
    from launch.reproduction.child import Commands
    from launch.reproduction.running import clock, make_runs
    from research.data.files import default_data_dir
    from research.engine.lock import WorkdirLock

    of_budget = "" if options.budget == math.inf else f" of {clock(options.budget)}"

    def elapsed() -> float:
        return time.monotonic() - started

    with WorkdirLock(options.workdir), Commands() as commands:

        def over() -> str:
            if commands.interrupted:
                return "interrupted"
            return "budget" if elapsed() >= options.budget else ""

        made = make_runs(
            planned,
            machine,
            lambda each: commands.run(
                [sys.executable, "-m", "research.train", *each.arguments],
                each.folder / "output.log",
                over,
            ),
            over,
            lambda text: print(f"{text} ({clock(elapsed())}{of_budget})", flush=True),
            default_data_dir(),
        )
        return made, commands.interrupted


def _print_plan(planned: Sequence[Any]) -> None:
    """The plan as a shell script."""
    from launch.reproduction.plan import state_of

    words = {"waiting": "to run", "begun": "goes on"}
    for each in planned:
        state = state_of(each.folder)
        told = f"not run: {each.blocked}" if each.blocked else words.get(state, state)
        print(f"# {each.title}: {told}")
        print(each.command if told in words.values() else f"# {each.command}")


def _write(output: Path, results: Sequence[Any]) -> None:
    from launch.reproduction import markdown
    from launch.reproduction.results import write_results
    from research.engine.files import write_atomically

    written = [output / "results.json", output / "RESULTS.md"]
    write_results(written[0], results)
    write_atomically(written[1], markdown.to_markdown(results).encode())
    readme = output / "README.md"
    if _has_markers(readme):
        text = markdown.put_in_readme(readme.read_text(), results)
        write_atomically(readme, text.encode())
        written.append(readme)
    print(f"Written: {', '.join(map(str, written))}.")


def _check_readme(output: Path) -> None:
    """Raises UserError now for markers that the table could not be put between later."""
    from launch.reproduction.markdown import put_in_readme

    readme = output / "README.md"
    if _has_markers(readme):
        put_in_readme(readme.read_text(), ())


def _has_markers(readme: Path) -> bool:
    from launch.reproduction.markdown import BEGIN, END

    return readme.is_file() and any(marker in readme.read_text() for marker in (BEGIN, END))


def _check_writable(output: Path) -> None:
    """Raises UserError before hours of runs whose results could not be written."""
    from research.engine.files import write_atomically

    probe = output / ".reproduce"
    write_atomically(probe, b"")
    probe.unlink()


def _show(results: Sequence[Any]) -> None:
    from launch.reproduction.markdown import ours
    from launch.reproduction.results import verdict
    from research.engine.progress import table

    rows = [
        (result.name, result.device, ours(result), f"{result.reference.value:g}", verdict(result))
        for result in results
    ]
    table("Results", ("experiment", "on", "ours (seeds)", "reference", "verdict"), rows)


if __name__ == "__main__":
    command_line.main(run)
