"""Labels of a sequence without saying where in it they are (Graves et al., 2006)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from research.data.tokenizers import Tokenizer
from research.engine.display import Display, Displays, Heatmap, Heatmaps, Text
from research.engine.metrics import Mean, mean_of
from research.engine.objective import Aux, Batch, Collections, Params, Variables
from research.errors import UserError
from research.sequence.ctc_decoding import best_path, prefix_beam_search
from research.sequence.sequence_batch import outputs_of, sequences_of, training_outputs_of

NUM_DRAWN, NUM_SHOWN = 2, 16


@dataclass(frozen=True)
class CTC:
    """Connectionist temporal classification: the negative log probability of the labels, summed
    over all ways to say them, each some frames long, with blanks between; in nats a sequence.

    A batch has `inputs` and `input_mask` (or `tokens`), as of `SequenceClassification`, labels
    int32 (N, max_labels), which are below the model's `num_classes` - 1, and label_mask float32
    (N, max_labels), 0 where there is padding behind them. The model gives logits of each frame,
    the last of them of the blank. Where it gives fewer frames than it is given, its
    `output_mask(mask)` says which are no padding.

    Only text, in `show` and `texts`, needs the `tokenizer`. It is the best path's with one beam,
    else that of a search with `num_beams`.
    """

    model: nn.Module
    tokenizer: Tokenizer | None = None
    num_beams: int = 1

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise UserError(f"objective.num_beams = {self.num_beams}: must be at least 1")
        pooling = getattr(self.model, "pooling", None)
        if pooling is not None:
            raise UserError(
                f"objective.model.pooling = {pooling!r}: labels need logits of each frame; make it "
                "None"
            )
        num_classes = getattr(self.model, "num_classes", None)
        if self.tokenizer is not None and num_classes not in (None, self.tokenizer.vocab_size + 1):
            raise UserError(
                f"objective.model.num_classes = {num_classes}: must be "
                f"{self.tokenizer.vocab_size + 1}, one for each of the "
                f"{self.tokenizer.vocab_size} tokens of objective.tokenizer and one for the blank"
            )

    def init(self, rng: PRNGKeyArray, batch: Batch) -> Variables:
        """The model's variables."""
        sequences, mask = sequences_of(batch)
        return self.model.init(rng, sequences, train=False, mask=mask)

    def check_data(self, arrays: Mapping[str, Any]) -> None:
        """Raises UserError where a label is none of the model's, and where there are more labels
        than frames: a label takes one, and two equal ones a blank between them."""
        if "labels" not in arrays or "label_mask" not in arrays:
            return
        labels, has_label = np.asarray(arrays["labels"]), np.asarray(arrays["label_mask"]) > 0
        num_classes: int | None = getattr(self.model, "num_classes", None)
        high, low = labels.max(initial=0, where=has_label), labels.min(initial=0, where=has_label)
        if low < 0 or (num_classes is not None and high >= num_classes - 1):
            raise UserError(
                f"the labels go from {low} to {high}, but the model has objective.model.num_classes"
                f" = {num_classes}, the last of which is the blank"
            )
        if "num_frames" in arrays:
            num_inputs = np.asarray(arrays["num_frames"])
        elif "input_mask" in arrays:
            num_inputs = np.sum(np.asarray(arrays["input_mask"]) > 0, 1)
        else:
            return
        repeated = (labels[:, 1:] == labels[:, :-1]) & has_label[:, 1:]
        needed, frames = has_label.sum(1) + repeated.sum(1), self._num_outputs(num_inputs)
        wrong = np.flatnonzero(needed > frames)
        if len(wrong):
            first = wrong[0]
            raise UserError(
                f"the {has_label[first].sum()} labels of example {first} need {needed[first]} "
                f"frames, and the model makes {frames[first]} of the {num_inputs[first]} that it "
                f"has; leave such examples out ({len(wrong)} of {len(labels)}), or give the model "
                "more frames a second"
            )

    def loss(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Aux]:
        """The mean over sequences, with the accuracy of the logits it was computed from."""
        logits, collections = training_outputs_of(self.model, params, collections, batch, rng)
        losses, is_right = self._measure(logits, batch)
        return losses.mean(), Aux({"accuracy": mean_of(is_right)}, collections)

    def evaluate(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Mapping[str, Mean]:
        """The loss, and as `accuracy` the share of sequences of which the best path has all labels
        right and no others, in [0, 1]."""
        losses, is_right = self._measure(self.logits(params, collections, batch), batch)
        mask = batch.get("mask")
        return {"loss": mean_of(losses, mask), "accuracy": mean_of(is_right, mask)}

    def logits(
        self, params: Params, collections: Collections, batch: Batch
    ) -> Float[Array, "batch frames symbols"]:
        """The model's output in evaluation mode, in float32."""
        return outputs_of(self.model, params, collections, batch)

    def output_mask(
        self, batch: Batch, logits: Float[Array, "batch frames symbols"]
    ) -> Bool[Array, "batch frames"]:
        """Which frames of the model's output are no padding."""
        _, mask = sequences_of(batch)
        return jnp.ones(logits.shape[:2], bool) if mask is None else self._output_mask(mask)

    def labels(
        self,
        params: Params,
        collections: Collections,
        batch: Batch,
        num_beams: int | None = None,
    ) -> list[list[int]]:
        """What is heard in each sequence of a batch."""
        num_beams = num_beams or self.num_beams
        logits = self._compiled_logits(params, collections, batch)
        mask = self.output_mask(batch, logits)
        if num_beams == 1:
            found, is_label = best_path(logits, mask)
            pairs = zip(np.asarray(found), np.asarray(is_label), strict=True)
            return [labels[is_label].tolist() for labels, is_label in pairs]
        log_probs, frames = np.asarray(jax.nn.log_softmax(logits)), np.asarray(mask)
        return [
            list(prefix_beam_search(rows[kept], num_beams)[0][0])
            for rows, kept in zip(log_probs, frames, strict=True)
        ]

    def texts(
        self,
        params: Params,
        collections: Collections,
        batch: Batch,
        num_beams: int | None = None,
    ) -> list[str]:
        """That as text. Raises UserError without a tokenizer."""
        return [self.text(ids) for ids in self.labels(params, collections, batch, num_beams)]

    def text(self, labels: Any) -> str:
        """Labels as text. Raises UserError without a tokenizer."""
        if self.tokenizer is None:
            raise UserError("objective.tokenizer: missing; labels can't be made text without it")
        return self.tokenizer.decode(labels)

    def show(
        self, params: Params, collections: Collections, batch: Batch, rng: PRNGKeyArray
    ) -> Displays:
        """Spectrograms, low bands below, each above the probabilities of the symbols in its frames;
        and what was heard in some sequences, under what was said."""
        batch = {name: array[:NUM_SHOWN] for name, array in batch.items()}
        logits = self._compiled_logits(params, collections, batch)
        probabilities = np.asarray(jax.nn.softmax(logits))
        mask = np.asarray(self.output_mask(batch, logits))
        heard = [self._said(labels) for labels in self.labels(params, collections, batch)]
        labels, has_label = np.asarray(batch["labels"]), np.asarray(batch["label_mask"]) > 0
        said = [self._said(row[kept]) for row, kept in zip(labels, has_label, strict=True)]
        lines = [f"= {true}\n> {found}" for true, found in zip(said, heard, strict=True)]
        displays: dict[str, Display] = {"sequences": Text(lines)}
        inputs, input_mask = sequences_of(batch)
        if inputs.ndim != 3:
            return displays
        names = [*(self._said([k]) for k in range(logits.shape[-1] - 1)), "blank"]
        bands = ["" if band % 10 else str(band) for band in reversed(range(inputs.shape[-1]))]
        maps = []
        for i in range(min(NUM_DRAWN, len(said))):
            spectrogram = np.asarray(inputs[i] if input_mask is None else inputs[i][input_mask[i]])
            low, high = spectrogram.min(), spectrogram.max()
            values = (spectrogram - low) / max(high - low, 1e-6)
            maps.append(Heatmap(values.T[::-1], bands, title=f"said: {said[i]}"))
            rows = probabilities[i][mask[i]]
            # As wide as the spectrogram, so that one stands under the other.
            rows = np.repeat(rows, round(inputs.shape[1] / logits.shape[1]), 0)[: len(values)]
            maps.append(Heatmap(rows.T, names, title=f"heard: {heard[i]}"))
        scale = "probability, or loudness from least to most"
        displays["alignments"] = Heatmaps(maps, axes=("frame", ""), scale=scale)
        return displays

    def _measure(
        self, logits: Float[Array, "batch frames symbols"], batch: Batch
    ) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
        """The loss of each sequence, and whether its best path is right."""
        mask = self.output_mask(batch, logits)
        labels, has_label = batch["labels"], batch["label_mask"] > 0
        losses = ctc_losses(logits, mask, labels, has_label)
        found, is_label = best_path(logits, mask)
        room = max(found.shape[1], labels.shape[1])
        truth, heard = _ended(labels, has_label, room), _ended(found, is_label, room)
        return losses, (truth == heard).all(1)

    def _output_mask(self, mask: Any) -> Any:
        """That of the model, the same where it has none."""
        return getattr(self.model, "output_mask", lambda same: same)(mask)

    def _num_outputs(self, num_inputs: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " batch"]:
        """How many frames the model makes of so many."""
        lengths, places = np.unique(num_inputs, return_inverse=True)
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        return np.asarray(self._output_mask(mask)).sum(1)[places]

    def _said(self, labels: Any) -> str:
        """Labels as text, as numbers without a tokenizer."""
        return " ".join(map(str, labels)) if self.tokenizer is None else self.text(labels)

    @cached_property
    def _compiled_logits(self) -> Callable[..., Array]:
        return jax.jit(self.logits)


def ctc_losses(
    logits: Float[Array, "batch frames symbols"],
    mask: Bool[Array, "batch frames"],
    labels: Int[Array, "batch max_labels"],
    label_mask: Bool[Array, "batch max_labels"],
) -> Float[Array, " batch"]:
    """-log p(labels) of each sequence in nats, the last symbol the blank; about 1e5 where labels do
    not fit into the frames."""
    return optax.ctc_loss(
        logits, 1.0 - mask, labels, 1.0 - label_mask, blank_id=logits.shape[-1] - 1
    )


def _ended(
    labels: Int[Array, "batch length"], mask: Bool[Array, "batch length"], room: int
) -> Int[Array, "batch room"]:
    """Labels with -1 where there are none, in so many columns."""
    missing = ((0, 0), (0, room - labels.shape[1]))
    return jnp.pad(jnp.where(mask, labels, -1), missing, constant_values=-1)
