"""BERT with a classifier of whole sequences (Devlin et al., 2019, section 3.2)."""

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from research.nn.dropout import Dropout
from research.sequence.bert import BERT
from research.sequence.sequence_pooling import pool_sequence


class BERTClassifier(nn.Module):
    """One vector a sequence from `bert`'s encoder, and a dense layer to logits.

    `pooling` "pooler" is the dense layer with tanh of the first token, [CLS], with which published
    classifiers go on from pre-training; "first" is that token itself, and "mean" that of all. The
    parameters are where `bert` has them, and in `head`: `weights.Pretrained` starts from a run of a
    masked language model where it leaves "params/head/.*", and "params/pooler/.*" unless that run
    trained one. The rate of dropout before the logits is `bert`'s; its own heads are not made.
    """

    bert: BERT
    num_classes: int | None
    pooling: Literal["pooler", "first", "mean"] = "pooler"

    @property
    def vocab_size(self) -> int:
        return self.bert.vocab_size

    @property
    def block_size(self) -> int:
        return self.bert.block_size

    def setup(self) -> None:
        self.encoder = self.bert.clone(
            masked_head=False, pooler=self.pooling == "pooler", num_classes=None
        )
        nn.share_scope(self, self.encoder)
        self.dropout = Dropout(self.bert.dropout_rate)
        if self.num_classes is not None:
            self.head = nn.Dense(
                self.num_classes,
                kernel_init=nn.initializers.normal(self.bert.init_std),
                dtype=self.bert.dtype,
                param_dtype=self.bert.param_dtype,
            )

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        *,
        mask: Bool[Array, "batch length"] | None = None,
        token_types: Int[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch outputs"]:
        """Logits, or the features before them without `num_classes`; dropout only where `train`.
        `mask` is true for tokens that are no padding, `token_types` are as of `BERT`.

        Raises ValueError where there are more than `bert.block_size` tokens.
        """
        x = self.encoder(tokens, train, key_mask=mask, token_types=token_types)
        features = x if self.pooling == "pooler" else pool_sequence(x, mask, self.pooling)
        features = self.dropout(features, not train)
        return features if self.num_classes is None else self.head(features)
