"""Shows an experiment without training: `python -m research.preview --config FILE.py`."""

import json
from collections.abc import Sequence
from typing import Any

from research import command_line
from research.command_line import DONE

_EXAMPLES = """examples:
  python -m research.preview --config experiments/vision/lenet_mnist.py
  python -m research.preview --config experiments/sequence/gpt_shakespeare.py:gpu --no_compile
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    arguments, overrides = command_line.split_overrides(arguments)
    parser = command_line.make_parser(
        "research.preview",
        "Show an experiment without training: its resolved config, parameters, batches, length, "
        "and what XLA says a step costs.",
        _EXAMPLES,
    )
    command_line.add_config(parser)
    command_line.add_data_dir(parser)
    parser.add_argument("--no_compile", action="store_true", help="leave out what a step costs")
    options = parser.parse_args(arguments)

    from research.engine import config

    experiment = config.load(options.config, overrides)
    command_line.start_jax()

    import jax

    from research.data.files import default_data_dir
    from research.engine import cost
    from research.engine.prepare import prepare
    from research.engine.progress import table

    print(json.dumps(config.to_plain(experiment), indent=2))
    prepared = prepare(experiment, default_data_dir())
    state = prepared.init()
    first_trial = prepared.parallel.trials(prepared.parallel.to_logical(state))[0]
    rows = parameter_rows(first_trial.params)
    columns: tuple[str, ...] = ("path", "shape", "dtype", "count", "mean", "std")
    shown = rows
    if experiment.init_from is not None:
        origin = experiment.init_from.arguments.get("path", experiment.init_from.path)
        taken = prepared.initial_arrays
        columns = (*columns, "from")
        shown = [(*row, origin if f"params/{row[0]}" in taken else "initialiser") for row in rows]
    print()
    table("Parameters", columns, shown)
    total = sum(row[3] for row in rows)
    size = sum(x.nbytes for x in jax.tree.leaves(first_trial.params))
    print(f"Total: {total:,} parameters, {_bytes(size)}\n")

    steps, batch = prepared.steps, experiment.data.batch_size
    epochs = steps.total / steps.per_epoch
    shapes = {name: (batch, *x.shape[1:]) for name, x in prepared.example.items()}
    kinds = {name: x.dtype.name for name, x in prepared.example.items()}
    table("A batch", ("array", "shape", "dtype"), [(k, shapes[k], kinds[k]) for k in shapes])
    print(
        f"Training: {steps.total:,} steps of {batch} examples, {epochs:.4g} epochs of "
        f"{prepared.dataset.size:,} examples; data {_where(prepared)}\n"
    )
    if not options.no_compile:
        compiled, _ = cost.compile_step(prepared, state)
        found = cost.cost_of(compiled)
        memory = cost.device_memory()
        device = jax.local_devices()[0].device_kind
        flops = "unknown" if found.flops is None else f"{found.flops:.4g} FLOPs"
        print(f"A step, on each of {len(jax.devices())} × {device}: {flops}")
        if found.peak_bytes is not None:
            verdict = "fits" if found.peak_bytes <= memory else "DOES NOT FIT"
            print(f"Peak memory: {_bytes(found.peak_bytes)} of {_bytes(memory)}: {verdict}")
    return DONE


def parameter_rows(params: Any) -> list[tuple[Any, ...]]:
    """(path, shape, dtype, count, mean, standard deviation) of every parameter."""
    import jax
    import numpy as np

    from research.engine.rules import path_of

    rows = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        values = np.asarray(leaf, np.float64)
        shape = "×".join(map(str, leaf.shape)) or "()"
        row = (path_of(path), shape, leaf.dtype.name, leaf.size, values.mean(), values.std())
        rows.append((*row[:4], float(row[4]), float(row[5])))
    return rows


def _where(prepared: Any) -> str:
    return "on the device" if prepared.on_device else "read on the host"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


if __name__ == "__main__":
    command_line.main(run)
