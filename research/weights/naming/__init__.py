"""Which names published files give to our parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from research.weights.entries import Entries, Entry, Modules
from research.weights.naming import huggingface, timm, torchvision


@dataclass(frozen=True)
class Naming:
    """The entries of a model, None for one that has no such names, and the beginnings of names
    that a file may have besides."""

    entries: Callable[[Any, Modules], Entries | None]
    besides: tuple[str, ...] = ()


def _ours(model: Any, modules: Modules) -> Entries:
    """Paths such as "params/stem/conv/kernel"."""
    return (Entry(path, ("/".join(path),)) for path in modules.paths)


NAMINGS: Mapping[str, Naming] = {
    "torchvision": Naming(torchvision.entries, ("aux1.", "aux2.", "AuxLogits.")),
    "timm": Naming(timm.entries),
    "huggingface": Naming(huggingface.entries),
    "research": Naming(_ours),
}
"""By name; where a file has the names of several, the first."""
