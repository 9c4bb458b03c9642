"""Language modelling: predict the next token from those before it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from research.data.tokenizers import Tokenizer, byte_lengths
from research.engine.display import Displays, Text
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.decoding import write
from research.sequence.sampling import Sampling
from research.sequence.sequence_batch import check_segments, check_tokens, packed_documents

SHOWN_TOKENS = 200
STOPPING_TOKENS = 16  # so many are written before a text is looked through for its end
EVALUATED_TOKENS = 256  # of a row at a time, where a state goes through long windows


@dataclass(frozen=True)
class LanguageModeling:
    """The mean cross-entropy of the next token, in nats.

    The model has a `vocab_size`, may have a `block_size`, and `model(tokens, train)` gives the
    logits of the token after each position; to write text it needs `key_mask`, `positions` and
    `use_cache`, too, as `GPT` has them. A batch has `tokens` (N, length + 1), all but the last
    inputs and all but the first targets, and may have a `token_mask` (N, length) that is 0 where
    there is no target. Where it has `segments` (N, length + 1), which number the documents that are
    packed into a row, attention stays within documents, whose positions begin at 0, and the first
    token of one is no target. Only text, in `generate` and `show`, needs the `tokenizer`; the model
    may have more tokens than it (a vocabulary padded to a round size), and never writes those.

    With `streams`, a recurrent model carries its state from batch to batch (truncated
    backpropagation through time): row b of a batch of `streams` goes on where row b of the batch
    before ended, but where its `continues` is false, as of `data.sources.Text` with as many streams
    and `data.shuffle` off. The state is the collection "carry". Evaluation carries it through each
    window, which may be as long as the data: its logits are never in memory as a whole.
    """

    model: nn.Module
    tokenizer: Tokenizer | None = None
    streams: int | None = None

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables.

        Raises UserError where the batch's blocks are longer than the model's, the tokenizer has
        more tokens, or the model takes no segments that there are.
        """
        length = batch["tokens"].shape[1] - 1
        if length > getattr(self.model, "block_size", length):
            raise UserError(
                f"objective.model.block_size = {self.model.block_size}: the data's blocks have "
                f"{length} tokens; make the two equal"
            )
        if self.tokenizer is not None:
            self._check_vocabulary(self.tokenizer)
        check_segments(batch, self.model)
        if self.streams is None:
            return self.model.init(rng, batch["tokens"][:, :-1], train=False)
        if "continues" not in batch:
            raise UserError(
                f"objective.streams = {self.streams}: the data has none; set data.source.streams "
                "to as many and data.shuffle to False"
            )
        if hasattr(self.model, "block_size"):
            raise UserError(
                f"objective.streams = {self.streams}: {type(self.model).__name__} has no state to "
                "carry from batch to batch; streams are for recurrent models"
            )
        rows = jnp.zeros((self.streams, 1), jnp.int32)
        variables = self.model.init(rng, rows, train=False, use_cache=True)
        return {name.replace("cache", "carry"): tree for name, tree in variables.items()}

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a token is none of the model's vocabulary."""
        check_tokens(arrays, self.model)

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over the targets of the batch, with perplexity and accuracy."""
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        variables, arguments = {"params": params, **collections}, _arguments(batch)
        if self.streams is not None:
            carry = variables.pop("carry")
            variables["cache"] = self._state_before(batch, carry)
            arguments["use_cache"] = True
        logits, collections = self.model.apply(
            variables,
            inputs,
            train=True,
            mutable=[name for name in variables if name != "params"],
            rngs={"dropout": rng},
            **arguments,
        )
        if self.streams is not None:
            others = {name: tree for name, tree in collections.items() if name != "cache"}
            collections = {**others, "carry": collections["cache"]}
        metrics = _metrics(logits, targets, _target_mask(batch))
        total, weight = metrics["loss"].total, metrics["loss"].weight
        return total / jnp.maximum(weight, 1.0), Aux(metrics, collections, weight)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """Loss in nats, perplexity and accuracy over all targets that are not padding.

        And `bits_per_byte`, the bits of all these targets by the bytes of UTF-8 that they stand
        for, of which a special token has none. It is left out without a tokenizer, and with one
        that does not know exactly how many bytes its tokens are (`tokenizers.byte_lengths`): words,
        WordPiece, Unigram, and whatever has a token for the unknown or changes its text.
        """
        tokens = batch["tokens"]
        mask = jnp.ones(tokens[:, 1:].shape)
        target_mask = _target_mask(batch)
        if target_mask is not None:
            mask = mask * target_mask
        if "mask" in batch:
            mask = mask * batch["mask"][:, None]
        variables = {"params": params, **collections}
        if self.streams is not None:
            return self._evaluate_in_parts(variables, tokens, mask)
        logits = jnp.asarray(
            self.model.apply(variables, tokens[:, :-1], train=False, **_arguments(batch))
        )
        return self._evaluated(logits, tokens[:, 1:], mask)

    def _evaluated(
        self,
        logits: Float[Array, "batch length vocab_size"],
        targets: Int[Array, "batch length"],
        mask: Array,
    ) -> dict[str, Mean]:
        """The metrics of training, and bits per byte where the tokenizer knows of bytes."""
        metrics = _metrics(logits, targets, mask)
        lengths = None if self.tokenizer is None else byte_lengths(self.tokenizer)
        if lengths is None:
            return metrics
        num_bytes = jnp.take(jnp.asarray(lengths), targets, mode="fill", fill_value=0)
        bits = metrics["loss"].total / math.log(2)
        return {**metrics, "bits_per_byte": Mean(bits, mean_of(num_bytes, mask).total)}

    def _state_before(self, batch: Batch, state: Any) -> Any:
        """The state that a batch goes on from: zeros where its streams begin."""
        num_rows = batch["tokens"].shape[0]
        if num_rows != self.streams:
            raise UserError(
                f"objective.streams = {self.streams}: the model sees {num_rows} rows at a time; "
                "data.batch_size must be equal, and neither micro_batches nor pmap may split it"
            )
        goes_on = batch["continues"].all()
        return jax.tree.map(lambda x: jnp.where(goes_on, x, jnp.zeros_like(x)), state)

    def _evaluate_in_parts(
        self, variables: Variables, tokens: Int[Array, "batch length"], mask: Array
    ) -> dict[str, Mean]:
        """The metrics of windows whose logits would take too much memory, part by part."""
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        apply = partial(self.model.apply, train=False, use_cache=True, mutable=["cache"])
        _, made = apply(variables, inputs[:, :1])

        def parts(x: Array) -> Array:
            padding = -x.shape[1] % EVALUATED_TOKENS
            padded = jnp.pad(x, ((0, 0), (0, padding)))
            return padded.reshape(x.shape[0], -1, EVALUATED_TOKENS).swapaxes(0, 1)

        def evaluate(cache: Any, part: tuple[Array, ...]) -> tuple[Any, dict[str, Mean]]:
            inputs, targets, mask = part
            logits, after = apply({**variables, **cache}, inputs)
            return after, self._evaluated(logits, targets, mask)

        given = (parts(inputs), parts(targets), parts(mask))
        _, metrics = lax.scan(evaluate, made, given)
        return jax.tree.map(lambda x: x.sum(0), metrics)

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


def _arguments(batch: Batch) -> dict[str, Any]:
    """What a model must know of packed documents; nothing where there are none."""
    return packed_documents(batch["segments"][:, :-1]) if "segments" in batch else {}


def _target_mask(batch: Batch) -> Float[Array, "batch length"] | None:
    """0 where there is no target: in padding, and where a document begins."""
    mask = batch.get("token_mask")
    if "segments" in batch:
        is_same = (batch["segments"][:, 1:] == batch["segments"][:, :-1]).astype(jnp.float32)
        mask = is_same if mask is None else mask * is_same
    return mask


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
