"""A small experiment that the engine's tests share: a source, a model, an objective, a run."""

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
    """Random 8×8 images, labels, and which of them count: more of the first half of a batch."""

    size: int = 250
    seed: int = 0

    def open(self, data_dir: Path) -> Dataset:
        generator = np.random.default_rng(self.seed)
        image = generator.integers(0, 256, (self.size, 8, 8, 1), np.uint8)
        label = generator.integers(0, 10, self.size, np.int32)
        counts = (generator.random(self.size) < 0.6).astype(np.float32)
        return Dataset(self.size, {"image": image, "label": label, "counts": counts})


class Net(nn.Module):
    """A convolution, batch statistics, and a dense layer large enough to be split."""

    norm: bool = False
    dtype: str | None = None

    @nn.compact
    def __call__(self, images: Any, train: bool) -> Any:
        x = images.astype(jnp.float32) / 255 - 0.5
        x = nn.Conv(8, (3, 3), strides=2, dtype=self.dtype, name="conv")(x)
        if self.norm:
            x = BatchNorm(dtype=self.dtype, name="norm")(x, use_running_average=not train)
        x = nn.tanh(x).reshape(len(x), -1)
        x = nn.tanh(nn.Dense(64, dtype=self.dtype, name="dense")(x))
        return nn.Dense(10, dtype=self.dtype, name="head")(x)


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
        return jnp.sum(losses * mask) / weight, Aux(metrics, collections, weight)

    def evaluate(
        self, params: Any, collections: Any, batch: Any, rng: Any
    ) -> Mapping[str, Mean]:
        draw = lambda key: jax.random.normal(key, batch["image"].shape[1:])  # noqa: E731
        noise = 255 * self.noise * jax.vmap(draw)(example_keys(rng, batch))
        variables = {"params": params, **collections}
        logits = self.model.apply(variables, batch["image"] + noise, train=False)
        losses = cross_entropy(logits, batch["label"])
        return {
            "loss": mean_of(losses, batch["mask"]),
            "perplexity": mean_of(losses, batch["mask"], finish="exp"),
            "accuracy": accuracy(logits, batch["label"], batch["mask"]),
        }


def experiment(**settings: Any) -> Experiment:
    """The experiment: ten steps on batches of 16. Settings are written by path, dots as `__`."""
    plain: dict[str, Any] = {
        "objective": {"name": "small.Classify", "model": {"name": "small.Net"}},
        "data": {"source": {"name": "small.Examples"}, "batch_size": 16},
        "duration": "10 steps",
        "optimizer": {"name": "momentum", "learning_rate": 0.05},
        "log_norms": False,
    }
    for path, value in settings.items():
        *parents, last = path.split("__")
        place = plain
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    return check_experiment(plain)


def ready(**settings: Any) -> Prepared:
    """The prepared experiment."""
    return prepare(experiment(**settings), Path())


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
    with closing(Feeds(run, start)) as feeds:
        for count in calls:
            feed = feeds.take(count)
            state, packed = compiled(run.trial, state, arrays, feed, np.int32(count))
            for name, mean in run.parallel.to_host(packed).means().items():
                history.setdefault(name, []).append(mean.compute()[:count])
    return state, {name: np.concatenate(values) for name, values in history.items()}


def trained(**settings: Any) -> tuple[Prepared, Any, dict[str, np.ndarray]]:
    """The experiment trained to its end, in full calls: run, logical state, metrics."""
    run = ready(**settings)
    length = run.experiment.steps_per_call
    calls = [min(length, run.steps.total - step) for step in range(0, run.steps.total, length)]
    state, history = advance(run, run.init(), 0, calls)
    return run, run.parallel.to_logical(state), history


def largest_difference(first: Any, second: Any) -> float:
    """The largest absolute difference between two trees of arrays of the same structure."""
    differences = jax.tree.map(
        lambda x, y: float(np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0.0)),
        first,
        second,
    )
    return max(jax.tree.leaves(differences), default=0.0)
