"""Tags of words from both sides of a sentence and from their characters (Lample et al., 2016; Ma
and Hovy, 2016)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.data.sources.conll_columns import PADDING, UNKNOWN
from research.nn.dropout import Dropout, is_off
from research.nn.recurrent import Recurrent


class BiLSTMTagger(nn.Module):
    """An embedding of each word beside features of its characters, an LSTM each way, and a dense
    layer to logits of tags.

    Characters are embedded, put through a convolution of three of them (as a dense layer) with ReLU
    and then, over the word, the maximum (Ma and Hovy's, who have no ReLU); `num_characters` None
    leaves them out. Dropout is before and behind the LSTM, and, in training, a word becomes the
    unknown one with probability `word_dropout_rate`.
    """

    vocab_size: int
    num_tags: int
    embed_dim: int = 100
    hidden_dim: int = 100
    num_layers: int = 1
    num_characters: int | None = 592
    character_embed_dim: int = 25
    character_dim: int = 50
    dropout_rate: float = 0.5
    word_dropout_rate: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        *,
        mask: Bool[Array, "batch length"] | None = None,
        characters: Int[Array, "batch length characters"] | None = None,
    ) -> Float[Array, "batch length num_tags"]:
        """Logits of each word's tag, float32; dropout only where `train`. `mask` is true for words
        that are no padding.

        Raises ValueError where `characters` are missing.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dropout = partial(Dropout(self.dropout_rate), deterministic=not train)
        if train and not is_off(self.word_dropout_rate):
            rng = self.make_rng("dropout")
            unknown = jax.random.bernoulli(rng, self.word_dropout_rate, tokens.shape)
            tokens = jnp.where(unknown, UNKNOWN, tokens)
        x = nn.Embed(self.vocab_size, self.embed_dim, name="word_embedding", **types)(tokens)
        if self.num_characters is not None:
            if characters is None:
                raise ValueError(
                    "BiLSTMTagger needs the words' characters; num_characters=None leaves them out"
                )
            x = jnp.concatenate([x, self._of_characters(characters, types)], -1)
        x, _ = Recurrent(
            self.hidden_dim,
            "lstm",
            self.num_layers,
            bidirectional=True,
            dropout_rate=self.dropout_rate,
            name="lstm",
            **types,
        )(dropout(x), mask, deterministic=not train)
        logits = nn.Dense(self.num_tags, name="head", **types)(dropout(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _of_characters(
        self, characters: Int[Array, "batch length characters"], types: dict[str, Any]
    ) -> Float[Array, "batch length character_dim"]:
        embed = nn.Embed(
            self.num_characters or 0, self.character_embed_dim, name="character_embedding", **types
        )
        is_there = (characters != PADDING)[..., None]
        x = jnp.where(is_there, embed(characters), 0)
        around = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
        x = jnp.concatenate([around[:, :, :-2], x, around[:, :, 2:]], -1)
        x = nn.relu(nn.Dense(self.character_dim, name="character_convolution", **types)(x))
        return jnp.where(is_there, x, 0).max(2)
