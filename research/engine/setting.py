"""Settings: dataclass fields with a line of documentation and a range, and their types in words."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from research.engine.component import Component
from research.engine.duration import Duration

SCALARS = {bool: "True or False", int: "an int", float: "a float", str: "a string"}
"""The types of plain values, as they are called in messages."""


def setting(
    doc: str,
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    component: type | None = None,
) -> Any:
    """A dataclass field with its line of documentation and the range of its values.

    A default that is a dict or a dataclass instance is shared, never mutated. `component`
    is the protocol of what the engine asks of a component written in the config.
    """
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    metadata = {
        "doc": doc,
        "bounds": {words: bound for words, bound in bounds.items() if bound is not None},
        "component": component,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """What `--settings` shows of a setting; `default` is MISSING where it must be given."""

    path: str
    hint: Any
    default: Any
    doc: str
    bounds: Mapping[str, float]


def settings_of(settings: Any, path: str = "") -> Iterator[Setting]:
    """Every setting of a dataclass of settings, or of an instance with its own defaults.

    Settings that are given by a name of the user's choice are below "NAME".
    """
    hints = typing.get_type_hints(settings if isinstance(settings, type) else type(settings))
    for item in dataclasses.fields(settings):
        place, hint = join(path, item.name), hints[item.name]
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if not isinstance(settings, type):
            default = getattr(settings, item.name)
        if is_settings(hint):
            yield from settings_of(hint if default is dataclasses.MISSING else default, place)
            continue
        yield Setting(place, hint, default, item.metadata["doc"], item.metadata["bounds"])
        for inner in typing.get_args(hint):
            if is_settings(inner):
                named = typing.get_origin(hint) is Mapping
                yield from settings_of(inner, f"{place}.NAME" if named else place)


def describe(hint: Any) -> str:
    """A type hint in words, such as "a float or None"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    if hint is None or hint is type(None):
        return "None"
    if hint is Duration:
        return 'a duration such as "20 epochs"'
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is typing.Annotated:
        return describe(arguments[0])
    kind = origin or hint
    if kind in (tuple, list, Sequence):
        items = [describe(item) for item in arguments if item is not Ellipsis]
        return f"a tuple ({', '.join(items)}{', …' if len(items) < len(arguments) else ''})"
    if kind in (dict, Mapping):
        return f"a mapping of names to {describe(arguments[1])}" if arguments else "a mapping"
    if is_settings(hint):
        return f"a mapping with the settings of {hint.__name__}"
    if kind is Component:
        return 'a component {"name": …}'
    if kind in (Any, object) or not isinstance(kind, type):
        return "plain data or a component"
    return f'a {kind.__name__}, written as a component {{"name": …}}'


def is_settings(hint: Any) -> bool:
    """Whether a hint is a dataclass of settings, not something a component builds."""
    return (
        isinstance(hint, type)
        and dataclasses.is_dataclass(hint)
        and any("doc" in item.metadata for item in dataclasses.fields(hint))
    )


def join(path: str, key: Any) -> str:
    """The path of a setting inside another."""
    return f"{path}.{key}" if path else str(key)
