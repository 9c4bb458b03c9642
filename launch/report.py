"""Compares runs in one page and two tables: `python -m launch.report DIR…`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research import command_line
from research.command_line import DONE

_EXAMPLES = """examples:
  python -m launch.report runs
  python -m launch.report runs/digits_0 runs/digits_1 --output comparison
  python -m launch.report runs --metric test/loss --mode min
  python -m launch.report sweeps/learning_rate

Every run in a DIR or below it counts, also while it is running; settings are those in which the
runs differ. Written are report.html, which needs no network, trials.csv and trials.parquet.
"""
SHOWN_ROWS = 10


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = command_line.make_parser(
        "launch.report", "Compare runs, or a sweep's trials.", _EXAMPLES
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="a run, or what holds runs"
    )
    parser.add_argument(
        "--metric",
        help="what to compare by, such as test/accuracy; default: that of the configs' reference",
    )
    parser.add_argument(
        "--mode",
        choices=("min", "max"),
        help="whether less or more of it is better; default: as the configs say, else min for "
        "loss, error and perplexity and max for accuracy",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write; default: the DIR itself, or report/ for several",
    )
    options = parser.parse_args(arguments)
    folders: list[Path] = options.folders
    output = options.output or (folders[0] if len(folders) == 1 else Path("report"))

    from launch.reports.write import write_report

    trials = _read(folders, options.metric, options.mode)
    path = write_report(trials, output)
    _print(trials)
    print(f"{path} shows it all; trials.csv and trials.parquet beside it hold the numbers.")
    return DONE


def _read(folders: Sequence[Path], metric: str | None, mode: Any) -> Any:
    from launch.reports.runs import read_runs, with_metric

    if len(folders) == 1 and (folders[0] / "sweep.json").is_file():
        from launch.sweeps.results import read_sweep

        return with_metric(read_sweep(folders[0]), metric, mode)
    return read_runs(folders, metric, mode)


def _print(trials: Any) -> None:
    """The best trials, and means over seeds where there are several."""
    from launch.reports.seeds import has_repeats, over_seeds
    from launch.reports.values import (
        best_first,
        counts_by_state,
        setting_paths,
        short_names,
        with_error,
    )
    from research.engine.progress import table

    names = short_names(setting_paths(trials.trials))
    rows = best_first(trials)[:SHOWN_ROWS]
    counts = ", ".join(f"{count} {state}" for state, count in counts_by_state(trials).items())
    table(
        f"{trials.title}: {counts}",
        ("trial", "state", trials.metric, *names.values()),
        [(t.number, t.state, t.value, *(_cell(t.settings, path) for path in names)) for t in rows],
    )
    if len(trials.trials) > len(rows):
        print(f"… and {len(trials.trials) - len(rows)} more.")
    configurations = over_seeds(trials)
    if not has_repeats(configurations):
        return
    paths = [path for path in names if path != "seed"]
    shown_ones = configurations[:SHOWN_ROWS]
    table(
        f"Mean {trials.metric} over seeds, ± half its 95 % confidence interval",
        ("mean", "seeds", "without value", *(names[path] for path in paths)),
        [
            (
                with_error(each.summary.mean, each.summary.half_width) if each.summary else None,
                each.summary.n if each.summary else 0,
                each.without_value,
                *(_cell(each.settings, path) for path in paths),
            )
            for each in shown_ones
        ],
    )
    if len(configurations) > len(shown_ones):
        print(f"… and {len(configurations) - len(shown_ones)} more.")


def _cell(settings: Any, path: str) -> Any:
    from launch.reports.values import shown

    value = settings.get(path)
    return value if value is None or isinstance(value, int | float) else shown(value)


if __name__ == "__main__":
    command_line.main(run)
