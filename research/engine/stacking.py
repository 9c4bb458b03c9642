"""The names of layers that are stacked: one variable for all, with a leading axis of layers."""

import re
from collections.abc import Sequence


def layer_paths(path: Sequence[str], num_layers: int) -> list[tuple[str, ...]]:
    """The paths that the layers of a stacked variable have side by side: `block_0`, `block_1`, …
    for `blocks`, and `stage_0_block_0`, … for `stage_0_blocks`; none for a path without a stack."""
    for place, name in enumerate(path):
        if re.fullmatch(r"(\w+_)?blocks", name):
            above, below = path[:place], path[place + 1 :]
            return [(*above, f"{name[:-1]}_{i}", *below) for i in range(num_layers)]
    return []
