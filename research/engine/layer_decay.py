"""Learning rates that fall from the output to the input, layer by layer."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from research.engine.rules import compile_patterns, path_of
from research.engine.stacking import layer_paths
from research.errors import UserError


def layer_multipliers(decay: Any, layers: Sequence[str], params: Any, path: str) -> Any:
    """For every parameter decay^(number of layers above its own) (Clark et al. 2020, ELECTRA).

    `layers` are regular expressions over whole parameter paths, from the input to the output. One
    with groups of digits, such as "transformer/block_(\\d+)/.*", stands for as many layers as
    there are numbers, in their order. The parameters of scanned layers, `blocks`, go by the names
    that they have side by side, `block_0`, `block_1`, …; they have a multiplier for each index of
    their leading axis.

    Raises UserError, naming `path`, for a pattern that matches nothing and a parameter that no
    pattern matches.
    """
    patterns = compile_patterns(layers, path)

    def place_of(name: str) -> tuple[int, ...]:
        for i, pattern in enumerate(patterns):
            match = pattern.fullmatch(name)
            if match:
                return i, *map(int, match.groups())
        raise UserError(f"{path}: no pattern matches {name!r}; name every layer, in their order")

    places: dict[str, list[tuple[int, ...]]] = {}
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = path_of(key_path)
        stack = layer_paths(name.split("/"), np.shape(leaf)[0]) if np.ndim(leaf) else []
        places[name] = [place_of("/".join(layer)) for layer in stack] or [place_of(name)]
    found = sorted({place for several in places.values() for place in several})
    unused = set(range(len(patterns))) - {place[0] for place in found}
    if unused:
        raise UserError(f"{path}: {layers[min(unused)]!r} matches no parameter's whole path")
    above = {place: len(found) - 1 - i for i, place in enumerate(found)}

    def multiplier(key_path: Any, leaf: Any) -> Any:
        exponents = [above[place] for place in places[path_of(key_path)]]
        if len(exponents) == 1:
            return decay ** exponents[0]
        return decay ** np.reshape(exponents, (-1, *(1,) * (np.ndim(leaf) - 1)))

    return jax.tree_util.tree_map_with_path(multiplier, params)
