"""All that can be wrong with a sweep, found before its first trial."""

import argparse
import dataclasses
import math
import uuid
from collections.abc import Sequence

from launch.slurm import read_resources
from launch.sweeps.draw import draw_grid
from launch.sweeps.space import Sweep, check_sweep
from launch.sweeps.specification import Asha, Specification
from research.engine import config
from research.engine.config_file import read_sweep
from research.engine.consistency import check_metric_name
from research.engine.experiment import Experiment
from research.errors import UserError

_FOR_SLURM = (
    *("gpus_per_node", "cpus_per_task", "mem", "partition", "account", "qos", "constraint"),
    "extra",
)


def plan(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> Specification:
    """The sweep that the command's options mean, checked as far as that goes without data.

    Raises:
      UserError: naming the option or the place in get_sweep().
    """
    experiment = config.load(options.config, overrides)
    sweep, experiment = check_sweep(read_sweep(options.config), experiment)
    _check_options(options, sweep, experiment)
    return Specification(
        config=options.config,
        experiment=experiment,
        sweep=sweep,
        sampler=options.sampler,
        seed=options.seed,
        trials=_count(options, sweep),
        pruner=None
        if options.pruner == "none"
        else Asha(options.min_steps or 0, options.reduction_factor),
        storage=options.storage,
        study=uuid.uuid4().hex,
    )


def check_with_data(specification: Specification) -> Specification:
    """Opens the data and traces an evaluation, so that a metric that nobody measures or data that
    is not there is found now; the specification with what only the data tell.

    Raises:
      UserError: naming the setting or the file.
    """
    import jax

    from research.data.files import default_data_dir
    from research.engine.prepare import prepare

    # The workers' devices are theirs.
    jax.config.update("jax_platforms", "cpu")
    alone = config.override(specification.experiment, {"parallelism": {"mode": "jit"}})
    run = prepare(alone, default_data_dir())
    metric = specification.sweep.metric
    group, _, _ = metric.partition("/")
    if group in run.evaluators:
        known = run.evaluators[group].metric_names(run.initial_shapes())
        check_metric_name("get_sweep(): metric", metric, known)
        every = run.steps(alone.evaluations[group].every)
    else:
        probe = config.build(alone.probes[group].probe, f"probes.{group}.probe")
        check_metric_name("get_sweep(): metric", metric, probe.metric_names())
        every = run.steps(alone.probes[group].every)
    pruner = specification.pruner
    if pruner is None:
        return specification
    steps = pruner.min_steps or every
    if steps * pruner.reduction_factor > run.steps.total:
        raise UserError(
            f"--pruner asha: after {steps} steps, the least, one in {pruner.reduction_factor} "
            f"goes on, but training ends at {run.steps.total}; evaluate {group} more often, or "
            "give a smaller --min_steps"
        )
    return dataclasses.replace(specification, pruner=Asha(steps, pruner.reduction_factor))


def _check_options(options: argparse.Namespace, sweep: Sweep, experiment: Experiment) -> None:
    vmap = options.backend == "vmap"
    if options.backend == "slurm":
        if options.nodes * options.tasks_per_node > 1:
            raise UserError(
                "--nodes, --tasks_per_node: a worker is one process; --workers says how many"
            )
        read_resources(options)
    else:
        for name in _FOR_SLURM:
            if getattr(options, name):
                raise UserError(f"--{name}: only --backend slurm asks for resources")
    if options.seed < 0:
        raise UserError(f"--seed={options.seed}: must be at least 0")
    if options.trials_per_program is not None and not vmap:
        raise UserError("--trials_per_program: only programs of --backend vmap have several trials")
    if options.min_steps is not None and options.pruner == "none":
        raise UserError("--min_steps: only --pruner asha ends trials early")
    if options.pruner == "asha" and options.reduction_factor < 2:
        raise UserError("--reduction_factor: at least 2, or all go on")
    if vmap and options.pruner != "none":
        raise UserError(
            "--pruner asha: the trials of one program end together; take --backend local, or "
            "--pruner none"
        )
    if vmap and experiment.parallelism.mode != "jit":
        raise UserError(
            f"--backend vmap: parallelism.mode = {experiment.parallelism.mode!r} in the config; "
            "trials share a program on one device, 'jit'"
        )
    if vmap and experiment.early_stopping is not None:
        raise UserError(
            "--backend vmap: early_stopping would end all trials of a program at once; leave it "
            "out, or take --backend local"
        )
    if options.sampler == "pbt":
        _check_population(options, sweep)
    if options.sampler != "grid" and not sweep.space:
        raise UserError(
            f"--sampler {options.sampler}: the space has nothing but seeds; take --sampler grid"
        )


def _check_population(options: argparse.Namespace, sweep: Sweep) -> None:
    if options.backend != "vmap" or options.pruner != "none":
        raise UserError("--sampler pbt: a population is one program; take --backend vmap")
    for dimension in sweep.space:
        if dimension.kind not in ("uniform", "log_uniform"):
            raise UserError(
                f"get_sweep(): space.{dimension.path}: population-based training changes numbers "
                "within uniform or log_uniform ranges only"
            )
    limit = options.trials_per_program
    if limit is not None and options.trials is not None and limit < options.trials:
        raise UserError("--trials_per_program: a population is one program; leave it out")


def _count(options: argparse.Namespace, sweep: Sweep) -> int:
    """The number of trials; UserError where the option does not fit."""
    seeds = len(sweep.seeds)
    if options.sampler == "grid":
        size = len(draw_grid(sweep.space)) * seeds
        if options.trials not in (None, size):
            raise UserError(
                f"--trials={options.trials}: the grid has {size} trials ({size // seeds} "
                f"configurations, {seeds} seeds); leave it out"
            )
        return size
    if options.trials is None:
        raise UserError(f"--trials: say how many; --sampler {options.sampler} would never end")
    if options.trials % seeds:
        fitting = math.ceil(options.trials / seeds) * seeds
        raise UserError(
            f"--trials={options.trials}: every configuration runs with {seeds} seeds; take a "
            f"multiple such as {fitting}"
        )
    if options.sampler == "pbt" and options.trials < 2:
        raise UserError("--trials: a population has at least 2 members")
    return int(options.trials)
