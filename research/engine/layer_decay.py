"""Learning rates that fall from the output to the input, layer by layer."""

from collections.abc import Sequence
from typing import Any

import jax

from research.engine.rules import compile_patterns, path_of
from research.errors import UserError


def layer_multipliers(decay: Any, layers: Sequence[str], params: Any, path: str) -> Any:
    """For every parameter decay^(number of layers above its own) (Clark et al. 2020, ELECTRA).

    `layers` are regular expressions over whole parameter paths, from the input to the output. One
    with groups of digits, such as "transformer/block_(\\d+)/.*", stands for as many layers as
    there are numbers, in their order.

    Raises UserError, naming `path`, for a pattern that matches nothing and a parameter that no
    pattern matches.
    """
    patterns = compile_patterns(layers, path)
    places: dict[str, tuple[int, ...]] = {}
    for key_path, _ in jax.tree_util.tree_leaves_with_path(params):
        name = path_of(key_path)
        for i, pattern in enumerate(patterns):
            match = pattern.fullmatch(name)
            if match:
                places[name] = (i, *map(int, match.groups()))
                break
        else:
            raise UserError(
                f"{path}: no pattern matches {name!r}; name every layer, in their order"
            )
    unused = set(range(len(patterns))) - {place[0] for place in places.values()}
    if unused:
        raise UserError(f"{path}: {layers[min(unused)]!r} matches no parameter's whole path")
    order = {place: i for i, place in enumerate(sorted(set(places.values())))}
    return jax.tree_util.tree_map_with_path(
        lambda key_path, _: decay ** (len(order) - 1 - order[places[path_of(key_path)]]), params
    )
