"""Measures how fast an experiment trains: `python -m launch.benchmark --config FILE.py`."""

import json
import time
from collections.abc import Sequence
from typing import Any

from research import command_line
from research.command_line import DONE

_EXAMPLES = """examples:
  python -m launch.benchmark --config experiments/vision/lenet_mnist.py
  python -m launch.benchmark --config experiments/sequence/gpt_shakespeare.py \\
      --config.steps_per_call=20 --steps 400

`bare` is a loop over the same compiled step with the batch already on the device: what the
training loop can reach at most. Both are measured in turns, in one process.
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    arguments, overrides = command_line.split_overrides(arguments)
    parser = command_line.make_parser("benchmark", "Measure how fast an experiment trains.", _EXAMPLES)
    parser.prog = "python -m launch.benchmark"
    command_line.add_config(parser)
    command_line.add_data_dir(parser)
    parser.add_argument("--steps", type=int, default=200, help="steps a measurement; default: 200")
    parser.add_argument("--repeats", type=int, default=5, help="measurements; default: 5")
    options = parser.parse_args(arguments)

    from research.engine import config

    experiment = config.load(options.config, overrides)
    command_line.start_jax()

    from research.data.files import default_data_dir
    from research.engine.prepare import prepare
    from research.engine.progress import table

    prepared = prepare(experiment, options.data_dir or default_data_dir())
    results = measure(prepared, options.steps, options.repeats)
    table("Benchmark", ("quantity", "value"), list(results.items()))
    print(json.dumps(results))
    return DONE


def measure(run: Any, steps: int, repeats: int) -> dict[str, Any]:
    """Rates of the training loop and of a bare loop, and what the compiled step costs."""
    import jax
    import numpy as np

    from research.engine import cost
    from research.engine.clock import Clock
    from research.engine.feeds import Feeds
    from research.engine.window import Window

    length = run.experiment.steps_per_call
    state = run.init()
    started = time.perf_counter()
    compiled, rest = cost.compile_step(run, state)
    compile_seconds = time.perf_counter() - started
    arrays, feed, count = rest
    calls = max(1, steps // length)

    def bare(state: Any) -> tuple[Any, float]:
        started = time.perf_counter()
        for _ in range(calls):
            state, _ = compiled(run.trial, state, arrays, feed, count)
        jax.block_until_ready(state)
        return state, time.perf_counter() - started

    waits = []

    def looped(state: Any) -> tuple[Any, float]:
        window = Window(run.steps(run.experiment.log_every), run.parallel.to_host, _discard)
        clock = Clock(10**9, 1, _discard)
        feeds = Feeds(run, 0)
        started = time.perf_counter()
        for call in range(calls):
            with clock.waiting():
                feed = feeds.take(length)
            state, history = compiled(run.trial, state, arrays, feed, count)
            window.add(call * length, length, history)
            clock.stepped((call + 1) * length, length)
        window.drain()
        jax.block_until_ready(state)
        seconds = time.perf_counter() - started
        waits.append(clock.waited / seconds)
        feeds.close()
        return state, seconds

    state, _ = bare(state)
    rates: dict[str, list[float]] = {"bare": [], "loop": []}
    for _ in range(repeats):
        for name, function in (("bare", bare), ("loop", looped)):
            state, seconds = function(state)
            rates[name].append(calls * length / seconds)
    loop_rate, bare_rate = float(np.median(rates["loop"])), float(np.median(rates["bare"]))
    ratios = np.asarray(rates["loop"]) / np.asarray(rates["bare"])
    found, peak = cost.cost_of(compiled), cost.peak_flops()
    used = None if None in (found.flops, peak) else found.flops * loop_rate / peak
    return {
        "device": jax.local_devices()[0].device_kind,
        "devices": len(jax.devices()),
        "steps_per_second": loop_rate,
        "examples_per_second": loop_rate * run.experiment.data.batch_size,
        "bare_steps_per_second": bare_rate,
        "share_of_bare": float(np.median(ratios)),
        "data_wait": float(np.median(waits)),
        "compile_seconds": compile_seconds,
        "flops_per_step": found.flops,
        "flops_utilisation": used,
        "peak_bytes": found.peak_bytes,
    }


def _discard(step: int, values: Any) -> None:
    pass


if __name__ == "__main__":
    command_line.main(run)
