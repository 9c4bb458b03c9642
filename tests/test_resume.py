"""A run that was killed, wherever, ends with the bits of one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from research import train
from research.engine.restore import load_state, read_experiment
from tests.shrink import arguments
from tests.small_data import write_small_data

CONFIGS = (
    "vision/lenet_mnist.py",
    "sequence/gpt_shakespeare.py",
    "generative/vae_mnist.py",
    "generative/gan_mnist.py",
    "selfsupervised/rotation_mnist.py",
    "selfsupervised/byol_mnist.py",
)
# Checkpoints are of steps 5, 10 and 12: before the first, after it, and while one is saved.
PLACES = ("steps:3", "steps:8", "saving:1")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data"))


def kill(given: list[str]) -> None:
    """Runs the same command once a place, until its process kills itself there."""
    command = [sys.executable, "-m", "tests.kill", *PLACES, "--", *given]
    root = Path(__file__).parents[1]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert ended.returncode == 0, ended.stderr


def final_state(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint by path, as bits."""
    _, state, step = load_state(read_experiment(workdir), workdir, "latest")
    assert step == 12
    leaves = jax.tree_util.tree_leaves_with_path(state)

    def as_numbers(x):
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return {jax.tree_util.keystr(path): np.asarray(as_numbers(leaf)) for path, leaf in leaves}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("config", CONFIGS)
def test_killed_run_ends_with_the_same_bits(config, tmp_path, data_dir):
    # Probes read the state and take a while; they are no part of it.
    given = {"probes": {}, "reference": None}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train.run(arguments(config, whole, data_dir, **given)) == 0
    kill(arguments(config, cut, data_dir, **given))
    assert train.run(arguments(config, cut, data_dir, **given)) == 0

    expected, found = final_state(whole), final_state(cut)
    assert expected.keys() == found.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=f"{config}: {path}")
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert json.loads((cut / "result.json").read_text()) == json.loads(
        (whole / "result.json").read_text()
    )
