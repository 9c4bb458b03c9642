"""A recurrent encoder and decoder with attention between them (Bahdanau, Cho, Bengio, 2015; Luong,
Pham, Manning, 2015)."""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float, Int

from research.nn.dropout import Dropout
from research.nn.logits import LogitsHead
from research.nn.recurrent import Recurrent, RecurrentLayer, State
from research.sequence.translator import Translator


class RecurrentTranslator(Translator):
    """A GRU reads the source, another writes the target and attends to what was read.

    `attention` "additive" is Bahdanau et al.'s: scores v tanh(W state + U memory) by the state
    before a token, whose weighted memory enters the decoder beside the token. "general" and "dot"
    are Luong et al.'s, with and without a kernel: scores by the state behind the token, which is
    joined with its weighted memory to what gives the logits. `bidirectional` reads the source both
    ways. The decoder starts from the encoder's last state, through a dense layer and tanh where
    that was read both ways. The attention weights (batch, length, source_length) are in the
    collection "intermediates" where that is asked for.
    """

    vocab_size: int
    hidden_dim: int
    target_vocab_size: int | None = None
    embed_dim: int | None = None
    attention: Literal["additive", "general", "dot"] = "additive"
    bidirectional: bool = False
    dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.attention == "dot" and self.bidirectional:
            raise ValueError(
                'attention="dot" of RecurrentTranslator needs bidirectional=False: read both ways, '
                'the source has states twice as wide as the decoder\'s; "general" takes them'
            )
        super().__post_init__()

    def setup(self) -> None:
        if self.attention not in ("additive", "general", "dot"):
            raise ValueError(
                f'attention must be "additive", "general" or "dot", got {self.attention!r}'
            )
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        embed: Any = partial(
            nn.Embed,
            features=self.embed_dim or self.hidden_dim,
            embedding_init=nn.initializers.normal(0.1),
            **types,
        )
        vocab_size = self.target_vocab_size or self.vocab_size
        self.source_embedding = embed(self.vocab_size)
        self.target_embedding = embed(vocab_size)
        self.encoder = Recurrent(self.hidden_dim, "gru", bidirectional=self.bidirectional, **types)
        if self.bidirectional:
            self.initial = nn.Dense(self.hidden_dim, **types)
        if self.attention != "dot":
            self.keys = nn.Dense(self.hidden_dim, use_bias=self.attention == "additive", **types)
        scan: Any = nn.scan(
            AttentionStep,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=(1, nn.broadcast, nn.broadcast, nn.broadcast),
            out_axes=1,
        )
        self.decoder = scan(self.hidden_dim, self.attention, **types)
        self.dropout = Dropout(self.dropout_rate)
        self.head = LogitsHead(vocab_size, use_bias=True, **types)

    def encode(
        self,
        source: Int[Array, "batch source_length"],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
    ) -> tuple[Float[Array, "batch source_length features"], State]:
        """The encoder's states, which the decoder attends to, and the one that it starts from."""
        x = self.dropout(self.source_embedding(source), not train)
        memory, (last,) = self.encoder(x, source_mask)
        # Read both ways, the last state is that of the way back: it has just seen the beginning.
        start = jnp.tanh(self.initial(last[-1])) if self.bidirectional else last[-1]
        return memory, (start,)

    @nn.compact
    def decode(
        self,
        target: Int[Array, "batch length"],
        memory: tuple[Float[Array, "batch source_length features"], State],
        train: bool = False,
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        target_mask: Bool[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        use_cache: bool = False,
    ) -> Float[Array, "batch length vocab_size"]:
        """As of `Translator`; `target_mask` and `positions` are not looked at."""
        states, start = memory
        keys = states if self.attention == "dot" else self.keys(states)
        if source_mask is None:
            source_mask = jnp.ones(states.shape[:2], bool)
        is_new = not self.has_variable("cache", "state")
        if use_cache and not is_new:
            start = self.get_variable("cache", "state")
        x = self.dropout(self.target_embedding(target), not train)
        state, (x, weights) = self.decoder(start, x, states, keys, source_mask)
        if use_cache:
            self.put_variable("cache", "state", start if is_new else state)
        self.sow("intermediates", "weights", weights)
        return self.head(self.dropout(x, not train))


class AttentionStep(nn.Module):
    """One token of a recurrent decoder with attention."""

    hidden_dim: int
    attention: Literal["additive", "general", "dot"]
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        state: State,
        x: Float[Array, "batch features"],
        memory: Float[Array, "batch keys memory_features"],
        keys: Float[Array, "batch keys hidden_dim"],
        mask: Bool[Array, "batch keys"],
    ) -> tuple[State, tuple[Float[Array, "batch hidden_dim"], Float[Array, "batch keys"]]]:
        """The state behind the token, and what the logits are made of, with the weights."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        layer = RecurrentLayer(self.hidden_dim, "gru", name="layer", **types)

        def advance(x: Array) -> tuple[Array, State]:
            outputs, after = layer(x[:, None], None, state)
            return outputs[:, 0], after

        def attend(scores: Array) -> tuple[Array, Array]:
            scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
            weights = jax.nn.softmax(scores)
            return jnp.einsum("bk,bkf->bf", weights.astype(memory.dtype), memory), weights

        if self.attention == "additive":
            query = nn.Dense(self.hidden_dim, name="query", **types)(state[0])
            joint = jnp.tanh(query[:, None] + keys)
            context, weights = attend(nn.Dense(1, name="score", **types)(joint)[..., 0])
            output, after = advance(jnp.concatenate([x, context], -1))
            return after, (output, weights)
        output, after = advance(x)
        context, weights = attend(jnp.einsum("bf,bkf->bk", output, keys))
        joint = nn.Dense(self.hidden_dim, name="joint", **types)(
            jnp.concatenate([context, output], -1)
        )
        return after, (jnp.tanh(joint), weights)
