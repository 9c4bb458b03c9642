"""BERT with a classifier of tokens (Devlin et al., 2019, sections 4.2 and 5.3)."""

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from research.nn.dropout import Dropout
from research.sequence.bert import BERT


class BERTTokenClassifier(nn.Module):
    """A dense layer from each token of `bert`'s encoder to logits: of tags, or of where an answer
    starts and where it ends.

    The parameters are at the same paths as in `bert`, and `head`, so that `weights.Pretrained`
    with `leave` "params/head/.*" fine-tunes it. Dropout before the logits is `bert`'s; its other
    heads are not made.
    """

    bert: BERT
    num_classes: int

    @property
    def vocab_size(self) -> int:
        return self.bert.vocab_size

    @property
    def block_size(self) -> int:
        return self.bert.block_size

    def setup(self) -> None:
        self.encoder = self.bert.clone(masked_head=False, pooler=False, num_classes=None)
        nn.share_scope(self, self.encoder)
        self.dropout = Dropout(self.bert.dropout_rate)
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
    ) -> Float[Array, "batch length num_classes"]:
        """Logits of each token; dropout only where `train`. `mask` is true for tokens that are no
        padding, `token_types` are as of `BERT`.

        Raises ValueError where there are more than `bert.block_size` tokens.
        """
        x = self.encoder(tokens, train, key_mask=mask, token_types=token_types)
        return self.head(self.dropout(x, not train))
