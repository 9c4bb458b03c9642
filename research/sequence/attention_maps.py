"""What a decoder looks at: its attention to the source."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from research.engine.display import Heatmap, Heatmaps
from research.sequence.translator import Translator


@partial(jax.jit, static_argnames="model")
def attention_maps(
    model: Translator,
    variables: Mapping[str, Any],
    source: Int[Array, "batch source_length"],
    target: Int[Array, "batch length"],
    source_mask: Bool[Array, "batch source_length"],
    target_mask: Bool[Array, "batch length"],
) -> Float[Array, "layers batch num_heads length source_length"]:
    """How much each place of the target attends to each of the source, in [0, 1], in every layer
    that attends to it, the last one last; a recurrent decoder has one layer and one head."""
    _, seen = model.apply(
        variables,
        source,
        target,
        source_mask=source_mask,
        target_mask=target_mask,
        mutable=["intermediates"],
    )
    found: dict[int, Array] = {}
    for path, weights in jax.tree_util.tree_leaves_with_path(seen["intermediates"]):
        names = [str(getattr(key, "key", "")) for key in path]
        if names == ["weights", ""]:
            found[0] = weights[:, None]
        elif "cross_attention" in names and "blocks" in names:
            found = dict(enumerate(weights))
        elif "cross_attention" in names:
            block = next(name for name in names if name.startswith("block_"))
            found[int(block.removeprefix("block_"))] = weights
    return jnp.stack([found[layer] for layer in sorted(found)])


def draw_attention(
    maps: Float[np.ndarray, "num length source_length"],
    titles: Sequence[str],
    sources: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
) -> Heatmaps:
    """Maps as pictures, without their padding; a row is the token that is written next."""
    drawn = [
        Heatmap(weights[: len(target), : len(source)], target, source, title)
        for weights, title, source, target in zip(maps, titles, sources, targets, strict=True)
    ]
    return Heatmaps(drawn, ("source", "target"), "attention")
