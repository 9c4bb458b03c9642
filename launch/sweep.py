"""Searches hyperparameters: `python -m launch.sweep --config FILE.py --sweepdir DIR --trials N`."""

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.option_values import positive
from launch.slurm import add_resources, read_resources
from research import command_line
from research.command_line import DONE, STOPPED
from research.errors import UserError

_EXAMPLES = """a search space stands in the config file, beside get_config():

  def get_sweep():
      return {
          "metric": "validation/accuracy",
          "mode": "max",
          "settings": {"duration": "10 epochs"},
          "space": {
              "optimizer.learning_rate": {"log_uniform": (1e-4, 1e-1), "num": 4},
              "objective.label_smoothing": {"uniform": (0.0, 0.2), "num": 3},
              "objective.model.num_layers": {"integers": (2, 6)},
              "optimizer.name": {"choices": ("adam", "adamw", "lion")},
              "seed": {"seeds": 3},
          },
      }

`settings` hold for all trials; `num` is for grids. Every configuration runs with each of the seeds,
and counts as so many trials.

examples:
  python -m launch.sweep --config experiments/vision/lenet_digits.py --sweepdir sweeps/digits \\
      --trials 64 --workers 2
  python -m launch.sweep --config experiments/vision/lenet_digits.py --sweepdir sweeps/digits \\
      --trials 64 --backend vmap
  python -m launch.sweep --config experiments/vision/lenet_digits.py --sweepdir sweeps/asha \\
      --trials 64 --sampler tpe --pruner asha --workers 2
  python -m launch.sweep --config experiments/vision/lenet_digits.py --sweepdir sweeps/pbt \\
      --trials 16 --sampler pbt --backend vmap

The same command goes on with what is left; a larger --trials adds to it. The folder gets
report.html, trials.csv, trials.parquet and a run's folder for each trial, trials/0000 and so on.
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    arguments, overrides = command_line.split_overrides(arguments)
    parser = make_parser()
    options = parser.parse_args(arguments)

    from launch.sweeps.preflight import plan

    specification = plan(options, overrides)
    if options.dry_run:
        return _show_plan(specification, options)
    folder = options.sweepdir

    from launch.sweeps.preflight import check_with_data
    from launch.sweeps.specification import taken_up, write_specification
    from launch.sweeps.study import Study
    from research.engine.lock import WorkdirLock

    with WorkdirLock(folder):
        specification = taken_up(check_with_data(specification), folder)
        study = Study(folder, specification)
        write_specification(specification, folder)
        study.add_known()
        done = _run_backend(study, options)
        return _finish(study, done)


def make_parser() -> command_line.Parser:
    """The command's options."""
    parser = command_line.make_parser(
        "launch.sweep", "Search hyperparameters by many runs of one experiment.", _EXAMPLES
    )
    command_line.add_config(parser)
    parser.add_argument("--sweepdir", type=Path, required=True, help="the sweep's folder")
    parser.add_argument(
        "--trials", type=positive, metavar="N", help="runs in all; a grid knows its own number"
    )
    parser.add_argument(
        "--sampler",
        choices=("grid", "random", "tpe", "pbt"),
        default="random",
        help="where trials lie: all of a grid; at random; where those before were good (TPE, "
        "Bergstra et al. 2011); or population-based training, which changes settings during "
        "training (Jaderberg et al. 2017; --backend vmap). Default: random",
    )
    parser.add_argument(
        "--pruner",
        choices=("none", "asha"),
        default="none",
        help="asha: only the best of the trials that got as far go on (Li et al. 2020)",
    )
    parser.add_argument(
        "--reduction_factor",
        type=positive,
        default=4,
        metavar="N",
        help="asha: one in N goes on; default 4",
    )
    parser.add_argument(
        "--min_steps",
        type=positive,
        metavar="N",
        help="asha: every trial makes at least N steps; default: up to its first evaluation",
    )
    parser.add_argument(
        "--backend",
        choices=("local", "vmap", "slurm"),
        default="local",
        help="local: processes on this machine; vmap: many trials in one program; slurm: workers "
        "are the tasks of a job array. Default: local",
    )
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes or tasks; default 1"
    )
    parser.add_argument(
        "--trials_per_program",
        type=positive,
        metavar="K",
        help="vmap: at most so many trials in one program; default: a worker's share, up to 64, "
        "or to 16 with tpe",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampler; default 0")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="a database that Optuna knows, such as postgresql://user@host/name; default: a file "
        "in the sweep's folder, for which hundreds of workers are too many",
    )
    command_line.add_data_dir(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="check all, print the trials and commands, run none"
    )
    add_resources(parser, "resources of a worker, for --backend slurm")
    return parser


def _run_backend(study: Any, options: argparse.Namespace) -> bool:
    """Whether all trials have ended."""
    from launch.sweeps.crew import Workers, keep_at_work
    from launch.sweeps.display import SweepDisplay
    from launch.sweeps.jobs import SlurmWorkers
    from launch.sweeps.results import trials_of
    from launch.sweeps.workers import LocalWorkers, worker_command, worker_environments

    command = worker_command(study.folder.absolute(), _per_program(study.specification, options))
    workers: Workers
    if options.backend == "slurm":
        workers = SlurmWorkers(study.folder, command, read_resources(options))
    else:
        environments = worker_environments(options.workers, _gpus())
        workers = LocalWorkers(command, environments, study.folder / "workers")
    with SweepDisplay(study.specification.trials) as display:
        return keep_at_work(
            study, workers, options.workers, lambda: display.update(trials_of(study))
        )


def _gpus() -> list[str]:
    from launch.local import visible_gpus

    return visible_gpus(os.environ)


def _per_program(specification: Any, options: argparse.Namespace) -> int:
    """How many trials share a program: all that a worker gets where they are shared out."""
    if options.backend != "vmap":
        return 1
    if specification.sampler == "pbt":
        return int(specification.trials)
    share = -(-specification.trials // options.workers)
    # TPE learns from what has ended.
    return options.trials_per_program or min(16 if specification.sampler == "tpe" else 64, share)


def _finish(study: Any, done: bool) -> int:
    """The report, and the best in words."""
    from launch.reports.values import best_of
    from launch.reports.write import write_report
    from launch.sweeps.display import settings_in_words
    from launch.sweeps.results import trials_of

    trials = trials_of(study)
    best = best_of(trials)
    report = write_report(trials, study.folder)
    if best is not None:
        print(f"Best: trial {best.number}, {trials.metric} = {best.value:.5g}")
        print(f"  {settings_in_words(best.settings)}")
        print(f"  {best.workdir}")
    if not done:
        print(f"Stopped with {study.unfinished()} trials left; the same command goes on.")
        return STOPPED
    if best is None:
        reasons = sorted({trial.reason for trial in trials.trials if trial.reason})
        raise UserError(
            f"no trial came to its end: {'; '.join(reasons[:3])}. {report} lists them all."
        )
    print(
        f"Done: {len(trials.trials)} trials. Everything is in {study.folder}: report.html, "
        "trials.csv, trials.parquet, trials/."
    )
    return DONE


def _show_plan(specification: Any, options: argparse.Namespace) -> int:
    from launch.sweeps.display import settings_in_words
    from launch.sweeps.draw import decode
    from launch.sweeps.jobs import jobs_script
    from launch.sweeps.study import known_points
    from launch.sweeps.workers import worker_command, worker_environments

    sweep = specification.sweep
    for number, params in enumerate(known_points(specification)):
        for place, seed in enumerate(sweep.seeds):
            settings: Mapping[str, Any] = {**decode(sweep.space, params), "seed": seed}
            trial = number * len(sweep.seeds) + place
            print(f"trial {trial}: {settings_in_words(settings)}")
    if specification.sampler == "tpe":
        print(f"{specification.trials} trials, each suggested when its turn comes")
    folder = options.sweepdir.absolute()
    command = worker_command(folder, _per_program(specification, options))
    if options.backend == "slurm":
        print(jobs_script(folder, command, options.workers, read_resources(options)), end="")
        return DONE
    for environment in worker_environments(options.workers, _gpus()):
        added = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
        print(" ".join([*added, shlex.join(command)]))
    return DONE


if __name__ == "__main__":
    command_line.main(run)
