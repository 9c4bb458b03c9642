"""Which names published files give to our parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from research.weights.entries import Entries, Entry, Modules
from research.weights.naming import huggingface, timm, torch, torchvision


@dataclass(frozen=True)
class Naming:
    """The entries of a model, None for one that has no such names; regular expressions of names
    that a file may have besides; one spelling of names of which files have several; and pairs of an
    array's second name and its first, where it may be there twice."""

    entries: Callable[[Any, Modules], Entries | None]
    besides: tuple[str, ...] = ()
    canonical: Callable[[str], str] = str
    aliases: tuple[tuple[str, str], ...] = ()


def _ours(model: Any, modules: Modules) -> Entries:
    """Paths such as "params/stem/conv/kernel"."""
    return (Entry(path, ("/".join(path),)) for path in modules.paths)


NAMINGS: Mapping[str, Naming] = {
    "torchvision": Naming(torchvision.entries, (r"(aux1|aux2|AuxLogits)\..*",)),
    "timm": Naming(timm.entries),
    "huggingface": Naming(
        huggingface.entries, huggingface.BESIDES, huggingface.canonical, huggingface.ALIASES
    ),
    "torch": Naming(torch.entries),
    "research": Naming(_ours),
}
"""By name; where a file has the names of several, the first."""
