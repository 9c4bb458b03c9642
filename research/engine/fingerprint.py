"""What settings name and do not hold, such as a tokenizer's file: a run must find it unchanged."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from research.engine.component import Component, build
from research.engine.files import read_json
from research.engine.setting import join
from research.errors import UserError


@runtime_checkable
class HasFingerprint(Protocol):
    """A component that reads something a trained model depends on."""

    def fingerprint(self) -> str:
        """A digest of what it read."""
        ...


def components(settings: Any, path: str = "") -> Iterator[tuple[str, Component]]:
    """Every component in these settings, those inside others too, and the setting's path."""
    inside: Mapping[str, Any] = {}
    match settings:
        case Component():
            yield path, settings
            inside = settings.arguments
        case Mapping():
            inside = settings
        case tuple():
            inside = {str(place): item for place, item in enumerate(settings)}
        case _ if dataclasses.is_dataclass(settings):
            fields = dataclasses.fields(settings)
            inside = {field.name: getattr(settings, field.name) for field in fields}
    for name, value in inside.items():
        yield from components(value, join(path, name))


def fingerprints(settings: Any, path: str = "") -> dict[str, str]:
    """The digest of every component in these settings that has one, by the setting's path."""
    return {
        place: build(component, place).fingerprint()
        for place, component in components(settings, path)
        if isinstance(component.constructor, type)
        and issubclass(component.constructor, HasFingerprint)
    }


def check_fingerprints(settings: Any, workdir: Path, path: str = "") -> None:
    """Raises UserError for a setting that reads something else than when the run in this folder was
    trained."""
    then = read_json(workdir / "data.json").get("fingerprints", {})
    for place, now in fingerprints(settings, path).items():
        if then.get(place, now) != now:
            raise UserError(
                f"{place}: what it reads is not what the run in {workdir} was trained with; its "
                "file has changed since. Bring the old one back, or train anew"
            )
