"""A recurrent language model (Zaremba, Sutskever, Vinyals, 2014)."""

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float, Int

from research.nn.dropout import Dropout
from research.nn.initializers import symmetric_uniform
from research.nn.logits import LogitsHead, tied_logits
from research.nn.recurrent import Cell, Recurrent, State


class RecurrentLanguageModel(nn.Module):
    """Token embedding, recurrent layers, logits.

    With 10,000 tokens and 200 units it is the paper's small network, weight for weight; 650 and
    1500 are the medium and the large. Dropout is of the embeddings, between layers and before the
    logits. All parameters are uniform in ±`init_scale`, and the logits' bias 0.
    """

    vocab_size: int
    hidden_dim: int
    cell: Cell = "lstm"
    num_layers: int = 2
    embed_dim: int | None = None
    dropout_rate: float = 0.0
    tie_embeddings: bool = False
    init_scale: float = 0.1
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        *,
        state: State | None = None,
        key_mask: Bool[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        use_cache: bool = False,
    ) -> Float[Array, "batch length vocab_size"]:
        """Logits of the token after each position, float32; dropout only where `train`.

        Tokens where `key_mask` is false are passed over. `positions` are not looked at. With
        `use_cache` the layers' state is kept in the collection "cache", which a call without one
        makes; calls with it go on from there.

        Raises ValueError where tied embeddings are not as wide as the layers.
        """
        embed_dim = self.embed_dim or self.hidden_dim
        if self.tie_embeddings and embed_dim != self.hidden_dim:
            raise ValueError(
                f"tie_embeddings needs embed_dim={embed_dim} to be hidden_dim={self.hidden_dim}"
            )
        init = symmetric_uniform(self.init_scale)
        embedding = nn.Embed(
            self.vocab_size,
            embed_dim,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            embedding_init=init,
            name="token_embedding",
        )
        dropout = Dropout(self.dropout_rate)
        layers = Recurrent(
            self.hidden_dim,
            self.cell,
            self.num_layers,
            dropout_rate=self.dropout_rate,
            init_scale=self.init_scale,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="recurrent",
        )
        if use_cache and self.has_variable("cache", "state"):
            state = self.get_variable("cache", "state")
        x, state = layers(
            dropout(embedding(tokens), not train), key_mask, state, deterministic=not train
        )
        if use_cache:
            is_new = not self.has_variable("cache", "state")
            empty = jax.tree.map(lambda part: part * 0, state)
            self.put_variable("cache", "state", empty if is_new else state)
        x = dropout(x, not train)
        if self.tie_embeddings:
            return tied_logits(x, embedding.embedding)
        return LogitsHead(
            self.vocab_size,
            use_bias=True,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=init,
            name="head",
        )(x)
