"""The published GPT-2's numbers from our GPT, parameter by parameter, in float64."""

import hashlib
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.sequence import GPT

FOLDER = Path(
    os.environ.get("RESEARCH_PARITY_DIR", Path(__file__).parents[3] / "shared" / "parity")
)


def draw(meta, name):
    """A parameter as the fixtures' README draws it, in PyTorch's shape."""
    digest = hashlib.sha256(f"{meta['seed']}/{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    shape = meta["params"][name]
    if len(shape) >= 2:
        std = np.sqrt(2 / (shape[0] + np.prod(shape) / shape[0])) * meta["gain"]
        return generator.normal(size=shape) * std
    if name.endswith("weight"):
        return 0.5 + generator.random(shape)
    return 0.1 * generator.normal(size=shape)


def draw_input(meta, name):
    spec = meta["inputs"][name]
    digest = hashlib.sha256(f"{meta['seed']}/{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    return generator.integers(spec["low"], spec["high"], size=spec["shape"])


def test_gpt2_computes_the_published_logits():
    path = FOLDER / "fixtures" / "gpt2.npz"
    if not path.exists():
        pytest.skip(f"no parity fixtures: {path} is absent (set RESEARCH_PARITY_DIR)")
    with np.load(path) as archive:
        meta, expected = json.loads(str(archive["meta"])), archive["logits"]
    config = meta["config"]
    heads, features = config["n_head"], config["n_embd"]
    model = GPT(
        vocab_size=config["vocab_size"],
        block_size=config["n_positions"],
        num_layers=config["n_layer"],
        num_heads=heads,
        embed_dim=features,
        dtype="float64",
    )

    def torch(name):
        return draw(meta, f"transformer.{name}")

    def norm(name):
        return {"scale": torch(f"{name}.weight"), "bias": torch(f"{name}.bias")}

    def dense(name, in_shape, out_shape):
        kernel = torch(f"{name}.weight").reshape(*in_shape, *out_shape)
        return {"kernel": kernel, "bias": torch(f"{name}.bias").reshape(out_shape)}

    def block(name):
        by_head = (heads, features // heads)
        return {
            "attention_norm": norm(f"{name}.ln_1"),
            "attention": {
                "qkv": dense(f"{name}.attn.c_attn", (features,), (3, *by_head)),
                "out": dense(f"{name}.attn.c_proj", by_head, (features,)),
            },
            "mlp_norm": norm(f"{name}.ln_2"),
            "mlp": {
                "up": dense(f"{name}.mlp.c_fc", (features,), (4 * features,)),
                "down": dense(f"{name}.mlp.c_proj", (4 * features,), (features,)),
            },
        }

    blocks = {f"block_{layer}": block(f"h.{layer}") for layer in range(config["n_layer"])}
    params = {
        "token_embedding": {"embedding": torch("wte.weight")},
        "position_embedding": {"embedding": torch("wpe.weight")},
        "transformer": {**blocks, "norm": norm("ln_f")},
    }
    tokens = draw_input(meta, "input_ids")
    with jax.enable_x64(True):
        # Shapes are compared too: parameters of another shape raise.
        logits = jax.jit(model.apply)({"params": params}, jnp.asarray(tokens))
    step = int(meta["outputs"]["logits"]["slice"].partition("::")[2].rstrip("]"))
    error = np.abs(np.asarray(logits)[..., ::step] - expected).max()
    assert error < 1e-9 * meta["outputs"]["logits"]["std"]
