"""Span corruption: texts with spans left out, and what was left out (Raffel et al., 2020)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from research.data.augment.transform import Batch, example_keys
from research.data.tokenizers import Tokenizer, named_id
from research.errors import UserError


@dataclass(frozen=True)
class SpanCorruption:
    """Texts as the pairs of `sequence.SequenceToSequence`: of `tokens` (N, length) the source has
    all but some spans, each of which one sentinel stands for, and the target the sentinels, each
    with its span behind it.

    As in T5's code, the share `noise_density` of all places is in spans of `mean_span_length` in
    the mean, rounded to as many tokens and spans in every text; text and spans take turns, text
    begins and a span ends. The sentinels are the tokens `sentinel` with 0, 1, … in it;
    `start_token` stands before the target and, as padding, in the place of what `token_mask` leaves
    out, and `end_token` behind both. Of windows of `data.sources.Text` the first token, the last
    one of the window before, is left out.
    """

    tokenizer: Tokenizer
    noise_density: float = 0.15
    mean_span_length: float = 3.0
    sentinel: str = "<extra_id_{}>"
    start_token: str = "<s>"
    end_token: str = "</s>"

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_density < 1.0 or self.mean_span_length < 1.0:
            raise UserError(
                "SpanCorruption.noise_density must be in (0, 1) and mean_span_length at least 1; "
                f"got {self.noise_density} and {self.mean_span_length}."
            )

    def __call__(self, rng: PRNGKeyArray, batch: Batch) -> Batch:
        """`source`, `source_mask`, `target` and `target_mask`, and what else the batch has.

        Raises UserError where the tokenizer has too few sentinels.
        """
        tokens, mask = batch["tokens"], batch.get("token_mask")
        if mask is None:
            mask = jnp.ones((len(tokens), tokens.shape[1] - 1))
        tokens = tokens[:, tokens.shape[1] - mask.shape[1] :]
        num_noise, num_spans = self.counts(tokens.shape[1])
        names = [self.sentinel.format(index) for index in range(num_spans)]
        sentinels = jnp.asarray([named_id(self.tokenizer, name) for name in names])
        start, end = (named_id(self.tokenizer, name) for name in (self.start_token, self.end_token))

        def corrupt(key: PRNGKeyArray, row: Array, is_text: Array) -> tuple[Array, ...]:
            is_noise = noise_mask(key, len(row), num_noise, num_spans)
            size = len(row) - num_noise + num_spans
            source, where, _ = _with_sentinels(row, is_noise, sentinels, size)
            source_mask = is_text[where]
            target, where, is_sentinel = _with_sentinels(
                row, ~is_noise, sentinels, num_noise + num_spans
            )
            target_mask = is_text[where]
            # A sentinel is padding where its span, which is behind it, is.
            target_mask = jnp.where(is_sentinel, jnp.append(target_mask[1:], 0), target_mask)
            source, target = (
                jnp.where(mask > 0, tokens, start)
                for tokens, mask in ((source, source_mask), (target, target_mask))
            )
            return source, source_mask, target, target_mask

        keys = example_keys(rng, batch)
        source, source_mask, target, target_mask = jax.vmap(corrupt)(keys, tokens, mask)
        behind, both = ((0, 0), (0, 1)), ((0, 0), (1, 1))
        rest = {name: x for name, x in batch.items() if name not in ("tokens", "token_mask")}
        return {
            **rest,
            "source": jnp.pad(source, behind, constant_values=end),
            "source_mask": jnp.pad(source_mask, behind, constant_values=1),
            "target": jnp.pad(target, both, constant_values=((0, 0), (start, end))),
            "target_mask": jnp.pad(target_mask, both, constant_values=1),
        }

    def counts(self, length: int) -> tuple[int, int]:
        """How many tokens of a text of this length are left out, and in how many spans.

        Raises UserError for a text too short to be parted.
        """
        if length < 2:
            raise UserError(f"SpanCorruption needs texts of at least 2 tokens; got {length}.")
        num_noise = min(max(round(length * self.noise_density), 1), length - 1)
        num_spans = max(round(num_noise / self.mean_span_length), 1)
        return num_noise, min(num_spans, length - num_noise)


def noise_mask(
    key: PRNGKeyArray, length: int, num_noise: int, num_spans: int
) -> Bool[Array, " length"]:
    """True for `num_noise` places in `num_spans` spans, each behind at least one other place;
    T5's `random_spans_noise_mask`."""
    noise_key, text_key = jax.random.split(key)
    noise_lengths = _parts(noise_key, num_noise, num_spans)
    text_lengths = _parts(text_key, length - num_noise, num_spans)
    starts = jnp.cumsum(jnp.stack([text_lengths, noise_lengths], 1).reshape(-1))[:-1]
    turns = jnp.zeros(length, jnp.int32).at[starts].set(1)
    return jnp.cumsum(turns) % 2 == 1


def _parts(key: PRNGKeyArray, total: int, count: int) -> Int[Array, " count"]:
    """`count` lengths of at least 1 with this sum, all such alike probable."""
    begins = jnp.arange(total - 1) < count - 1
    part = jnp.cumsum(jnp.append(False, jax.random.permutation(key, begins)))
    return jnp.zeros(count, jnp.int32).at[part].add(1)


def _with_sentinels(
    tokens: Int[Array, " length"],
    left_out: Bool[Array, " length"],
    sentinels: Int[Array, " spans"],
    size: int,
) -> tuple[Int[Array, " size"], Int[Array, " size"], Bool[Array, " size"]]:
    """The tokens with a sentinel for each span that is left out, where each was before, and which
    are sentinels."""
    first = left_out & ~jnp.append(False, left_out[:-1])
    span = jnp.maximum(jnp.cumsum(first) - 1, 0)
    where = jnp.flatnonzero(~left_out | first, size=size)
    return jnp.where(first, sentinels[span], tokens)[where], where, first[where]
