"""Pre-norm transformer (Xiong et al., 2020): its block and the stack."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Bool, Float

from research.nn.attention import AttentionImplementation, MultiHeadAttention
from research.nn.dropout import Dropout, is_off
from research.nn.mlp import MLP, Activation
from research.nn.stochastic_depth import StochasticDepth


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
        stochastic_depth_rate: Any = 0.0,
    ) -> Float[Array, "batch length features"]:
        """Applies the block; `key_mask` is true where a position may be attended to, and
        `stochastic_depth_rate` is the probability that an example skips a branch.

        Both kinds of dropout need an rng named "dropout" unless `deterministic`.
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
        skip = partial(StochasticDepth(stochastic_depth_rate), deterministic=deterministic)
        branch = attention(
            norm(name="attention_norm")(x), key_mask=key_mask, deterministic=deterministic
        )
        x = x + skip(dropout(branch))
        return x + skip(dropout(mlp(norm(name="mlp_norm")(x), deterministic=deterministic)))


class Transformer(nn.Module):
    """`num_layers` blocks and, unless `final_norm` is False, a layer norm; the fields of `Block`
    besides its own.

    `scan_layers` compiles one block and loops over it: parameters of all layers are stacked along
    a leading axis under `blocks`, where they are `block_0`, `block_1`, … without. It compiles
    faster, and may run slower on GPUs. `remat` recomputes each block in the backward pass, which
    keeps one activation a layer instead of all. `stochastic_depth_rate` is the last block's; it
    grows linearly from 0.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    final_norm: bool = True
    scan_layers: bool = False
    remat: bool = False
    activation: Activation = "gelu_tanh"
    causal: bool = False
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    mlp_dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.0
    epsilon: float = 1e-5
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros
    implementation: AttentionImplementation = "auto"

    def setup(self) -> None:
        if self.final_norm:
            self.norm = nn.LayerNorm(
                epsilon=self.epsilon,
                use_bias=self.use_bias,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
            )

    def __call__(
        self,
        x: Float[Array, "batch length features"],
        *,
        key_mask: Bool[Array, "batch length"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch length features"]:
        """Applies all blocks and the final norm; arguments as for `Block`."""
        x, _ = self._blocks(x, key_mask, deterministic, keep=False)
        return self.norm(x) if self.final_norm else x

    def layers(
        self,
        x: Float[Array, "batch length features"],
        *,
        key_mask: Bool[Array, "batch length"] | None = None,
        deterministic: bool = True,
    ) -> list[Float[Array, "batch length features"]]:
        """The output of every block, and of the final norm where there is one."""
        x, outputs = self._blocks(x, key_mask, deterministic, keep=True)
        return [*outputs, self.norm(x)] if self.final_norm else outputs

    @nn.compact
    def _blocks(
        self, x: Array, key_mask: Array | None, deterministic: bool, keep: bool
    ) -> tuple[Array, list[Array]]:
        """The last block's output, and those of all where they are to be kept."""

        def apply(block: Block, x: Array, rate: Any) -> Array:
            return block(
                x, key_mask=key_mask, deterministic=deterministic, stochastic_depth_rate=rate
            )

        if self.remat:  # inside a scan XLA cannot undo the recomputation, so it needs no barrier
            apply = nn.remat(apply, prevent_cse=not self.scan_layers)
        settings: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Block)
            if field.name not in ("parent", "name")
        }
        last = max(1, self.num_layers - 1)
        rates = [self.stochastic_depth_rate * layer / last for layer in range(self.num_layers)]
        outputs: list[Array] = []
        if not self.scan_layers:
            for layer, rate in enumerate(rates):
                x = apply(Block(**settings, name=f"block_{layer}"), x, rate)
                if keep:
                    outputs.append(x)
            return x, outputs

        def step(block: Block, x: Array, rate: Any) -> tuple[Array, Array | None]:
            x = apply(block, x, 0.0 if rate is None else rate)
            return x, x if keep else None

        scan = nn.scan(
            step,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.num_layers,
        )
        skips = not is_off(self.stochastic_depth_rate)
        x, stacked = scan(
            Block(**settings, name="blocks"), x, jnp.asarray(rates) if skips else None
        )
        return x, outputs if stacked is None else list(stacked)
