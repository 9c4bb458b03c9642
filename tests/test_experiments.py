"""Every example config runs from end to end, shrunk, on small data."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import evaluate, generate, preview
from research.engine import config as configs
from research.engine import cost, prepare
from research.engine.objective import HasGenerate
from tests import golden, processes, shared
from tests.random_variables import random_arrays
from tests.shrink import (
    BUILT_ON,
    EXPERIMENTS,
    ONE_STEP,
    SAME_BUT_DEEPER,
    SHRUNK,
    arguments,
    config_files,
)


def test_every_config_is_tested():
    missing = set(config_files()) - set(SHRUNK | ONE_STEP) - set(SAME_BUT_DEEPER)
    assert not missing, f"add an entry to SHRUNK in tests/shrink.py for {sorted(missing)}"


@pytest.mark.parametrize("config", SAME_BUT_DEEPER)
def test_config_loads(config):
    assert configs.load(str(EXPERIMENTS / config)).reference is not None


@pytest.mark.parametrize("config", sorted(SHRUNK))
def test_config_runs(config, tmp_path, shared_dir, capsys):
    workdir, data_dir = shared.trained(shared_dir, config), shared.small_data(shared_dir)
    result = json.loads((workdir / "result.json").read_text())
    assert result["step"] == 12
    assert result["metrics"]
    assert (workdir / "images" / "learning_curves.png").stat().st_size > 1000
    experiment = configs.load(arguments(config, workdir, data_dir)[0].removeprefix("--config="))
    if config not in BUILT_ON:
        assert experiment.reference is not None, "say which number of which paper is to be reached"
        assert experiment.reference.metric in result["metrics"]

    complaint = golden.complaint(config, golden.numbers_of(workdir))
    assert not complaint, complaint

    if config.startswith("vision") and ":" in config:
        return  # the rest is as of the config without a variant
    capsys.readouterr()
    assert evaluate.run([f"--workdir={workdir}", f"--data_dir={data_dir}"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.pop("step") == 12
    assert again == pytest.approx(result["metrics"], rel=1e-5)

    output = tmp_path / "samples"
    if issubclass(experiment.objective.constructor, HasGenerate):
        prompt = ["--prompt=a dog"] if "multi30k" in config else []  # there is nothing by default
        assert generate.run([f"--workdir={workdir}", f"--output={output}", *prompt]) == 0
        assert list(output.iterdir())
    if config == "sequence/gpt_shakespeare.py":
        capsys.readouterr()
        arguments_of_both = [f"--workdir={workdir}", "--prompt=A", "--max_new_tokens=20"]
        assert generate.run([*arguments_of_both, "--stream"]) == 0
        streamed = capsys.readouterr().out
        assert generate.run([*arguments_of_both, f"--output={output}"]) == 0
        assert streamed == (output / "sample.txt").read_text().rstrip("\n") + "\n"


@pytest.mark.parametrize("config", sorted(ONE_STEP))
@pytest.mark.usefixtures("quickly_traced")
def test_large_config_takes_a_step(config, tmp_path, shared_dir, monkeypatch):
    data_dir = shared.small_data(shared_dir)
    monkeypatch.setenv("RESEARCH_DATA_DIR", str(data_dir))  # as commands do for --data_dir
    file, *settings = arguments(config, tmp_path, data_dir)
    file = file.removeprefix("--config=")
    as_written = configs.load(file)
    assert as_written.reference is not None
    overrides = [
        tuple(setting.removeprefix("--config.").split("=", 1))
        for setting in settings
        if setting.startswith("--config.")
    ]
    # Also traces evaluation, and checks that it measures the reference's metric.
    prepared = prepare.prepare(configs.load(file, overrides), data_dir)
    state = prepared.parallel.from_logical(random_state(prepared.initial_shapes()))
    names = ("params", "collections", "ema", "ema_collections")
    before = {name: jax.tree.map(np.array, getattr(state, name)) for name in names}
    train, given = cost.training_call(prepared, state)
    after, metrics = train(state, *given)
    assert int(after.step) == 1
    for tree in (
        metrics,
        after.params,
        after.collections,
        after.opt_state,
        after.ema,
        after.ema_collections,
    ):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))
    for name in names:
        pairs = zip(
            jax.tree.leaves(before[name]), jax.tree.leaves(getattr(after, name)), strict=True
        )
        moved = [(old != np.asarray(new)).any() for old, new in pairs]
        assert not moved or np.mean(moved) > 0.9, f"most of {name} has not changed"


def random_state(shapes):
    """A state that costs no compilation; its optimizer is at its start."""

    def empty(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key(0) if is_key else jnp.zeros(leaf.shape, leaf.dtype)

    params = random_arrays(shapes.params)
    return jax.tree.map(empty, shapes).replace(
        params=params,
        collections=random_arrays(shapes.collections),
        ema=None if shapes.ema is None else jax.tree.map(jnp.copy, params),
        ema_collections=random_arrays(shapes.ema_collections),
    )


@pytest.mark.parametrize("config", ["vision/lenet_digits.py", "generative/vae_mnist.py"])
def test_preview_shows_what_will_run(config, tmp_path, shared_dir, capsys):
    data_dir = shared.small_data(shared_dir)
    given = [a for a in arguments(config, tmp_path, data_dir) if not a.startswith("--workdir")]
    assert preview.run(given) == 0
    shown = capsys.readouterr().out
    for expected in ("12 steps of 16 examples", "parameters", "FLOPs", "fits", "kernel"):
        assert expected in shown


def test_docstring_gives_the_command():
    for config in config_files():
        file = config.partition(":")[0]
        text = (Path(__file__).parents[1] / "experiments" / file).read_text()
        assert f"research.train --config experiments/{file} " in text, (
            f"{file}: docstring has no command"
        )


def test_equal_runs_write_equal_metrics(tmp_path, shared_dir):
    config = "vision/lenet_mnist.py"
    here = shared.trained(shared_dir, config)
    given = arguments(config, tmp_path / "run", shared.small_data(shared_dir))
    processes.finish(processes.start(processes.run_train, given))
    first, second = ((run / "metrics.jsonl").read_bytes() for run in (here, tmp_path / "run"))
    assert first
    assert first == second
