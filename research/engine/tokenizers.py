"""Whether all that a run reads becomes the same tokens."""

from itertools import combinations, product
from pathlib import Path
from typing import Any

from research.data.tokenizers import Tokenizer
from research.engine.component import Component, build, mismatch
from research.engine.experiment import Experiment
from research.engine.fingerprint import HasFingerprint, components
from research.errors import UserError

_FILES = {"file", "files"}  # what is read from them has a digest


def tokenizers(settings: Any, path: str = "") -> dict[str, Component]:
    """Every tokenizer in these settings, by the setting's path."""
    return {
        place: component
        for place, component in components(settings, path)
        if isinstance(component.constructor, type)
        and mismatch(component.constructor, Tokenizer) is None
    }


def check_tokenizers(experiment: Experiment) -> None:
    """Raises UserError where two tokenizers of the same text differ: those of settings with the
    same name, such as objective.tokenizer and data.source.tokenizer, or of which one is for all
    text and one for a side of it, such as tokenizer and source_tokenizer."""
    found = tokenizers(experiment)
    for (path, one), (other_path, other) in combinations(found.items(), 2):
        if not _are_of_one_text(path, other_path):
            continue
        difference = _difference(other, one)
        if difference is not None:
            raise UserError(
                f"{other_path}: makes other tokens than {path}: {difference}; give both the same"
            )


def check_tokenizers_of_run(experiment: Experiment, run: Experiment, workdir: Path) -> None:
    """Raises UserError where a tokenizer differs from that of the run, in this folder, which the
    variables come from."""
    ours = tokenizers(experiment.objective, "objective") | tokenizers(experiment.data, "data")
    theirs = tokenizers(run.objective, "objective") | tokenizers(run.data, "data")
    for (path, one), (their_path, other) in product(ours.items(), theirs.items()):
        difference = _difference(one, other) if _are_of_one_text(path, their_path) else None
        if difference is not None:
            raise UserError(
                f"{path}: makes other tokens than {their_path} of {workdir}, which init_from "
                f"starts from: {difference}. Give it that run's or, where nothing is taken that "
                "depends on tokens, set init_from.allow_other_tokenizer=True"
            )


def _are_of_one_text(path: str, other: str) -> bool:
    names = [place.rpartition(".")[2] for place in (path, other)]
    short, long = sorted(names, key=len)
    return long == short or long.endswith(f"_{short}")


def _difference(one: Component, other: Component) -> str | None:
    """What the first tokenizer has that the second has not; None where they are the same, be it by
    files of other names."""
    alike = one.constructor is other.constructor
    names = one.arguments.keys() | other.arguments.keys() if alike else set()
    differing = {n for n in names if one.arguments.get(n) != other.arguments.get(n)}
    if alike and not differing:
        return None
    if differing <= _FILES:
        digest = _digest(one)
        if digest is not None and digest == _digest(other):
            return None
    if not alike:
        return f"it is {one.path}, not {other.path}"
    name = min(differing - _FILES or differing)
    return f"its {name} is {_shown(one, name)}, not {_shown(other, name)}"


def _digest(tokenizer: Component) -> str | None:
    made = build(tokenizer, tokenizer.path)
    return made.fingerprint() if isinstance(made, HasFingerprint) else None


def _shown(tokenizer: Component, name: str) -> str:
    text = repr(tokenizer.arguments.get(name))
    return text if len(text) <= 100 else f"{text[:99]}…"
