"""The Transformer of tokens to tokens (Vaswani et al., 2017)."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.nn.attention import AttentionImplementation
from research.nn.dropout import Dropout
from research.nn.encoder_decoder import EncoderDecoder
from research.nn.logits import LogitsHead, tied_logits
from research.nn.mlp import Activation
from research.nn.sine import sine_embedding
from research.sequence.length import check_length
from research.sequence.translator import Translator


class TranslationTransformer(Translator):
    """Scaled token embeddings and sine positions, an encoder and a decoder.

    The defaults are the paper's base model: post-norm blocks with ReLU and no norm behind the last,
    one vocabulary, and one embedding for source, target and logits (`share_embeddings`).
    `norm_first` puts norms before the branches and one behind the last block. `positions` "learned"
    are of `block_size` tokens. Kernels are Glorot's, embeddings normal(1 / √embed_dim). For
    `scan_layers` and `remat` see `nn.transformer.Transformer`.
    """

    vocab_size: int
    target_vocab_size: int | None = None
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    embed_dim: int = 512
    mlp_dim: int = 2048
    activation: Activation = "relu"
    norm_first: bool = False
    share_embeddings: bool = True
    positions: Literal["sine", "learned"] = "sine"
    block_size: int = 512
    dropout_rate: float = 0.1
    dtype: str | None = None
    param_dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    attention_implementation: AttentionImplementation = "auto"

    def setup(self) -> None:
        vocab_size = self.target_vocab_size or self.vocab_size
        if self.share_embeddings and vocab_size != self.vocab_size:
            raise ValueError(
                f"share_embeddings needs one vocabulary, but vocab_size={self.vocab_size} and "
                f"target_vocab_size={vocab_size}"
            )
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.initializers.normal(self.embed_dim**-0.5)
        self.embedding = nn.Embed(self.vocab_size, self.embed_dim, embedding_init=init, **types)
        if self.positions == "learned":
            learned = nn.initializers.normal(0.02)
            self.position_embedding = nn.Embed(
                self.block_size, self.embed_dim, embedding_init=learned, **types
            )
        self.target_embedding = (
            self.embedding
            if self.share_embeddings
            else nn.Embed(vocab_size, self.embed_dim, embedding_init=init, **types)
        )
        self.layers = EncoderDecoder(
            num_encoder_layers=self.num_layers,
            num_decoder_layers=self.num_decoder_layers or self.num_layers,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            activation=self.activation,
            norm_first=self.norm_first,
            final_norm=self.norm_first,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.dropout_rate,
            mlp_dropout_rate=self.dropout_rate,
            kernel_init=nn.initializers.glorot_uniform(),
            scan_layers=self.scan_layers,
            remat=self.remat,
            implementation=self.attention_implementation,
            **types,
        )
        self.dropout = Dropout(self.dropout_rate)
        if not self.share_embeddings:
            self.head = LogitsHead(vocab_size, kernel_init=init, **types)

    def encode(
        self,
        source: Int[Array, "batch source_length"],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
    ) -> Float[Array, "batch source_length features"]:
        """The encoder's output. Raises ValueError where there are more than `block_size` tokens."""
        x = self._embedded(self.embedding, source, None, train)
        return self.layers.encode(x, source_mask=source_mask, deterministic=not train)

    def decode(
        self,
        target: Int[Array, "batch length"],
        memory: Float[Array, "batch source_length features"],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        target_mask: Bool[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        use_cache: bool = False,
    ) -> Float[Array, "batch length vocab_size"]:
        """As of `Translator`. Raises ValueError where there are more than `block_size` tokens."""
        x = self.layers.decode(
            self._embedded(self.target_embedding, target, positions, train),
            memory,
            source_mask=source_mask,
            target_mask=target_mask,
            deterministic=not train,
            use_cache=use_cache,
        )
        if self.share_embeddings:
            return tied_logits(x, self.embedding.embedding)
        return self.head(x)

    def _embedded(
        self, embedding: nn.Embed, tokens: Array, positions: Array | None, train: bool
    ) -> Array:
        check_length(tokens, self.block_size)
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None]
        x = embedding(tokens) * self.embed_dim**0.5
        if self.positions == "learned":
            return self.dropout(x + self.position_embedding(positions), not train)
        return self.dropout(
            x + sine_embedding(positions, self.embed_dim).astype(x.dtype), not train
        )
