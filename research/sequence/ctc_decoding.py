"""From what a network says of each frame to labels (Graves et al., 2006, section 3.2)."""

import math
from collections import defaultdict

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Labels = tuple[int, ...]


def best_path(
    logits: Float[Array, "batch frames symbols"], mask: Bool[Array, "batch frames"]
) -> tuple[Int[Array, "batch frames"], Bool[Array, "batch frames"]]:
    """The labels of the likeliest symbol of each frame, repetitions and blanks taken out, and
    where there are some. The last symbol is the blank. Runs under jit."""
    blank = logits.shape[-1] - 1
    best = jnp.where(mask, logits.argmax(-1), blank)
    before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=blank)
    is_label = (best != blank) & (best != before)
    rows, length = jnp.arange(len(best))[:, None], best.shape[1]
    places = jnp.where(is_label, jnp.cumsum(is_label, 1) - 1, length)
    labels = jnp.zeros_like(best).at[rows, places].set(best, mode="drop")
    return labels, jnp.arange(length) < is_label.sum(1, keepdims=True)


def prefix_beam_search(
    log_probs: Float[np.ndarray, "frames symbols"], num_beams: int
) -> list[tuple[Labels, float]]:
    """The likeliest labels of one recording and the logarithms of their probabilities, which are
    sums over paths; best first (Hannun et al., 2014, without a language model). The last symbol is
    the blank.

    `num_beams` beginnings of labels are kept after each frame. Paths through others are not in the
    sums, which are exact where there are beams for all beginnings.
    """
    blank = log_probs.shape[1] - 1
    # Of each beginning, the paths that end in a blank and those that end in its last label.
    beams: dict[Labels, tuple[float, float]] = {(): (0.0, -math.inf)}
    for frame in log_probs.tolist():
        blanks: dict[Labels, float] = defaultdict(lambda: -math.inf)
        others: dict[Labels, float] = defaultdict(lambda: -math.inf)
        for labels, (ends_blank, ends_other) in beams.items():
            total = _add(ends_blank, ends_other)
            blanks[labels] = total + frame[blank]
            if labels:
                others[labels] = _add(others[labels], ends_other + frame[labels[-1]])
            for symbol in range(blank):
                # A label is repeated only behind a blank.
                before = ends_blank if labels and symbol == labels[-1] else total
                longer = (*labels, symbol)
                others[longer] = _add(others[longer], before + frame[symbol])
        found = {labels: (blanks[labels], others[labels]) for labels in {**blanks, **others}}
        best = sorted(found, key=lambda labels: _add(*found[labels]), reverse=True)[:num_beams]
        beams = {labels: found[labels] for labels in best}
    return [(labels, _add(*ends)) for labels, ends in beams.items()]


def _add(first: float, second: float) -> float:
    """log(exp(first) + exp(second))"""
    high, low = max(first, second), min(first, second)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
