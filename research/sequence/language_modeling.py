"""Language modelling: predict the next token from those before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.data.tokenizers import Tokenizer
from research.engine.display import Displays, Text
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.decoding import write
from research.sequence.sampling import Sampling

SHOWN_TOKENS = 200
STOPPING_TOKENS = 16  # so many are written before a text is looked through for its end
CHECKED_TOKENS = 10_000_000  # the first ones: a corpus may be too large to read through


@dataclass(frozen=True)
class LanguageModeling:
    """The mean cross-entropy of the next token, in nats.

    The model has a `vocab_size`, may have a `block_size`, and `model(tokens, train)` gives the
    logits of the token after each position; to write text it needs `key_mask`, `positions` and
    `use_cache`, too, as `GPT` has them. A batch has `tokens` (N, length + 1), all but the last
    inputs and all but the first targets, and may have a `token_mask` (N, length) that is 0 where
    there is no target. Only text, in `generate` and `show`, needs the `tokenizer`; the model may
    have more tokens than it (a vocabulary padded to a round size), and never writes those.
    """

    model: nn.Module
    tokenizer: Tokenizer | None = None

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables.

        Raises UserError where the batch's blocks are longer than the model's, or the tokenizer
        has more tokens.
        """
        length = batch["tokens"].shape[1] - 1
        if length > getattr(self.model, "block_size", length):
            raise UserError(
                f"objective.model.block_size = {self.model.block_size}: the data's blocks have "
                f"{length} tokens; make the two equal"
            )
        if self.tokenizer is not None:
            self._check_vocabulary(self.tokenizer)
        return self.model.init(rng, batch["tokens"][:, :-1], train=False)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token is none of the model's vocabulary."""
        if "tokens" not in arrays:
            return
        tokens = np.ravel(arrays["tokens"])[:CHECKED_TOKENS]
        high = int(tokens.max(initial=0))
        if high >= self.model.vocab_size:
            raise UserError(
                f"there is a token {high}, but the model has objective.model.vocab_size = "
                f"{self.model.vocab_size}"
            )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over the targets of the batch, with perplexity and accuracy."""
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        logits, collections = self.model.apply(
            {"params": params, **collections},
            inputs,
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        metrics = _metrics(logits, targets, batch.get("token_mask"))
        total, weight = metrics["loss"].total, metrics["loss"].weight
        return total / jnp.maximum(weight, 1.0), Aux(metrics, collections, weight)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Loss in nats, perplexity and accuracy over all targets that are not padding."""
        tokens = batch["tokens"]
        mask = jnp.ones(tokens[:, 1:].shape)
        if "token_mask" in batch:
            mask = mask * batch["token_mask"]
        if "mask" in batch:
            mask = mask * batch["mask"][:, None]
        variables = {"params": params, **collections}
        logits = jnp.asarray(self.model.apply(variables, tokens[:, :-1], train=False))
        return _metrics(logits, tokens[:, 1:], mask)

    def generate(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        prompt: str = "\n",
        num_samples: int = 1,
        max_new_tokens: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: tuple[str, ...] = (),
    ) -> Displays:
        """Texts that begin with `prompt`, each drawn token by token as `sampling.Sampling` says,
        up to the first of the strings in `stop`. Sample i is the same however many there are.

        Raises UserError without a tokenizer, for a prompt it cannot encode or that is empty, and
        for options out of range.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        # Only text that has been read can be looked through for its end.
        tokens_at_a_time = STOPPING_TOKENS if stop else None
        *_, texts = self._write(
            params,
            collections,
            rng,
            self._prompts(prompt, num_samples),
            max_new_tokens,
            sampling,
            stop,
            tokens_at_a_time,
        )
        return {"sample": Text(texts)}

    def stream(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        prompt: str = "\n",
        max_new_tokens: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: tuple[str, ...] = (),
    ) -> Iterator[str]:
        """What `generate` writes for one sample, as far as it is, after every token."""
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        prompts = self._prompts(prompt, 1)
        writing = self._write(params, collections, rng, prompts, max_new_tokens, sampling, stop, 1)
        for (text,) in writing:
            yield text

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """A short sample from the first token of the batch; nothing without a tokenizer."""
        if self.tokenizer is None:
            return {}
        prompts = jnp.asarray(batch["tokens"][:1, :1], jnp.int32)
        *_, texts = self._write(params, collections, rng, prompts, SHOWN_TOKENS, Sampling())
        return {"sample": Text(texts)}

    def _prompts(self, prompt: str, num_samples: int) -> Int[Array, "num_samples length"]:
        if num_samples < 1:
            raise UserError(f"num_samples = {num_samples}: must be at least 1")
        try:
            ids = self._tokenizer().encode(prompt)
        except UserError as error:
            raise UserError(f"prompt = {prompt!r}: {error}") from error
        if not len(ids):
            raise UserError(f"prompt = {prompt!r}: has no token; give it at least one")
        return jnp.broadcast_to(jnp.asarray(ids, jnp.int32), (num_samples, len(ids)))

    def _write(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        prompts: Int[Array, "num_samples length"],
        max_new_tokens: int,
        sampling: Sampling,
        stop: Sequence[str] = (),
        tokens_at_a_time: int | None = None,
    ) -> Iterator[list[str]]:
        """The texts so far, up to where they stop."""
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens = {max_new_tokens}: must be at least 1")
        if "" in stop:
            raise UserError("stop: an empty string is everywhere; leave it out")
        tokenizer = self._tokenizer()
        self._check_vocabulary(tokenizer)
        prompt_lengths = [len(tokenizer.decode(ids)) for ids in np.asarray(prompts)]
        for tokens in write(
            self.model,
            {"params": params, **collections},
            rng,
            prompts,
            vocab_size=tokenizer.vocab_size,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            tokens_at_a_time=tokens_at_a_time,
        ):
            texts = [tokenizer.decode(ids) for ids in tokens]
            ends = [
                _end(text, stop, start) for text, start in zip(texts, prompt_lengths, strict=True)
            ]
            yield [text[:end] for text, end in zip(texts, ends, strict=True)]
            if all(end is not None for end in ends):
                return

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError(
                "objective.tokenizer: missing; text can't be made from tokens without the data's"
            )
        return self.tokenizer

    def _check_vocabulary(self, tokenizer: Tokenizer) -> None:
        if tokenizer.vocab_size > self.model.vocab_size:
            raise UserError(
                f"objective.model.vocab_size = {self.model.vocab_size}: the tokenizer has "
                f"{tokenizer.vocab_size} tokens; the model needs at least as many"
            )


def _metrics(
    logits: Float[Array, "batch length vocab_size"],
    targets: Int[Array, "batch length"],
    mask: Array | None,
) -> dict[str, Mean]:
    losses = cross_entropy(logits, targets)
    return {
        "loss": mean_of(losses, mask),
        "perplexity": mean_of(losses, mask, finish="exp"),
        "accuracy": accuracy(logits, targets, mask),
    }


def _end(text: str, stop: Sequence[str], start: int) -> int | None:
    """Where the first of these strings begins behind the prompt; None for none."""
    places = [place for place in (text.find(string, start) for string in stop) if place >= 0]
    return min(places, default=None)
