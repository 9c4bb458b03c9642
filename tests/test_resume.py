"""A run that was killed, wherever, ends with the bits of one that was not."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from research import train
from research.engine import checkpoint, window
from research.engine.files import read_json
from research.engine.record import read_metrics
from research.engine.restore import load_checkpoint, read_experiment
from tests import processes, shared
from tests.shrink import arguments

CONFIGS = (
    "vision/lenet_mnist.py",
    "sequence/gpt_shakespeare.py",
    "sequence/lstm_ptb.py",
    "generative/vae_mnist.py",
    "generative/gan_mnist.py",
    "selfsupervised/rotation_mnist.py",
    "selfsupervised/byol_mnist.py",
)
PROBES = ("linear", "classifier")
# Checkpoints are of steps 5, 10 and 12: before the first, after it, and while one is saved.
PLACES = (("step", 3), ("step", 8), ("saving", 1))


def kill(given: list[str]) -> None:
    """Runs the same command once a place, until its process kills itself there."""
    for place in PLACES:
        code, output = processes.start(train_until_killed, *place, given).wait()
        assert code == -signal.SIGKILL, f"not killed at {place}, but ended with {code}: {output}"


def train_until_killed(place: str, number: int, given: list[str]) -> None:
    """Has this process kill itself when a step is under way, or in the middle of a checkpoint."""
    if place == "step":
        add = window.Window.add

        def add_or_die(self, step, count, packed):
            if step + count >= number:
                os.kill(os.getpid(), signal.SIGKILL)
            add(self, step, count, packed)

        window.Window.add = add_or_die
    else:
        seal, calls = checkpoint.Checkpoints._seal, []

        # All arrays are written, the checkpoint is not yet whole.
        def seal_or_die(self):
            calls.append(1)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seal(self)

        checkpoint.Checkpoints._seal = seal_or_die
    processes.run_train(given)


def final_state(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint by path, as bits."""
    _, restored = load_checkpoint(read_experiment(workdir), workdir, "latest")
    assert restored.step == 12
    leaves = jax.tree_util.tree_leaves_with_path(restored.state)

    def as_numbers(x):
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return {jax.tree_util.keystr(path): np.asarray(as_numbers(leaf)) for path, leaf in leaves}


def without_probes(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in numbers.items() if name.partition("/")[0] not in PROBES}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("config", CONFIGS)
def test_killed_run_ends_with_the_same_bits(config, tmp_path, shared_dir):
    whole, cut = shared.trained(shared_dir, config), tmp_path / "cut"
    # Probes and pictures look at the state and take a while: the cut run does without.
    given = arguments(config, cut, shared.small_data(shared_dir), probes={}, reference=None)
    kill(given)
    assert train.run(given) == 0

    expected, found = final_state(whole), final_state(cut)
    assert expected.keys() == found.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=f"{config}: {path}")
    rows = [without_probes(row) for row in read_metrics(whole)]
    assert read_metrics(cut) == [row for row in rows if row.keys() != {"step"}]
    results = [read_json(run / "result.json")["metrics"] for run in (whole, cut)]
    assert without_probes(results[0]) == results[1]
