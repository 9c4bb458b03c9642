"""A small experiment that the engine's tests share: a source, a model, an objective, a run."""

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.data.dataset import Dataset
from research.engine.config import check_experiment
from research.engine.experiment import Experiment
from research.engine.feeds import Feeds
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, example_keys
from research.engine.prepare import Prepared, prepare
from research.nn.norm import BatchNorm


@dataclass(frozen=True)
class Examples:
    """Random 8×8 images, labels, and which of them count."""

    size: int = 250
    seed: int = 0
    on_device: bool = True

    def open(self, data_dir: Path) -> Dataset:
        generator = np.random.default_rng(self.seed)
        image = generator.integers(0, 256, (self.size, 8, 8, 1), np.uint8)
        label = generator.integers(0, 10, self.size, np.int32)
        counts = (generator.random(self.size) < 0.6).astype(np.float32)
        arrays = {"image": image, "label": label, "counts": counts}
        return Dataset(self.size, arrays, on_device=self.on_device)


@dataclass(frozen=True)
class Jitter:
    """Noise on every training image."""

    def __call__(self, rng: Any, batch: Any) -> Any:
        image = batch["image"]
        return {**batch, "image": image + 40 * jax.random.uniform(rng, image.shape)}


def waves(rng: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
    """Initial values that depend on the key and compile five times as fast as random ones."""
    offset = jax.random.key_data(rng)[0].astype(jnp.float32) * 2.0**-32
    values = jnp.sin(jnp.arange(math.prod(shape)) * (1 + offset) + offset)
    return (values.reshape(shape) / math.prod(shape[:-1]) ** 0.5).astype(dtype)


class Net(nn.Module):
    """A convolution, batch statistics, and a dense layer large enough to be split."""

    norm: bool = False
    dtype: str | None = None

    @nn.compact
    def __call__(self, images: Any, train: bool) -> Any:
        x = images.astype(jnp.float32) / 255 - 0.5
        options = {"kernel_init": waves, "dtype": self.dtype}
        x = nn.Conv(8, (3, 3), strides=2, **options, name="conv")(x)
        if self.norm:
            x = BatchNorm(dtype=self.dtype, name="norm")(x, use_running_average=not train)
        x = nn.tanh(x).reshape(len(x), -1)
        x = nn.tanh(nn.Dense(64, **options, name="dense")(x))
        return nn.Dense(10, **options, name="head")(x)


@dataclass(frozen=True)
class Classify:
    """Cross-entropy. With `masked` only the examples with `counts` 1 enter the loss; evaluation
    adds `noise` to the images."""

    model: nn.Module
    masked: bool = False
    noise: float = 0.0
    scale: float = 1.0

    def init(self, rng: Any, batch: Any) -> Any:
        return self.model.init(rng, batch["image"], train=False)

    def loss(self, params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
        variables = {"params": params, **collections}
        logits, collections = self.model.apply(
            variables, batch["image"], train=True, mutable=list(collections)
        )
        losses = self.scale * cross_entropy(logits, batch["label"])
        mask = batch["counts"] if self.masked else jnp.ones(len(losses))
        weight = jnp.sum(mask)
        metrics = {"accuracy": accuracy(logits, batch["label"], mask)}
        return jnp.sum(losses * mask) / jnp.maximum(weight, 1), Aux(metrics, collections, weight)

    def evaluate(self, params: Any, collections: Any, batch: Any, rng: Any) -> Mapping[str, Mean]:
        draw = lambda key: jax.random.uniform(key, batch["image"].shape[1:])  # noqa: E731
        noise = 255 * self.noise * jax.vmap(draw)(example_keys(rng, batch))
        variables = {"params": params, **collections}
        logits = self.model.apply(variables, batch["image"] + noise, train=False)
        losses = cross_entropy(logits, batch["label"])
        return {
            "loss": mean_of(losses, batch["mask"]),
            "perplexity": mean_of(losses, batch["mask"], finish="exp"),
            "accuracy": accuracy(logits, batch["label"], batch["mask"]),
        }


HARD: dict[str, Any] = {
    "objective": {
        "name": "small.Classify",
        "masked": True,
        "noise": 0.2,
        "model": {"name": "small.Net", "norm": True},
    },
    "ema_decay": 0.9,
    "evaluations": {"test": {"source": {"name": "small.Examples", "size": 77, "seed": 1}}},
}
"""Settings with all that could depend on how a batch is split: batch statistics, examples that
don't count, noise in evaluation, an average."""


def settings(**changed: Any) -> dict[str, Any]:
    """Ten steps on batches of 16, and what is changed: written by path, dots as `__`."""
    plain: dict[str, Any] = {
        "objective": {"name": "small.Classify", "model": {"name": "small.Net"}},
        "data": {"source": {"name": "small.Examples"}, "batch_size": 16},
        "duration": "10 steps",
        "optimizer": {"name": "momentum", "learning_rate": 0.05},
        "log_norms": False,
    }
    for path, value in changed.items():
        *parents, last = path.split("__")
        place = plain
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = copy.deepcopy(value)
    return plain


def experiment(**changed: Any) -> Experiment:
    """The checked experiment of these settings."""
    return check_experiment(settings(**changed))


def ready(**changed: Any) -> Prepared:
    """The prepared experiment of these settings."""
    return prepare(experiment(**changed), Path())


def compile_train(run: Prepared, state: Any) -> Any:
    """The training program as the loop compiles it."""
    return run.parallel.compile_train(
        lambda *arguments: run.program.train(run.dataset, *arguments), state
    )


def advance(
    run: Prepared, state: Any, start: int, calls: Sequence[int], compiled: Any = None
) -> tuple[Any, dict[str, np.ndarray]]:
    """The state after calls of so many steps each from step `start` on, and every metric's value
    at each step."""
    compiled = compiled or compile_train(run, state)
    arrays = run.parallel.put_arrays(run.dataset.arrays if run.on_device else {})
    history: dict[str, list[np.ndarray]] = {}
    ends = dict(zip(np.cumsum([start, *calls[:-1]]).tolist(), calls, strict=True))
    with closing(Feeds(run, start, ends.__getitem__)) as feeds:
        for index in range(len(calls)):
            count, feed = feeds.take()
            if index + 1 < len(calls):
                feeds.look_ahead()
            state, packed = compiled(state, arrays, feed, np.int32(count))
            for name, mean in run.parallel.to_host(packed).means().items():
                history.setdefault(name, []).append(mean.compute()[:count])
    return state, {name: np.concatenate(values) for name, values in history.items()}


def trained(**changed: Any) -> tuple[Prepared, Any, dict[str, np.ndarray]]:
    """The experiment trained to its end, in full calls: run, logical state, metrics."""
    run = ready(**changed)
    return run, *train_to_end(run)


def train_to_end(run: Prepared) -> tuple[Any, dict[str, np.ndarray]]:
    """The logical state and metrics of a run at its end, made in full calls."""
    length = run.experiment.steps_per_call
    calls = [min(length, run.steps.total - step) for step in range(0, run.steps.total, length)]
    state, history = advance(run, run.init(), 0, calls)
    return run.parallel.to_logical(state), history


def largest_difference(first: Any, second: Any) -> float:
    """The largest absolute difference between two trees of arrays of the same structure."""
    differences = jax.tree.map(
        lambda x, y: float(np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0.0)),
        first,
        second,
    )
    return float(np.max(jax.tree.leaves(differences), initial=0.0))  # NaN where there is one
