"""T5: an encoder and a decoder that turn text into text (Raffel et al., 2020)."""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention import AttentionImplementation
from research.nn.dropout import Dropout
from research.nn.logits import LogitsHead, tied_logits
from research.nn.relative_position import RelativePositionBias
from research.nn.transformer import Transformer
from research.sequence.translator import Translator


class T5(Translator):
    """Pre-norm blocks with RMS norms, no biases, scores that are not scaled, and one table of
    relative positions each for all layers of encoder and decoder.

    The defaults are T5-small's. T5 1.1 has `activation` "gelu_tanh", `gated` MLPs and
    `tie_embeddings=False`; tied logits are divided by √embed_dim. Kernels are normal(1 / √inputs),
    embeddings normal(1). For `scan_layers` and `remat` see `nn.transformer.Transformer`.
    """

    vocab_size: int = 32_128
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    head_dim: int = 64
    embed_dim: int = 512
    mlp_dim: int = 2048
    activation: Literal["relu", "gelu_tanh"] = "relu"
    gated: bool = False
    num_buckets: int = 32
    max_distance: int = 128
    dropout_rate: float = 0.1
    epsilon: float = 1e-6
    tie_embeddings: bool = True
    dtype: str | None = None
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention_implementation: AttentionImplementation = "auto"

    def setup(self) -> None:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        self.token_embedding = nn.Embed(
            self.vocab_size, self.embed_dim, embedding_init=nn.initializers.normal(1.0), **types
        )
        stack: Any = partial(
            Transformer,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            mlp_dim=self.mlp_dim,
            activation=self.activation,
            gated=self.gated,
            norm="rms",
            attention_scale=1.0,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.dropout_rate,
            mlp_dropout_rate=self.dropout_rate,
            epsilon=self.epsilon,
            use_bias=False,
            scan_layers=self.scan_layers,
            remat=self.remat,
            kernel_init=init,
            implementation=self.attention_implementation,
            **types,
        )
        bias: Any = partial(
            RelativePositionBias,
            num_heads=self.num_heads,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
            param_dtype=self.param_dtype,
            embedding_init=nn.initializers.normal(self.embed_dim**-0.5),
        )
        self.encoder = stack(num_layers=self.num_layers)
        self.encoder_bias = bias()
        decoder_layers = self.num_decoder_layers or self.num_layers
        self.decoder = stack(num_layers=decoder_layers, causal=True, cross_attention=True)
        self.decoder_bias = bias(bidirectional=False)
        self.dropout = Dropout(self.dropout_rate)
        if not self.tie_embeddings:
            self.head = LogitsHead(self.vocab_size, kernel_init=init, **types)

    def encode(
        self,
        source: Int[Array, "batch source_length"],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
    ) -> Float[Array, "batch source_length features"]:
        """The encoder's output, which the decoder attends to."""
        places = jnp.arange(source.shape[1])
        x = self.encoder(
            self.dropout(self.token_embedding(source), not train),
            key_mask=source_mask,
            bias=self.encoder_bias(places, places),
            deterministic=not train,
        )
        return self.dropout(x, not train)

    def decode(
        self,
        target: Int[Array, "batch length"],
        memory: Float[Array, "batch source_length features"],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        target_mask: Bool[Array, "batch length"] | None = None,
        positions: Int[Array, "1 length"] | None = None,
        use_cache: bool = False,
    ) -> Float[Array, "batch length vocab_size"]:
        """As of `Translator`."""
        places = jnp.arange(target.shape[1])
        queries = places if positions is None else positions[0]
        x = self.decoder(
            self.dropout(self.token_embedding(target), not train),
            memory=memory,
            key_mask=target_mask,
            memory_mask=source_mask,
            bias=self.decoder_bias(queries, places, use_cache),
            deterministic=not train,
            use_cache=use_cache,
        )
        x = self.dropout(x, not train)
        if self.tie_embeddings:
            return tied_logits(x * self.embed_dim**-0.5, self.token_embedding.embedding)
        return self.head(x)
