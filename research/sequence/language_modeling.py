"""Language modelling: predict the next token from those before it."""

import logging
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

from research.data.tokenizers import Tokenizer, byte_lengths, named_id
from research.engine.display import Displays, Text
from research.engine.metrics import Mean, accuracy, cross_entropy, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.beam_search import BeamSearch
from research.sequence.sampling import Sampling
from research.sequence.sequence_batch import check_segments, check_tokens, packed_documents
from research.sequence.text_writing import TextWriter, choose_decoder

logger = logging.getLogger(__name__)

SHOWN_TOKENS = 200
SHOWN_LETTERS = 40  # of a prompt in a message
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
    Texts end at the tokenizer's `end_token`, the name of what stands behind each document of the
    data; None is for data without one.

    With `streams`, a recurrent model carries its state from batch to batch (truncated
    backpropagation through time): row b of a batch of `streams` goes on where row b of the batch
    before ended, but where its `continues` is false, as of `data.sources.Text` with as many streams
    and `data.shuffle` off. The state is the collection "carry". Evaluation carries it through each
    window, which may be as long as the data: its logits are never in memory as a whole.
    """

    model: nn.Module
    tokenizer: Tokenizer | None = None
    streams: int | None = None
    end_token: str | None = None

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables.

        Raises UserError where the batch's blocks are longer than the model's, the tokenizer has
        more tokens or no `end_token`, or the model takes no segments that there are.
        """
        length = batch["tokens"].shape[1] - 1
        if length > getattr(self.model, "block_size", length):
            raise UserError(
                f"objective.model.block_size = {self.model.block_size}: the data's blocks have "
                f"{length} tokens; make the two equal"
            )
        if self.tokenizer is not None:
            self._check_vocabulary(self.tokenizer)
        if self.end_token is not None:
            self._end_id(self._tokenizer())
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
        prompt: str | tuple[str, ...] = "\n",
        num_samples: int = 1,
        max_new_tokens: int = 500,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        stop: tuple[str, ...] = (),
    ) -> Displays:
        """Texts that begin with `prompt`, each drawn token by token as `sampling.Sampling` says,
        or the likeliest that a beam finds where `beam_search.BeamSearch` is given an option; up to
        the `end_token` or the first of the strings in `stop`. Several prompts are written on at
        once, `num_samples` of each, and named above what is written. Sample i of a prompt is the
        same whatever other samples and prompts there are.

        Raises UserError without a tokenizer, for a prompt it cannot encode or that is empty, for
        options out of range or of both decoders, and where a beam has no room in the model.
        """
        decoder = choose_decoder(
            Sampling(),
            num_beams=num_beams,
            length_penalty=length_penalty,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        if num_samples < 1:
            raise UserError(f"num_samples = {num_samples}: must be at least 1")
        if isinstance(decoder, BeamSearch) and num_samples > 1:
            raise UserError(
                f"num_samples = {num_samples}: a beam of num_beams = {decoder.num_beams} finds one "
                "text; leave num_samples out"
            )
        prompts = (prompt,) if isinstance(prompt, str) else prompt
        if not prompts:
            raise UserError("prompt: give at least one")
        writer = self._writer(params, collections, decoder, max_new_tokens, stop)
        encoded = [self._encoded(text, decoder, max_new_tokens) for text in prompts]
        texts = writer.texts(
            rng,
            [ids for ids in encoded for _ in range(num_samples)],
            [number for _ in encoded for number in range(num_samples)],
        )
        if len(prompts) > 1:
            names = [f"{text!r}, sample {i + 1}:" for text in prompts for i in range(num_samples)]
            texts = [f"{name}\n{text}" for name, text in zip(names, texts, strict=True)]
        return {"sample": Text(texts)}

    def stream(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        prompt: str = "\n",
        max_new_tokens: int = 500,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        stop: tuple[str, ...] = (),
    ) -> Iterator[str]:
        """What `generate` draws for one sample, as it grows token by token. Each text begins with
        the one before: what may become a `stop` or is half of a character is held back."""
        sampling = choose_decoder(
            Sampling(),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        writer = self._writer(params, collections, sampling, max_new_tokens, stop)
        yield from writer.stream(rng, self._encoded(prompt, sampling, max_new_tokens))

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """A short sample from the first token of the batch; nothing without a tokenizer."""
        if self.tokenizer is None:
            return {}
        writer = self._writer(params, collections, Sampling(), SHOWN_TOKENS)
        return {"sample": Text(writer.texts(rng, [np.asarray(batch["tokens"])[0, :1]]))}

    def _encoded(
        self, prompt: str, decoder: Sampling | BeamSearch, max_new_tokens: int
    ) -> Int[np.ndarray, " tokens"]:
        """The prompt's tokens; what the model does not see of them is told."""
        try:
            ids = self._tokenizer().encode(prompt)
        except UserError as error:
            raise UserError(f"prompt = {prompt!r}: {error}") from error
        if not len(ids):
            raise UserError(f"prompt = {prompt!r}: has no token; give it at least one")
        block_size = getattr(self.model, "block_size", None)
        if block_size is None:
            return ids
        if isinstance(decoder, BeamSearch) and len(ids) + max_new_tokens > block_size:
            raise UserError(
                f"max_new_tokens = {max_new_tokens}: do not fit behind the {len(ids)} tokens of "
                f"prompt = {_shortened(prompt)} in objective.model.block_size = {block_size}, "
                "where a beam must; give fewer"
            )
        if len(ids) > block_size:
            logger.warning(
                "prompt = %s: has %d tokens, and the model sees the last %d, its block_size.",
                _shortened(prompt),
                len(ids),
                block_size,
            )
        return ids

    def _writer(
        self,
        params: Params,
        collections: Collections,
        decoder: Sampling | BeamSearch,
        max_new_tokens: int,
        stop: Sequence[str] = (),
    ) -> TextWriter:
        tokenizer = self._tokenizer()
        self._check_vocabulary(tokenizer)
        return TextWriter(
            self.model,
            {"params": params, **collections},
            tokenizer,
            decoder,
            max_new_tokens,
            self._end_id(tokenizer),
            stop,
        )

    def _end_id(self, tokenizer: Tokenizer) -> int | None:
        if self.end_token is None:
            return None
        try:
            return named_id(tokenizer, self.end_token)
        except UserError as error:
            raise UserError(f"objective.end_token = {self.end_token!r}: {error}") from error

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


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]!r}…"
