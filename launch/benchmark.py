"""Measures how fast an experiment trains: `python -m launch.benchmark --config FILE.py`."""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.data_benchmark import measure_data, tokens_a_step
from launch.generation_benchmark import measure_generation
from launch.option_values import positive
from research import command_line
from research.command_line import DONE
from research.errors import UserError

_EXAMPLES = """examples:
  python -m launch.benchmark --config experiments/vision/lenet_mnist.py
  python -m launch.benchmark --config experiments/sequence/gpt_shakespeare.py \\
      --config.steps_per_call=20 --steps 400
  python -m launch.benchmark --config experiments/vision/lenet_digits.py --trials 64 --workers 2
  python -m launch.benchmark --config experiments/sequence/gpt_shakespeare.py --data
  python -m launch.benchmark --config experiments/sequence/gpt2_openwebtext.py --generate \\
      --config.compute_dtype=float32

`bare` is a Python loop over the same compiled step with its batch already on the device: the most
that training can reach. The two are measured in turns, and their ratio in each turn.

With --trials a sweep of the config's search space is measured instead: as processes (--workers) and
as one program (vmap), each from its start to its report, beside a sweep of one trial. With --data
it is the batches that the host makes, and with --generate how fast a language model writes, beside
what reading its parameters and cache takes.
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    arguments, overrides = command_line.split_overrides(arguments)
    parser = command_line.make_parser(
        "launch.benchmark", "Measure how fast an experiment trains.", _EXAMPLES
    )
    command_line.add_config(parser)
    command_line.add_data_dir(parser)
    parser.add_argument("--steps", type=positive, default=200, help="a measurement's; default 200")
    parser.add_argument("--repeats", type=positive, default=5, help="measurements; default 5")
    parser.add_argument("--data", action="store_true", help="measure the host's batches")
    parser.add_argument("--generate", action="store_true", help="measure how fast a model writes")
    parser.add_argument("--trials", type=positive, help="measure a sweep of so many trials")
    parser.add_argument("--workers", type=positive, default=1, help="its processes; default 1")
    options = parser.parse_args(arguments)
    if options.trials is not None:
        return _sweep(options, overrides)

    from research.engine import config

    experiment = config.load(options.config, overrides)
    if not (options.data or options.generate) and options.steps < 2 * experiment.steps_per_call:
        raise UserError(
            f"--steps={options.steps}: at least two calls of {experiment.steps_per_call}"
        )
    command_line.start_jax()

    from research.data.files import default_data_dir
    from research.engine.progress import table

    data_dir = default_data_dir()
    if options.data:
        results = measure_data(experiment, data_dir, options.steps, options.repeats)
    elif options.generate:
        results = measure_generation(experiment, options.repeats)
    else:
        results = measure(experiment, data_dir, options.steps, options.repeats)
    table("Benchmark", ("quantity", "value"), list(results.items()))
    print(json.dumps(results))
    return DONE


def _sweep(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from launch.sweep_benchmark import measure_sweep
    from research.engine.progress import table

    settings = [f"--config.{path}={value}" for path, value in overrides]
    command = [f"--config={options.config}", *settings]
    with tempfile.TemporaryDirectory() as folder:
        results = measure_sweep(command, options.trials, options.workers, Path(folder))
    table("Benchmark of a sweep", ("quantity", "value"), list(results.items()))
    print(json.dumps(results))
    return DONE


def measure(experiment: Any, data_dir: Path, steps: int, repeats: int) -> dict[str, Any]:
    """Rates of training and of a bare loop, and what the compiled step costs."""
    import jax
    import numpy as np

    from launch.machine_speed import matmul_flops
    from research.engine import cost
    from research.engine.duration import Duration
    from research.engine.prepare import prepare

    # Training alone: logged as the experiment says, nothing evaluated, saved or shown meanwhile.
    length = experiment.steps_per_call
    total = Duration(steps + 3 * length, "steps")
    experiment = replace(
        experiment,
        duration=total,
        evaluations={},
        probes={},
        early_stopping=None,
        profile=None,
        reference=None,
        checkpoints=replace(experiment.checkpoints, every=total, best_metric=None),
    )
    run = prepare(experiment, data_dir)
    state = run.init()
    started = time.perf_counter()
    compiled, (arrays, feed, count) = cost.compile_step(run, state)
    compile_seconds = time.perf_counter() - started

    rates, bare_rates, waits = [], [], []
    for _ in range(repeats):
        rate, wait = _train(experiment, data_dir, steps)
        rates.append(rate)
        waits.append(wait)
        state, _ = compiled(state, arrays, feed, count)
        jax.block_until_ready(state)
        started = time.perf_counter()
        for _ in range(steps // length):
            state, _ = compiled(state, arrays, feed, count)
        jax.block_until_ready(state)
        bare_rates.append(steps // length * length / (time.perf_counter() - started))

    rate, found = float(np.median(rates)), cost.cost_of(compiled)
    peak = cost.peak_flops() or matmul_flops()
    targets = tokens_a_step(run.example)
    return {
        "device": jax.local_devices()[0].device_kind,
        "devices": len(jax.devices()),
        "steps_per_second": rate,
        "examples_per_second": rate * experiment.data.batch_size,
        "tokens_per_second": None
        if targets is None
        else rate * experiment.data.batch_size * targets / len(run.example["tokens"]),
        "bare_steps_per_second": float(np.median(bare_rates)),
        "share_of_bare": float(np.median(np.divide(rates, bare_rates))),
        "data_wait": float(np.median(waits)),
        "compile_seconds": compile_seconds,
        "flops_per_step": found.flops,
        "flops_utilisation": found.flops * rate / peak if found.flops else None,
        "peak_bytes": found.peak_bytes,
    }


def _train(experiment: Any, data_dir: Path, steps: int) -> tuple[float, float]:
    """Steps per second of `research.train`'s own loop in full swing, and its data wait."""
    from research.engine.loop import train
    from research.engine.record import Record

    marks: list[tuple[int, float]] = []
    waits: list[float] = []

    class Stopwatch:
        """Takes the place of the progress bar."""

        def __enter__(self) -> "Stopwatch":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, step: int, loss: float | None, *, data_wait: float) -> None:
            marks.append((step, time.perf_counter()))
            waits.append(data_wait)

        def message(self, text: str) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder, Record(Path(folder)) as record:
        train(experiment, Path(folder), data_dir, record, lambda step, total: Stopwatch())
    # The loop may be a call ahead of the device: the first update does not wait for the first
    # call, and the last one waits for two. Between the others lies one call each.
    (first, start), (last, end) = marks[1], marks[-2]
    return (last - first) / (end - start), waits[-1]


if __name__ == "__main__":
    command_line.main(run)
