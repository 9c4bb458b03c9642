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
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, bool]]] = {
    "GPT": (LANGUAGE_MODELING, {**BLOCK, "scan_layers": True}, {"scan_layers": True}),
    "Llama": (
        LANGUAGE_MODELING,
        {**BLOCK, "mlp_dim": 128, "num_kv_heads": 2},
        {"grouped_queries": True, "tied": False},
    ),
    "BERT": (
        {"name": "sharded_transformers.Reconstruct"},
        {**BLOCK, "mlp_dim": 128, "dropout_rate": 0.0},
        {},
    ),
    "T5": (
        {"name": "sequence.SequenceToSequence"},
        {**SIZES, "head_dim": 16, "mlp_dim": 128, "scan_layers": True, "dropout_rate": 0.0},
        {"scan_layers": True},
    ),
}
"""The objective, the model and what the rules must know of it."""
MESH = {"mode": "mesh", "data": 2, "fsdp": 2, "tensor": 2}


@dataclass(frozen=True)
class Tokens:
    """Random tokens, under the names that the objectives want."""

    size: int = 32

    def open(self, data_dir: Path) -> Dataset:
        generator = np.random.default_rng(0)
        tokens = generator.integers(0, 128, (self.size, 9), np.int32)
        mask = np.ones((self.size, 9), np.float32)
        arrays = {"tokens": tokens, "source": tokens[:, ::-1], "target": tokens}
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
        model = {"name": f"sequence.{name}", **settings}
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
