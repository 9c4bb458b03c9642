"""The transformer (Vaswani et al., 2017): its block and the stack."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention import AttentionImplementation, MultiHeadAttention
from research.nn.dropout import Dropout, is_off
from research.nn.mlp import MLP, Activation
from research.nn.norm import BatchNorm
from research.nn.stochastic_depth import StochasticDepth


class TransformerSettings(nn.Module, kw_only=True):
    """What a block and a stack of blocks are made of; abstract.

    `norm_first` normalises what enters a branch (pre-norm; Xiong et al., 2020), without it what
    leaves the sum (post-norm, as published). `norm` "rms" has neither mean nor bias (Zhang and
    Sennrich, 2019); "batch" normalises each feature over all positions of all examples (Zerveas et
    al., 2021), masked ones among them. `gated` is of the MLP, and `num_kv_heads`, `head_dim`,
    `window`, `attention_scale` and `rotary_base` are of `MultiHeadAttention`. `cross_attention`
    attends to the memory of an encoder, too. `dropout_rate` is of the residual branches.
    `out_kernel_init` initialises the last kernel of each; GPT-2 has normal(0.02) everywhere but
    normal(0.02 / sqrt(2 * num_layers)) there.
    """

    num_heads: int
    mlp_dim: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    activation: Activation = "gelu_tanh"
    gated: bool = False
    norm: Literal["layer", "rms", "batch"] = "layer"
    norm_first: bool = True
    causal: bool = False
    window: int | None = None
    attention_scale: float | None = None
    rotary_base: float | None = None
    cross_attention: bool = False
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

    def settings(self) -> dict[str, Any]:
        """These fields, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(TransformerSettings)
            if field.name not in ("parent", "name")
        }

    def make_norm(self, name: str) -> nn.Module:
        """The normalisation of this name, for `normalised`."""
        settings: dict[str, Any] = {
            "epsilon": self.epsilon,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "name": name,
        }
        if self.norm == "rms":
            return nn.RMSNorm(**settings)
        if self.norm == "batch":
            return BatchNorm(use_bias=self.use_bias, **settings)
        return nn.LayerNorm(use_bias=self.use_bias, **settings)


def normalised(norm: Any, x: Float[Array, "..."], deterministic: bool) -> Float[Array, "..."]:
    """What a normalisation of `make_norm` gives; that over the batch has running statistics."""
    return norm(x, deterministic) if isinstance(norm, BatchNorm) else norm(x)


class Block(TransformerSettings):
    """Self-attention, attention to a memory where there is one, and an MLP, each with a residual.

    Parameters: `attention`, `attention_norm`, `cross_attention`, `cross_attention_norm`, `mlp` and
    `mlp_norm`.
    """

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length features"],
        *,
        memory: Float[Array, "batch keys features"] | None = None,
        key_mask: Bool[Array, "batch length"] | None = None,
        memory_mask: Bool[Array, "batch keys"] | None = None,
        segments: Int[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        bias: Float[Array, "#batch num_heads length _keys"] | None = None,
        deterministic: bool = True,
        use_cache: bool = False,
        stochastic_depth_rate: Any = 0.0,
    ) -> Float[Array, "batch length features"]:
        """Applies the block.

        `key_mask` and `memory_mask` are true where a position may be attended to;
        `segments`, `positions`, `bias` (of self-attention) and `use_cache` are
        `MultiHeadAttention`'s, and `stochastic_depth_rate` is the probability that an example
        skips a branch. Both kinds of dropout need an rng named "dropout" unless `deterministic`.

        Raises ValueError for `cross_attention` without a memory, and for a memory without it.
        """
        if self.cross_attention == (memory is None):
            has = "no memory" if memory is None else "a memory"
            raise ValueError(f"cross_attention={self.cross_attention}, but there is {has}")
        shared: dict[str, Any] = {
            "use_bias": self.use_bias,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": self.kernel_init,
            "out_kernel_init": self.out_kernel_init,
            "bias_init": self.bias_init,
        }
        attention: Any = partial(
            MultiHeadAttention,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            scale=self.attention_scale,
            dropout_rate=self.attention_dropout_rate,
            implementation=self.implementation,
            **shared,
        )
        attend = partial(
            attention(
                causal=self.causal,
                window=self.window,
                rotary_base=self.rotary_base,
                name="attention",
            ),
            key_mask=key_mask,
            segments=segments,
            positions=positions,
            bias=bias,
            deterministic=deterministic,
            use_cache=use_cache,
        )
        mlp = MLP(
            hidden_dim=self.mlp_dim,
            activation=self.activation,
            gated=self.gated,
            dropout_rate=self.mlp_dropout_rate,
            name="mlp",
            **shared,
        )
        dropout = partial(Dropout(self.dropout_rate), deterministic=deterministic)
        skip = partial(StochasticDepth(stochastic_depth_rate), deterministic=deterministic)

        def add(x: Array, branch: Any, name: str) -> Array:
            norm = self.make_norm(f"{name}_norm")
            if self.norm_first:
                return x + skip(dropout(branch(normalised(norm, x, deterministic))))
            return normalised(norm, x + skip(dropout(branch(x))), deterministic)

        x = add(x, attend, "attention")
        if self.cross_attention:
            cross = partial(
                attention(name="cross_attention"),
                key=memory,
                key_mask=memory_mask,
                deterministic=deterministic,
                use_cache=use_cache,
            )
            x = add(x, cross, "cross_attention")
        return add(x, partial(mlp, deterministic=deterministic), "mlp")


class Transformer(TransformerSettings):
    """`num_layers` blocks and, unless `final_norm` is False, a normalisation, `final_norm`.

    `scan_layers` compiles one block and loops over it: parameters of all layers are stacked along
    a leading axis under `blocks`, where they are `block_0`, `block_1`, … without. It compiles
    faster, and may run slower on GPUs. `remat` recomputes each block in the backward pass, which
    keeps one activation a layer instead of all. `stochastic_depth_rate` is the last block's; it
    grows linearly from 0.
    """

    num_layers: int
    final_norm: bool = True
    scan_layers: bool = False
    remat: bool = False
    stochastic_depth_rate: float = 0.0

    def setup(self) -> None:
        if self.final_norm:
            self.last_norm = self.make_norm("norm")

    def __call__(
        self, x: Float[Array, "batch length features"], **arguments: Any
    ) -> Float[Array, "batch length features"]:
        """Applies all blocks and the final norm; arguments as for `Block`."""
        x, _ = self._blocks(x, keep=False, **arguments)
        return self._last(x, **arguments)

    def layers(
        self, x: Float[Array, "batch length features"], **arguments: Any
    ) -> list[Float[Array, "batch length features"]]:
        """The output of every block, and of the final norm where there is one."""
        x, outputs = self._blocks(x, keep=True, **arguments)
        return [*outputs, self._last(x, **arguments)] if self.final_norm else outputs

    def _last(self, x: Array, *, deterministic: bool = True, **_: Any) -> Array:
        return normalised(self.last_norm, x, deterministic) if self.final_norm else x

    @nn.compact
    def _blocks(self, x: Array, keep: bool, **arguments: Any) -> tuple[Array, list[Array]]:
        """The last block's output, and those of all where they are to be kept."""

        def apply(block: Block, x: Array, rate: Any) -> Array:
            return block(x, stochastic_depth_rate=rate, **arguments)

        if self.remat:  # inside a scan XLA cannot undo the recomputation, so it needs no barrier
            apply = nn.remat(apply, prevent_cse=not self.scan_layers)
        settings = self.settings()
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
            variable_axes={"params": 0, "cache": 0, "intermediates": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.num_layers,
        )
        skips = not is_off(self.stochastic_depth_rate)
        x, stacked = scan(
            Block(**settings, name="blocks"), x, jnp.asarray(rates) if skips else None
        )
        return x, outputs if stacked is None else list(stacked)


def unscanned(model: nn.Module, variables: Any) -> tuple[nn.Module, Any]:
    """The same model without a scan over its layers, and its variables. Each token that is written
    would have the parameters of all layers copied out of their stack."""
    if not getattr(model, "scan_layers", False):
        return model, variables

    def unstack(tree: Any) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        apart: dict[str, Any] = {}
        for name, inside in tree.items():
            if name == "blocks":
                for layer in range(len(jax.tree.leaves(inside)[0])):
                    apart[f"block_{layer}"] = jax.tree.map(lambda x, i=layer: x[i], inside)
            else:
                apart[name] = unstack(inside)
        return apart

    return model.clone(scan_layers=False), unstack(variables)
