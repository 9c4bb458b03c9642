"""The published GPT-2's numbers from our GPT, parameter by parameter, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from research.nn.transformer import Block
from research.sequence import GPT
from tests.parity import Fixture


def test_gpt2_computes_the_published_logits():
    fixture = Fixture("fixtures/gpt2")
    config = fixture.meta["config"]
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
        return fixture.param(f"transformer.{name}")

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
    tokens = fixture.input("input_ids")
    with jax.enable_x64(True):
        # Shapes are compared too: parameters of another shape raise.
        apply = functools.partial(
            model.apply, capture_intermediates=lambda module, _: isinstance(module, Block)
        )
        logits, captured = jax.jit(apply)({"params": params}, jnp.asarray(tokens))
    for layer in range(config["n_layer"]):
        expected = fixture.meta["activations"][f"transformer.h.{layer}"]
        (x,) = captured["intermediates"]["transformer"][f"block_{layer}"]["__call__"]
        x = np.asarray(x)
        got = {"mean": x.mean(), "std": x.std(), "norm": np.linalg.norm(x)}
        for name, value in got.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-9, err_msg=f"{layer} {name}")
    # The fixture keeps every 589th of the 50257 logits.
    fixture.assert_equal(np.asarray(logits)[..., ::589], "logits")
