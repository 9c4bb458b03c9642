"""The smallest objective there is, for tests of what runs it many times."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.data.dataset import Dataset
from research.engine.metrics import Mean, mean_of
from research.engine.objective import Aux


@dataclass(frozen=True)
class Numbers:
    """Numbers around 1."""

    size: int = 16

    def open(self, data_dir: Path) -> Dataset:
        x = 1 + 0.1 * np.random.default_rng(0).standard_normal((self.size, 1), np.float32)
        return Dataset(self.size, {"x": x})


@dataclass(frozen=True)
class Quadratic:
    """(w - x)²: with a learning rate above 1 it grows without bound. `width` is the number of
    parameters, all alike; with `fails` every trial raises an error."""

    scale: float = 1.0
    width: int = 1
    fails: bool = False

    def init(self, rng: Any, batch: Any) -> Any:
        return {"params": {"model": {"kernel": jax.random.normal(rng, (self.width,))}}}

    def loss(self, params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
        if self.fails:
            raise RuntimeError("broken on purpose")
        noise = 0.01 * jax.random.normal(rng, batch["x"].shape)
        return jnp.mean((params["model"]["kernel"] - batch["x"] - noise) ** 2) * self.scale, Aux()

    def evaluate(self, params: Any, collections: Any, batch: Any, rng: Any) -> Mapping[str, Mean]:
        return {
            "loss": mean_of((params["model"]["kernel"] - batch["x"]).mean(-1) ** 2, batch["mask"])
        }
