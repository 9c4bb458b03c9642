"""Which names published files give to our parameters."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from research.weights.entries import Entries, Entry, Modules
from research.weights.naming import huggingface, timm, torch, torchvision


@dataclass(frozen=True)
class Naming:
    """The entries of a model, None for one that has no such names; regular expressions of names
    that a file may have besides; one spelling of names of which files have several; pairs of an
    array's second name and its first, where it may be there twice; and what names begin with in
    files of a model with its head, but not of one without."""

    entries: Callable[[Any, Modules], Entries | None]
    besides: tuple[str, ...] = ()
    canonical: Callable[[str], str] = str
    aliases: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[str, ...] = ()

    def spelled(self, name: str, known: Set[str]) -> str:
        """A file's name for an array as it is among the `known` ones, if it is."""
        name = self.canonical(name)
        whole = (prefix + name for prefix in ("", *self.prefixes))
        return next((name for name in whole if name in known), name)


def _ours(model: Any, modules: Modules) -> Entries:
    """Paths such as "params/stem/conv/kernel"."""
    return (Entry(path, ("/".join(path),)) for path in modules.paths)


NAMINGS: Mapping[str, Naming] = {
    "torchvision": Naming(
        torchvision.entries, (r"(aux1|aux2|AuxLogits)\..*",), torchvision.canonical
    ),
    "timm": Naming(timm.entries, (r"AuxLogits\..*",)),
    "huggingface": Naming(
        huggingface.entries,
        huggingface.BESIDES,
        huggingface.canonical,
        huggingface.ALIASES,
        huggingface.PREFIXES,
    ),
    "torch": Naming(torch.entries),
    "research": Naming(_ours),
}
"""By name; where a file has the names of several, the first."""
