"""Configs: files, overrides, round trips, a user's own components, what is handed down."""

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from research import train
from research.engine import config
from research.engine.component import Component
from research.engine.config_file import set_place
from research.engine.duration import Duration
from research.errors import UserError
from tests.commands import run_command

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

CONFIG = """
from ml_collections import ConfigDict

def get_config(variant="small"):
    return ConfigDict({
        "objective": {"name": "small.Classify", "model": {"name": "small.Net"}},
        "data": {"source": {"name": "small.Examples"}, "batch_size": 16},
        "duration": "10 steps",
        "optimizer": {"learning_rate": 0.1 if variant == "small" else 0.2, "freeze": ["a", "b"]},
    })
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.py"
    path.write_text(CONFIG)
    return path


def locations() -> list[str]:
    """Every config file with every variant it lists."""
    found = []
    for path in sorted(EXPERIMENTS.glob("**/*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += [str(path), *(f"{path}:{variant}" for variant in getattr(module, "VARIANTS", ()))]
    return found


@pytest.mark.parametrize(
    "location", locations(), ids=lambda location: location.removeprefix(f"{EXPERIMENTS}/")
)
def test_every_experiment_comes_back_from_json(location):
    experiment = config.load(location)
    plain = json.loads(json.dumps(config.to_plain(experiment)))
    assert config.check_experiment(plain) == experiment
    assert config.to_plain(config.check_experiment(plain)) == plain


def test_resolved_settings_have_every_default(file):
    plain = config.to_plain(config.load(str(file)))
    assert plain["optimizer"]["schedule"]["warmup"] == "0 steps"
    assert plain["objective"]["model"]["norm"] is False
    assert plain["data"]["source"]["size"] == 250


def test_variants(file):
    assert config.load(str(file)).optimizer.learning_rate == 0.1
    assert config.load(f"{file}:large").optimizer.learning_rate == 0.2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3e-4", 3e-4),
        ("-1", -1),
        ("true", True),
        ("True", True),
        ("false", False),
        ("none", None),
        ("None", None),
        ("null", None),
        ("20 epochs", "20 epochs"),
        ("10%", "10%"),
        ("test/accuracy", "test/accuracy"),
        ("'3'", "3"),
        ("(1, 2)", (1, 2)),
        ("[0.1, 'x']", [0.1, "x"]),
        ("{'name': 'vision.LeNet'}", {"name": "vision.LeNet"}),
        ("", ""),
        ("a=b", "a=b"),
        ("{[]: 1}", "{[]: 1}"),
    ],
)
def test_values_on_the_command_line(text, value):
    parsed = config.parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_what_python_writes_is_read_back(value):
    assert config.parse_value(repr(value)) == value


def loaded(file: Path, **overrides: str) -> Any:
    pairs = [(path.replace("__", "."), text) for path, text in overrides.items()]
    return config.load(str(file), pairs)


def test_overrides_of_settings_in_the_file(file):
    experiment = loaded(
        file,
        optimizer__learning_rate="3e-4",
        duration="2 epochs",
        data__source__size="77",
        objective__model__norm="true",
    )
    assert experiment.optimizer.learning_rate == 3e-4
    assert experiment.duration == Duration(2, "epochs")
    assert experiment.data.source.arguments["size"] == 77
    assert experiment.objective.arguments["model"].arguments["norm"] is True


def test_overrides_of_defaults_that_the_file_does_not_mention(file):
    experiment = loaded(
        file,
        seed="7",
        data__on_device="false",
        optimizer__schedule__name="cosine",
        optimizer__schedule__warmup="10%",
        optimizer__clip_norm="1",
        optimizer__weight_decay_rules="(('.*', 0.5),)",
        objective__noise="0.5",
    )
    assert experiment.seed == 7
    assert experiment.data.on_device is False
    assert experiment.optimizer.schedule.name == "cosine"
    assert experiment.optimizer.schedule.warmup == Duration(10, "percent")
    assert experiment.optimizer.clip_norm == 1.0
    assert experiment.optimizer.weight_decay_rules == ((".*", 0.5),)
    assert experiment.objective.arguments["noise"] == 0.5


def test_overrides_make_groups_that_are_none_by_default(file):
    source = "{'name': 'small.Examples', 'size': 20}"
    experiment = loaded(
        file,
        evaluations__test__source=source,
        evaluations__test__every="3 steps",
        early_stopping__metric="test/loss",
        early_stopping__patience="2",
    )
    assert experiment.evaluations["test"].every == Duration(3, "steps")
    assert experiment.evaluations["test"].source.arguments["size"] == 20
    assert experiment.early_stopping.patience == 2
    assert experiment.early_stopping.mode == "min"


def test_overrides_of_places_in_a_list(file):
    assert loaded(file, optimizer__freeze__1="c").optimizer.freeze == ("a", "c")
    assert loaded(file, optimizer__freeze="()").optimizer.freeze == ()


def test_the_last_override_counts(file):
    pairs = [("seed", "1"), ("seed", "2")]
    assert config.load(str(file), pairs).seed == 2


def test_an_override_replaces_a_whole_component(file):
    experiment = loaded(file, data__source="{'name': 'data.sources.Digits', 'split': 'test'}")
    assert experiment.data.source.path == "data.sources.Digits"
    assert experiment.data.source.arguments == {"split": "test"}


def test_override_of_a_checked_experiment():
    experiment = small.experiment()
    changed = config.override(experiment, {"optimizer.learning_rate": 0.5, "data.batch_size": 8})
    assert (changed.optimizer.learning_rate, changed.data.batch_size) == (0.5, 8)
    assert (
        config.override(changed, {"optimizer.learning_rate": 0.05, "data.batch_size": 16})
        == experiment
    )
    with pytest.raises(UserError, match=r"optimizer.learning_rate = -1.0: must be at least 0"):
        config.override(experiment, {"optimizer.learning_rate": -1})


def places(plain: Any, path: str = "") -> list[str]:
    """The path of everything in nested plain data."""
    items = plain.items() if isinstance(plain, dict) else []
    if isinstance(plain, list):
        items = enumerate(plain)
    found = [path] if path else []
    for key, value in items:
        found += places(value, f"{path}.{key}" if path else str(key))
    return found


NONSENSE = [None, True, -1, 1.5, float("nan"), "x", "(", [], [[1]], {}, {"name": "x"}, {1: 2}, len]


def test_nonsense_anywhere_is_refused_or_comes_back():
    """A config is right or a UserError says why not: nothing else happens, whatever is in it."""
    plain = config.to_plain(
        small.experiment(
            evaluations={"test": {"source": {"name": "small.Examples"}}},
            early_stopping={"metric": "test/loss"},
            players={},
        )
    )
    refused = 0
    for path in places(plain):
        for nonsense in NONSENSE:
            changed = copy.deepcopy(plain)
            set_place(changed, path, nonsense)
            try:
                experiment = config.check_experiment(changed)
            except UserError:
                refused += 1
                continue
            again = json.loads(json.dumps(config.to_plain(experiment)))
            assert config.check_experiment(again) == experiment, (path, nonsense)
    assert refused > 5 * len(places(plain))


def test_differences():
    old = {"seed": 0, "data": {"batch_size": 16, "transforms": []}, "gone": 1}
    new = {"seed": 1, "data": {"batch_size": 16, "transforms": [{"name": "x"}]}}
    assert config.differences(old, new) == [
        "data.transforms: [] -> (not there)",
        "data.transforms.0.name: (not there) -> 'x'",
        "gone: 1 -> (not there)",
        "seed: 0 -> 1",
    ]
    assert config.differences(old, old) == []


def test_settings_that_came_later_are_no_differences():
    now = config.to_plain(config.load(str(EXPERIMENTS / "vision" / "lenet_digits.py")))
    before = json.loads(json.dumps(now))
    del (
        before["swa_start"],
        before["optimizer"]["layers"],
        before["objective"]["top_k"],
    )
    assert config.brought_up_to_date(before) == now
    before |= {"seed": 1, "gone": 1}
    assert config.brought_up_to_date(before) is before, "so that it is told what has gone"


NESTED = {
    "objective": {
        "name": "generative.GAN",
        "generator": {"name": "generative.DCGANGenerator"},
        "discriminator": {"name": "generative.DCGANDiscriminator", "dtype": "float32"},
    }
}


def test_compute_dtype_reaches_nested_models():
    experiment = small.experiment(**NESTED, compute_dtype="bfloat16")
    models = experiment.objective.arguments
    assert models["generator"].arguments["dtype"] == "bfloat16"
    assert models["discriminator"].arguments["dtype"] == "float32", "its own setting stays"
    assert config.check_experiment(config.to_plain(experiment)) == experiment
    built = config.build(experiment.objective, "objective")
    assert (built.generator.dtype, built.discriminator.dtype) == ("bfloat16", "float32")


def test_compute_dtype_is_what_the_model_computes_in():
    run = small.ready(compute_dtype="bfloat16", duration="1 steps")
    state = run.init()
    assert {leaf.dtype for leaf in state.params["dense"].values()} == {jnp.dtype("float32")}
    model = run.program.objective.model
    logits = model.apply({"params": state.params}, run.example["image"], train=False)
    assert logits.dtype == jnp.bfloat16


def test_float32_hands_nothing_down():
    experiment = small.experiment(**NESTED)
    assert experiment.objective.arguments["generator"].arguments["dtype"] is None


TRIALS = {"seed": (0, 1), "optimizer.learning_rate": (0.1, 1), "objective.scale": (1.0, 2.0)}


def test_good_trials():
    experiment = small.experiment(parallelism={"mode": "vmap", "trials": TRIALS})
    assert experiment.parallelism.trials == TRIALS
    assert config.check_experiment(config.to_plain(experiment)) == experiment


def test_players_can_differ_between_trials():
    trials = {"players.generator.learning_rate": (0.1, 0.2)}
    small.experiment(
        **NESTED,
        players={"generator": {"learning_rate": 0.1}},
        parallelism={"mode": "vmap", "trials": trials},
    )


def test_every_setting_is_documented():
    rows = {path: (default, doc) for path, default, doc in config.document()}
    for path in ("data.batch_size", "optimizer.learning_rate", "evaluations.NAME.source"):
        assert rows[path][0] == "(required)"
    assert rows["optimizer.schedule.warmup"][0] == "'0 steps'"
    assert rows["early_stopping.patience"][0] == "5"
    assert rows["micro_batches"][1].endswith("(an int, at least 1)")
    assert all(doc.strip() for _, doc in rows.values())
    plain = config.flatten(config.to_plain(small.experiment()))
    components = ("objective.", "data.source.")
    lists = ("optimizer.weight_decay_rules.",)
    missing = [p for p in plain if p not in rows and not p.startswith(components + lists)]
    assert missing == []


MYLAB = '''
"""What a user keeps outside of research."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from research.data.dataset import Dataset
from research.engine.metrics import mean_of
from research.engine.objective import Aux


class TinyNet(nn.Module):
    num_classes: int = 10
    dtype: str | None = None

    @nn.compact
    def __call__(self, images, train=False):
        x = images.reshape(len(images), -1) / 255.0
        return nn.Dense(self.num_classes, dtype=self.dtype, name="linear")(x)


@dataclass(frozen=True)
class Ramp:
    """Points on a line."""

    slope: float
    size: int = 20

    def open(self, data_dir):
        x = np.linspace(0, 1, self.size, dtype=np.float32)
        return Dataset(self.size, {"x": x, "y": self.slope * x})


@dataclass(frozen=True)
class Shift:
    """A transform."""

    by: float

    def __call__(self, rng, batch):
        return {**batch, "y": batch["y"] + self.by}


@dataclass(frozen=True)
class Line:
    """Least squares."""

    def init(self, rng, batch):
        return {"params": {"slope": jnp.zeros(()), "offset": jnp.zeros(())}}

    def _errors(self, params, batch):
        return (params["slope"] * batch["x"] + params["offset"] - batch["y"]) ** 2

    def loss(self, params, collections, batch, rng):
        return self._errors(params, batch).mean(), Aux({}, collections)

    def evaluate(self, params, collections, batch, rng):
        return {"loss": mean_of(self._errors(params, batch), batch["mask"])}
'''

TINY_NET = {
    "objective": {"name": "vision.Classification", "model": {"name": "mylab.models.TinyNet"}},
    "data": {"source": {"name": "data.sources.Digits", "split": "train"}, "batch_size": 16},
    "evaluations": {"test": {"source": {"name": "data.sources.Digits", "split": "test"}}},
    "duration": "2 steps",
    "optimizer": {"name": "sgd", "learning_rate": 0.01},
    "compute_dtype": "bfloat16",
    "log_norms": False,
}
LINE = {
    "objective": {"name": "mylab.models.Line"},
    "data": {
        "source": {"name": "mylab.models.Ramp", "slope": 2},
        "transforms": [{"name": "mylab.models.Shift", "by": 1.0}],
        "batch_size": 20,
    },
    "evaluations": {
        "test": {"source": {"name": "mylab.models.Ramp", "slope": 2.0}, "every": "100%"}
    },
    "checkpoints": {"every": "100%"},
    "log_every": "100%",
    "duration": "200 steps",
    "steps_per_call": 200,
    "optimizer": {"name": "momentum", "learning_rate": 0.05},
    "log_norms": False,
}


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package that Python can import, and a folder for config files."""
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").write_text("")
    (tmp_path / "mylab" / "models.py").write_text(MYLAB)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def result_of(folder: Path, plain: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """The metrics that the real command ends with, after training by a config file."""
    file = folder / "experiment.py"
    file.write_text(f"def get_config():\n    return {plain!r}\n")
    flags = ["--config", file, "--workdir", folder / "run", "--data_dir", folder / "none"]
    ended = run_command(train.run, flags, capsys)
    assert ended.code == 0, ended.stderr
    return json.loads((folder / "run" / "result.json").read_text())["metrics"]


@pytest.mark.usefixtures("undrawn")
def test_a_users_model_trains_by_its_import_path(mylab, capsys):
    metrics = result_of(mylab, TINY_NET, capsys)
    assert set(metrics) == {"test/loss", "test/accuracy"}
    saved = json.loads((mylab / "run" / "config.json").read_text())
    assert saved["objective"]["model"] == {
        "name": "mylab.models.TinyNet",
        "num_classes": 10,
        "dtype": "bfloat16",
    }


@pytest.mark.usefixtures("undrawn")
def test_a_users_objective_source_and_transform(mylab, capsys):
    """The line through the shifted points has offset 1, so the points themselves are 1 away."""
    metrics = result_of(mylab, LINE, capsys)
    assert metrics["test/loss"] == pytest.approx(1.0, abs=0.05)


def test_mistakes_in_a_users_component_are_named(mylab):
    plain = {**LINE, "data": {**LINE["data"], "source": {"name": "mylab.models.Ramp", "slop": 2}}}
    with pytest.raises(UserError) as raised:
        config.check_experiment(plain)
    assert "data.source.slop: mylab.models.Ramp has no such argument" in str(raised.value)
    assert "did you mean 'slope'?" in str(raised.value)


def test_a_component_compares_by_path_and_arguments():
    assert Component("a.B", dict, {"x": 1}) == Component("a.B", list, {"x": 1})
    assert Component("a.B", dict, {"x": 1}) != Component("a.B", dict, {"x": 2})
