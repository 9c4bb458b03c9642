"""Pre-norm transformer (Xiong et al., 2020): its block and the stack."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Bool, Float

from research.nn.attention import AttentionImplementation, MultiHeadAttention
from research.nn.dropout import Dropout
from research.nn.mlp import MLP, Activation


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    `dropout_rate` is of both residual branches. `out_kernel_init` initialises the last kernel of
    both; GPT-2 has normal(0.02) everywhere but normal(0.02 / sqrt(2 * num_layers)) there.
    """

    num_heads: int
    mlp_dim: int
    activation: Activation = "gelu_tanh"
    causal: bool = False
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    mlp_dropout_rate: float = 0.0
    epsilon: float = 1e-5
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros
    implementation: AttentionImplementation = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length features"],
        *,
        key_mask: Bool[Array, "batch length"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch length features"]:
        """Applies the block; `key_mask` is true where a position may be attended to.

        Dropout needs an rng named "dropout" unless `deterministic`.
        """
        norm = partial(
            nn.LayerNorm,
            epsilon=self.epsilon,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        shared: dict[str, Any] = {
            "use_bias": self.use_bias,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": self.kernel_init,
            "out_kernel_init": self.out_kernel_init,
            "bias_init": self.bias_init,
        }
        attention = MultiHeadAttention(
            num_heads=self.num_heads,
            causal=self.causal,
            dropout_rate=self.attention_dropout_rate,
            implementation=self.implementation,
            name="attention",
            **shared,
        )
        mlp = MLP(
            hidden_dim=self.mlp_dim,
            activation=self.activation,
            dropout_rate=self.mlp_dropout_rate,
            name="mlp",
            **shared,
        )
        dropout = partial(Dropout(self.dropout_rate), deterministic=deterministic)
        branch = attention(
            norm(name="attention_norm")(x), key_mask=key_mask, deterministic=deterministic
        )
        x = x + dropout(branch)
        return x + dropout(mlp(norm(name="mlp_norm")(x), deterministic=deterministic))


class Transformer(nn.Module):
    """`num_layers` blocks and a final layer norm; the fields of `Block` besides its own.

    `scan_layers` compiles one block and loops over it: parameters of all layers are stacked along
    a leading axis under `blocks`, where they are `block_0`, `block_1`, … without. It compiles
    faster, and may run slower on GPUs. `remat` recomputes each block in the backward pass, which
    keeps one activation a layer instead of all.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    scan_layers: bool = False
    remat: bool = False
    activation: Activation = "gelu_tanh"
    causal: bool = False
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    mlp_dropout_rate: float = 0.0
    epsilon: float = 1e-5
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros
    implementation: AttentionImplementation = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length features"],
        *,
        key_mask: Bool[Array, "batch length"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch length features"]:
        """Applies all blocks and the final norm; arguments as for `Block`."""

        def apply(block: Block, x: Array) -> Array:
            return block(x, key_mask=key_mask, deterministic=deterministic)

        if self.remat:  # inside a scan XLA cannot undo the recomputation, so it needs no barrier
            apply = nn.remat(apply, prevent_cse=not self.scan_layers)
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Block)
            if field.name not in ("parent", "name")
        }
        if self.scan_layers:
            scan = nn.scan(
                lambda block, x, _: (apply(block, x), None),
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                length=self.num_layers,
            )
            x, _ = scan(Block(**settings, name="blocks"), x, None)
        else:
            for layer in range(self.num_layers):
                x = apply(Block(**settings, name=f"block_{layer}"), x)
        return nn.LayerNorm(
            epsilon=self.epsilon,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="norm",
        )(x)
