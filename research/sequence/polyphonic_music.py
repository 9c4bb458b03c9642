"""Polyphonic music: predict the next frame's keys from the frames before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from research.data.midi import LOWEST_PITCH, NUM_KEYS, read_midi
from research.engine.display import Display, Displays, Heatmap, Heatmaps, Music, Sound
from research.engine.metrics import Mean, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.synthesis import synthesize

SAMPLE_RATE = 22_050
MARGIN = 2  # keys shown above and below those that sound


@dataclass(frozen=True)
class PolyphonicMusic:
    """The negative log-likelihood of the next frame, whose keys are independent given the frames
    before it (Boulanger-Lewandowski et al., 2012).

    Counted as by Bai et al. (2018) and their code: binary cross-entropy in nats, summed over the 88
    keys, and its mean over all frames of all pieces but the first of each, which is not predicted.

    `model(frames, train)` gives the logits of the 88 keys of the frame after each, and looks at
    none that come later. A batch has `frames` (N, length, 88), 1 where a key sounds, and
    `frame_mask` (N, length), 0 behind a piece's end.
    """

    model: nn.Module

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables. Raises UserError where it does not predict every key."""
        frames = batch["frames"][:, :-1]
        logits, variables = self.model.init_with_output(rng, frames, train=False)
        if logits.shape != frames.shape:
            raise UserError(
                f"objective.model predicts {logits.shape[-1]} keys a frame, the data has "
                f"{frames.shape[-1]}; set its out_features to that"
            )
        return variables

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over the predicted frames of the batch, with the metrics of `evaluate`."""
        logits, collections = self.model.apply(
            {"params": params, **collections},
            batch["frames"][:, :-1],
            train=True,
            mutable=list(collections),
            rngs={"dropout": rng},
        )
        metrics = _metrics(logits, batch["frames"][:, 1:], batch["frame_mask"][:, 1:])
        total, weight = metrics["nll"].total, metrics["nll"].weight
        return total / jnp.maximum(weight, 1.0), Aux(metrics, collections, weight)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """`nll` a frame in nats, and, of keys taken to sound where their probability is above 1/2,
        `accuracy` TP / (TP + FP + FN) (Bay et al., 2009) and `f1` over all frames."""
        mask = batch["frame_mask"][:, 1:]
        if "mask" in batch:
            mask = mask * batch["mask"][:, None]
        logits = self._logits(params, collections, batch["frames"])
        return _metrics(logits, batch["frames"][:, 1:], mask)

    def generate(
        self,
        params: Params,
        collections: Collections,
        rng: PRNGKeyArray,
        *,
        num_samples: int = 1,
        num_frames: int = 64,
        prompt: str = "",
        prompt_frames: int = 16,
        temperature: float = 1.0,
        seconds_per_frame: float = 0.5,
    ) -> Displays:
        """Pieces drawn frame by frame, as a picture, as MIDI and as sound, behind the first
        `prompt_frames` quarter notes of the MIDI file `prompt`, or behind a frame of silence.
        Sample i is the same however many there are.

        Logits are divided by `temperature`. Raises UserError for a prompt that is no MIDI file and
        for options out of range.
        """
        for name, number in (("num_samples", num_samples), ("num_frames", num_frames)):
            if number < 1:
                raise UserError(f"{name} = {number}: must be at least 1")
        if prompt_frames < 1:
            raise UserError(f"prompt_frames = {prompt_frames}: must be at least 1")
        if temperature <= 0 or seconds_per_frame <= 0:
            raise UserError(
                f"temperature = {temperature} and seconds_per_frame = {seconds_per_frame} must be "
                "above 0"
            )
        start = np.zeros((1, NUM_KEYS), bool)
        if prompt:
            start = read_midi(Path(prompt).expanduser())[:prompt_frames]
        rolls = continue_music(
            self.model,
            {"params": params, **collections},
            rng,
            jnp.broadcast_to(jnp.asarray(start, jnp.float32), (num_samples, *start.shape)),
            jnp.asarray(temperature),
            num_frames=num_frames,
        )
        rolls = np.asarray(rolls) > 0
        keys = _keys_around(rolls.any((0, 1)))
        maps = [_heatmap(roll, keys, f"sample {i}") for i, roll in enumerate(rolls)]
        displays: dict[str, Display] = {"samples": Heatmaps(maps, ("frame", "key"))}
        for i, roll in enumerate(rolls):
            samples = synthesize(roll, seconds_per_frame, SAMPLE_RATE)
            displays[f"music_{i}"] = Music(roll, seconds_per_frame)
            displays[f"sound_{i}"] = Sound(samples, SAMPLE_RATE)
        return displays

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """The first piece beside the probabilities of its keys given the frames before, and as
        MIDI, which `generate` takes as a prompt."""
        length = int(np.sum(batch["frame_mask"][0]))
        frames = jnp.asarray(batch["frames"][:1])
        logits = self._compiled_logits(params, collections, frames)
        roll = np.asarray(frames[0, :length]) > 0
        keys = _keys_around(roll.any(0))
        maps = [
            _heatmap(roll[1:], keys, "truth"),
            _heatmap(np.asarray(jax.nn.sigmoid(logits))[0, : length - 1], keys, "prediction"),
        ]
        return {
            "prediction": Heatmaps(maps, ("frame", "key"), "probability"),
            "piece": Music(roll),
        }

    def _logits(
        self, params: Params, collections: Collections, frames: Float[Array, "batch length keys"]
    ) -> Float[Array, "batch length-1 keys"]:
        """Of every frame but the first."""
        variables = {"params": params, **collections}
        return jnp.asarray(self.model.apply(variables, frames[:, :-1], train=False))

    @cached_property
    def _compiled_logits(self) -> Callable[..., Array]:
        return jax.jit(self._logits)


@partial(jax.jit, static_argnames=("model", "num_frames"))
def continue_music(
    model: nn.Module,
    variables: Mapping[str, Any],
    rng: PRNGKeyArray,
    prompts: Float[Array, "batch prompt_length keys"],
    temperature: Float[Array, ""],
    *,
    num_frames: int,
) -> Float[Array, "batch length keys"]:
    """Prompts and `num_frames` frames behind them, each drawn given all before it.

    A frame costs as much as reading the whole piece: pieces are short, and so a model needs no
    cache to be sampled from.
    """
    batch_size, start, _ = prompts.shape
    keys = jax.vmap(partial(jax.random.fold_in, rng))(jnp.arange(batch_size))

    def append(place: Array, frames: Array) -> Array:
        logits = jnp.asarray(model.apply(variables, frames, train=False))[:, place - 1]
        each = jax.vmap(lambda key: jax.random.fold_in(key, place))(keys)
        probabilities = jax.nn.sigmoid(logits.astype(jnp.float32) / temperature)
        drawn = jax.vmap(jax.random.bernoulli)(each, probabilities)
        return frames.at[:, place].set(drawn.astype(frames.dtype))

    frames = jnp.pad(prompts, ((0, 0), (0, num_frames), (0, 0)))
    return lax.fori_loop(start, start + num_frames, append, frames)


def _metrics(
    logits: Float[Array, "batch length keys"],
    targets: Float[Array, "batch length keys"],
    mask: Float[Array, "batch length"],
) -> dict[str, Mean]:
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets).sum(-1)
    found = (logits > 0) * mask[..., None]
    hits, num_found = jnp.sum(found * targets), jnp.sum(found)
    num_true = jnp.sum(targets * mask[..., None])
    return {
        "nll": mean_of(losses, mask),
        "accuracy": Mean(hits, num_found + num_true - hits),
        "f1": Mean(2 * hits, num_found + num_true),
    }


def _keys_around(sounding: Bool[np.ndarray, " keys"]) -> np.ndarray:
    """The keys from the lowest to the highest that sounds, and some more."""
    used = np.flatnonzero(sounding)
    low, high = (used[0], used[-1]) if len(used) else (0, NUM_KEYS - 1)
    return np.arange(max(low - MARGIN, 0), min(high + MARGIN + 1, NUM_KEYS))


def _heatmap(roll: np.ndarray, keys: np.ndarray, title: str) -> Heatmap:
    """A piano roll, the highest key above; of their names those of C."""
    pitches = LOWEST_PITCH + keys[::-1]
    names = [f"C{pitch // 12 - 1}" if pitch % 12 == 0 else "" for pitch in pitches]
    return Heatmap(roll.T[keys[::-1]].astype(np.float32), names, title=title)
