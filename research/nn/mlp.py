"""The transformer's feed-forward network."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jax import lax
from jaxtyping import Array, Float

from research.nn.dropout import Dropout

Activation = Literal["gelu_tanh", "gelu", "relu", "silu"]

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "gelu": partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
"""GPT-2 takes `gelu_tanh`; BERT and ViT the exact `gelu`, which differs by up to 5e-4."""


PIECE = 256


class MLP(nn.Module):
    """Two dense layers, `up` and `down`; the output has the input's features.

    `gated` multiplies `up` by the activation of a third, `gate` (Shazeer, 2020: SwiGLU with
    "silu"). Dropout is after the activation and needs an rng named "dropout" unless
    `deterministic`.
    """

    hidden_dim: int
    activation: Activation = "gelu_tanh"
    gated: bool = False
    dropout_rate: float = 0.0
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch features"], *, deterministic: bool = True
    ) -> Float[Array, "*batch features"]:
        """Applies the network to each position."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {list(ACTIVATIONS)}, got {self.activation!r}"
            )
        dense = partial(
            nn.Dense,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            bias_init=self.bias_init,
        )
        # On CPU the bias's gradient, a sum over all positions, is fast over one axis only.
        flat = x.reshape(-1, x.shape[-1])
        hidden = dense(self.hidden_dim, kernel_init=self.kernel_init, name="up")(flat)
        if self.gated:
            gate = dense(self.hidden_dim, kernel_init=self.kernel_init, name="gate")(flat)
            hidden = ACTIVATIONS[self.activation](gate) * hidden
        else:
            hidden = ACTIVATIONS[self.activation](hidden)
        hidden = Dropout(self.dropout_rate)(hidden, deterministic)
        out_kernel_init = self.out_kernel_init or self.kernel_init
        down = dense(
            x.shape[-1], kernel_init=out_kernel_init, dot_general=_dot_general, name="down"
        )
        return down(hidden).reshape(x.shape)


def _dot_general(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
    """`lax.dot_general`; of one row, such as a token that is written, in pieces."""
    length = x.shape[-1]
    if len(x) > 1 or x.dtype != jnp.float32 or length <= PIECE or length % PIECE:
        return lax.dot_general(x, kernel, dimension_numbers, **options)
    # On CPU a vector times a long, narrow matrix reads it at two thirds of the memory's speed.
    pieces = x.reshape(-1, PIECE), kernel.reshape(-1, PIECE, kernel.shape[-1])
    return lax.dot_general(*pieces, (((1,), (1,)), ((0,), (0,))), **options).sum(0, keepdims=True)
