"""Transformers on a mesh of eight devices, by the rules of `nn.sharding`: how far they are from one
device, and what is split. A process of its own, as `eight_devices`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import small

from research.data.dataset import Dataset
from research.engine.metrics import cross_entropy, mean_of
from research.engine.objective import Aux
from research.nn.sharding import transformer_rules

LARGE = 4096
SIZES = {"vocab_size": 128, "num_layers": 2, "num_heads": 4, "embed_dim": 64}
BLOCK = {**SIZES, "block_size": 8}
LANGUAGE_MODELING = {"name": "sequence.LanguageModeling"}
NO_TOKENS = {"embedding": False, "tied": False}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, bool]]] = {
    "sequence.GPT": (LANGUAGE_MODELING, {**BLOCK, "scan_layers": True}, {"scan_layers": True}),
    "sequence.Llama": (
        LANGUAGE_MODELING,
        {**BLOCK, "mlp_dim": 128, "num_kv_heads": 2},
        {"grouped_queries": True, "tied": False},
    ),
    "sequence.BERT": (
        {"name": "sharded_transformers.Reconstruct"},
        {**BLOCK, "mlp_dim": 128, "dropout_rate": 0.0},
        {},
    ),
    "sequence.T5": (
        {"name": "sequence.SequenceToSequence"},
        {**SIZES, "head_dim": 16, "mlp_dim": 128, "scan_layers": True, "dropout_rate": 0.0},
        {"scan_layers": True},
    ),
    "vision.ViT": (
        {"name": "sharded_transformers.Fit", "shape": (16, 16, 1)},
        {
            "num_classes": 4,
            "num_layers": 2,
            "num_heads": 4,
            "embed_dim": 64,
            "mlp_dim": 128,
            "patch_size": 8,
            "scan_layers": True,
        },
        {**NO_TOKENS, "scan_layers": True},
    ),
    "sequence.Conformer": (
        {"name": "sharded_transformers.Fit", "shape": (32, 8)},
        {
            "num_classes": 4,
            "stem_channels": 8,
            "num_layers": 1,
            "num_heads": 4,
            "embed_dim": 64,
            "mlp_dim": 128,
            "dropout_rate": 0.0,
            "conv_norm": "layer",
        },
        NO_TOKENS,
    ),
}
"""The objective, the model and what the rules must know of it."""
MESH = {"mode": "mesh", "data": 2, "fsdp": 2, "tensor": 2}


@dataclass(frozen=True)
class Tokens:
    """Random tokens and numbers, under the names that the objectives want."""

    size: int = 32

    def open(self, data_dir: Path) -> Dataset:
        generator = np.random.default_rng(0)
        tokens = generator.integers(0, 128, (self.size, 9), np.int32)
        mask = np.ones((self.size, 9), np.float32)
        numbers = generator.normal(size=(self.size, 256)).astype(np.float32)
        arrays = {"tokens": tokens, "source": tokens[:, ::-1], "target": tokens, "numbers": numbers}
        return Dataset(self.size, {**arrays, "source_mask": mask, "target_mask": mask})


@dataclass(frozen=True)
class Reconstruct:
    """The cross-entropy of the tokens themselves, for encoders."""

    model: nn.Module

    def init(self, rng: Any, batch: Any) -> Any:
        return self.model.init(rng, batch["tokens"][:, :8])

    def loss(self, params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
        tokens = batch["tokens"][:, :8]
        logits = self.model.apply({"params": params}, tokens, train=True)
        return cross_entropy(logits, (tokens + 1) % 128).mean(), Aux()

    def evaluate(self, params: Any, collections: Any, batch: Any, rng: Any) -> Mapping[str, Any]:
        logits = self.model.apply({"params": params}, batch["tokens"][:, :8])
        return {"loss": mean_of(cross_entropy(logits, batch["tokens"][:, :8]))}


@dataclass(frozen=True)
class Fit:
    """The squared error of what is made of numbers in this shape."""

    model: nn.Module
    shape: tuple[int, ...]

    def init(self, rng: Any, batch: Any) -> Any:
        return self.model.init(rng, batch["numbers"].reshape(-1, *self.shape))

    def loss(self, params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Any, Aux]:
        return self._errors(params, batch, train=True).mean(), Aux()

    def evaluate(self, params: Any, collections: Any, batch: Any, rng: Any) -> Mapping[str, Any]:
        return {"loss": mean_of(self._errors(params, batch, train=False))}

    def _errors(self, params: Any, batch: Any, train: bool) -> Any:
        numbers = batch["numbers"].reshape(-1, *self.shape)
        outputs = self.model.apply({"params": params}, numbers, train=train)
        outputs = outputs.reshape(len(numbers), -1)
        return (outputs - batch["numbers"][:, : outputs.shape[1]]) ** 2


def train(objective: Mapping[str, Any], model: Mapping[str, Any], parallelism: Any) -> Any:
    """The state before and after three steps, and the losses."""
    run = small.ready(
        objective={**objective, "model": model},
        data__source={"name": "sharded_transformers.Tokens"},
        data__batch_size=8,
        duration="3 steps",
        steps_per_call=3,
        parallelism=parallelism,
    )
    state = run.init()
    before = jax.tree.map(lambda x: (x.shape, x.sharding.shard_shape(x.shape)), state.params)
    after, history = small.advance(run, state, 0, [3])
    return before, jax.tree.map(np.asarray, after.params), history["loss"]


def report(folder: Path) -> None:
    """Writes what it measures to `report.json`."""
    measured: dict[str, Any] = {"devices": jax.device_count()}
    for name, (objective, settings, flags) in MODELS.items():
        model = {"name": name, **settings}
        _, expected, losses = train(objective, model, {"mode": "jit"})
        rules = [[path, list(axes)] for path, axes in transformer_rules(**flags)]
        places, found, split_losses = train(objective, model, {**MESH, "rules": rules})
        leaves = jax.tree_util.tree_leaves_with_path(places, is_leaf=lambda x: type(x) is tuple)
        measured[name] = {
            "difference": small.largest_difference(found, expected),
            "losses": [losses.tolist(), split_losses.tolist()],
            "parts": {
                jax.tree_util.keystr(path, simple=True, separator="/"): [
                    int(np.prod(whole)),
                    int(np.prod(whole) / np.prod(part)),
                ]
                for path, (whole, part) in leaves
            },
        }
    (folder / "report.json").write_text(json.dumps(measured))
