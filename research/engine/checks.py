"""Plain data against type hints: every value is of the declared type or refused by its path."""

import ast
import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

from research.engine.component import (
    Component,
    hints_of,
    is_linen,
    locate,
    mismatch,
    parameters_of,
)
from research.engine.duration import Duration
from research.engine.setting import SCALARS, describe, is_settings, join, settings_of
from research.engine.setting import setting as setting
from research.errors import UserError
from research.suggestion import did_you_mean


def check(value: Any, hint: Any, path: str) -> Any:
    """`value` as an instance of `hint`; UserError naming `path` where it is not one.

    Mappings become the dataclass that the hint names, mappings with a "name" become a
    `Component`, strings become durations, lists become tuples, ints become floats. Nothing
    else is converted.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return check(value, arguments[0], path)
    if origin in (Union, types.UnionType):
        return _check_union(value, arguments, path)
    if origin is Literal:
        return _check_literal(value, hint, path)
    if origin is tuple or hint is tuple:
        return _check_tuple(value, arguments or (Any, ...), path)
    if origin in (list, Sequence) or hint in (list, Sequence):
        return _check_tuple(value, (*(arguments or (Any,)), ...), path)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return _check_mapping(value, arguments[1] if arguments else Any, path)
    if hint is Duration:
        return _check_duration(value, path)
    if hint is None or hint is type(None):
        if value is not None:
            raise _wrong_type(value, hint, path)
        return None
    if hint in SCALARS:
        return _check_scalar(value, hint, path)
    if is_settings(hint):
        return check_settings(value, hint, path)
    kind = origin or hint
    if kind in (Any, object) or not isinstance(kind, type):
        return _check_any(value, path)
    return _check_component(value, kind, path)


def check_settings(value: Any, hint: type, path: str) -> Any:
    """A mapping as the settings dataclass `hint`: no unknown key, none missing, all in range."""
    if not isinstance(value, Mapping):
        raise _wrong_type(value, hint, path)
    fields = {item.name: item for item in dataclasses.fields(hint)}
    hints = typing.get_type_hints(hint)
    for key in value:
        if key not in fields:
            raise UserError(f"{join(path, key)}: no such setting{_meant(str(key), hint)}")
    checked = {}
    for name, item in fields.items():
        place = join(path, name)
        if name in value:
            expected = item.metadata["component"]
            hint_here = _components_of(hints[name], expected) if expected else hints[name]
            checked[name] = check(value[name], hint_here, place)
            _check_range(checked[name], item.metadata["bounds"], place)
            if expected:
                _refuse_models(checked[name], expected, place)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            doc = item.metadata["doc"]
            raise UserError(f"{place}: missing; this setting has no default. {doc}")
    return hint(**checked)


def _check_union(value: Any, hints: tuple[Any, ...], path: str) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    errors = []
    for hint in sorted(hints, key=lambda hint: type(value) is not hint):
        try:
            return check(value, hint, path)
        except UserError as error:
            errors.append(error)
    # What is wrong further inside says more than that nothing fits.
    inside = [error for error in errors if str(error).startswith(f"{path}.")]
    if inside or len(hints) == 1:
        raise (inside or errors)[0]
    raise _wrong_type(value, Union[hints], path)  # noqa: UP007


def _check_literal(value: Any, hint: Any, path: str) -> Any:
    choices = typing.get_args(hint)
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    meant = ""
    if isinstance(value, str):
        meant = did_you_mean(value, map(str, choices), listed=True)
    raise UserError(f"{path} = {_shown(value)}: expected {describe(hint)}{meant}")


def _check_tuple(value: Any, hints: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong_type(value, tuple[hints], path)
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        expected = f"expected {len(hints)} values, found {len(value)}"
        raise UserError(f"{path} = {_shown(value)}: {expected}")
    pairs = enumerate(zip(value, hints, strict=True))
    return tuple(check(item, hint, f"{path}.{i}") for i, (item, hint) in pairs)


def _check_mapping(value: Any, hint: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong_type(value, dict[str, hint], path)
    for key in value:
        if not isinstance(key, str):
            raise UserError(f"{path}: its keys must be strings, found {_shown(key)}")
    return {key: check(item, hint, f"{path}.{key}") for key, item in value.items()}


def _check_scalar(value: Any, hint: type, path: str) -> Any:
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _wrong_type(value, hint, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path} = {value}: expected a finite number")
    return value


def _check_any(value: Any, path: str) -> Any:
    """Data of any type that JSON has, with components inside it."""
    if isinstance(value, Mapping):
        if "name" in value:
            return _check_component(value, None, path)
        return _check_mapping(value, Any, path)
    if isinstance(value, list | tuple):
        return _check_tuple(value, (Any, ...), path)
    if value is None or type(value) in SCALARS:
        return value if value is None else _check_scalar(value, type(value), path)
    raise _wrong_type(value, Any, path)


def _check_duration(value: Any, path: str) -> Duration:
    if isinstance(value, Duration):
        return value
    if type(value) in (int, float):
        raise UserError(f'{path} = {value!r}: say of what, such as "{value} steps"')
    if not isinstance(value, str):
        raise _wrong_type(value, Duration, path)
    try:
        return Duration.parse(value)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _check_range(value: Any, bounds: Mapping[str, float], path: str) -> None:
    number = value.value if isinstance(value, Duration) else value
    if type(number) not in (int, float):
        return
    holds = {
        "at least": number >= bounds.get("at least", -math.inf),
        "at most": number <= bounds.get("at most", math.inf),
        "above": number > bounds.get("above", -math.inf),
        "below": number < bounds.get("below", math.inf),
    }
    for words, bound in bounds.items():
        if not holds[words]:
            raise UserError(f"{path} = {value}: must be {words} {bound}")


def _check_component(value: Any, kind: Any, path: str) -> Component:
    kind = None if kind is Component else kind
    if isinstance(value, str):
        raise UserError(f'{path} = {value!r}: write a component as {{"name": {value!r}, …}}')
    if not isinstance(value, Mapping):
        raise _wrong_type(value, kind or Component, path)
    if "name" not in value:
        meant = did_you_mean("name", map(str, value), listed=True)
        example = 'it says which component this is, such as "vision.LeNet"'
        raise UserError(f"{path}.name: missing; {example}{meant}")
    name = check(value["name"], str, f"{path}.name")
    constructor = locate(name, f"{path}.name")
    wrong = mismatch(constructor, kind) if isinstance(constructor, type) else None
    if wrong:
        raise UserError(f"{path}.name = {name!r}: {wrong}")
    given = {key: item for key, item in value.items() if key != "name"}
    arguments = _check_arguments(constructor, name, given, path)
    return Component(name, constructor, arguments, kind)


def _check_arguments(
    constructor: Callable[..., Any], name: str, given: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """The keyword arguments of a component, with the constructor's defaults that are plain."""
    parameters, hints = parameters_of(constructor), hints_of(constructor, path)
    for key in given:
        if key not in parameters:
            known = did_you_mean(str(key), parameters)
            raise UserError(f"{path}.{key}: {name} has no such argument{known}")
    arguments: dict[str, Any] = {}
    for key, parameter in parameters.items():
        place, hint = f"{path}.{key}", hints.get(key, Any)
        if key in given:
            arguments[key] = check(given[key], hint, place)
        elif parameter.default is inspect.Parameter.empty:
            raise UserError(f"{place}: missing; {name} has no default for it")
        else:
            # A default that is no plain data, or not what the hint says, is the constructor's own
            # affair and not a setting.
            try:
                arguments[key] = check(parameter.default, hint, place)
            except UserError:
                continue
    return arguments


def _components_of(hint: Any, expected: type) -> Any:
    """The hint of a setting with `Component` replaced by what its components must be."""
    if typing.get_origin(hint) is tuple:
        return tuple[expected, ...]
    return expected if hint is Component else expected | None


def _refuse_models(value: Any, expected: type, path: str) -> None:
    """A Linen module can pass for a transform by its `__call__`, and is none."""
    places = [(path, value)]
    if isinstance(value, tuple):
        places = [(f"{path}.{i}", item) for i, item in enumerate(value)]
    for place, item in places:
        if item is not None and is_linen(item.constructor):
            wrong = f"is a Linen module, no {expected.__name__}"
            raise UserError(f"{place}.name = {item.path!r}: {wrong}")


def _meant(key: str, settings: type) -> str:
    """Where the setting `key` is: further inside, or under a similar name here."""
    inside = [item.path for item in settings_of(settings) if item.path.endswith(f".{key}")]
    if inside:
        return f"; did you mean {inside[0]!r}?"
    return did_you_mean(key, [item.name for item in dataclasses.fields(settings)])


def _wrong_type(value: Any, hint: Any, path: str) -> UserError:
    found = "None" if value is None else type(value).__name__
    message = f"{path} = {_shown(value)}: expected {describe(hint)}, found {found}"
    return UserError(message + _unquoted(value, hint))


def _unquoted(value: Any, hint: Any) -> str:
    """The hint that a number or truth value stands in quotes."""
    try:
        literal = ast.literal_eval(value) if isinstance(value, str) else None
    except (ValueError, SyntaxError):
        return ""
    wanted = {hint, *typing.get_args(hint)}
    fits = type(literal) in wanted or (type(literal) is int and float in wanted)
    return f"; write {value} without quotes" if fits and literal is not None else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
