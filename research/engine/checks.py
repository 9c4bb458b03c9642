"""Plain data against type hints: every value is of the declared type or refused by its path."""

import dataclasses
import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from research.engine.duration import Duration
from research.engine.errors import UserError


@dataclass(frozen=True)
class Component:
    """A constructor found by its path, with checked keyword arguments."""

    path: str
    constructor: Callable[..., Any] = field(compare=False)
    arguments: Mapping[str, Any]

    def with_arguments(self, **arguments: Any) -> "Component":
        """The same component with these arguments replaced."""
        return dataclasses.replace(self, arguments={**self.arguments, **arguments})


def setting(
    doc: str,
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    component: type | None = None,
) -> Any:
    """A dataclass field with its line of documentation and the range of its values.

    A default that is a dict or a dataclass instance is shared, never mutated. `component`
    says what a component written in the config must be.
    """
    metadata = {
        "doc": doc,
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
        "component": component,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A half-sentence that names the closest known word, or lists them all if they are few."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if 0 < len(known) <= 24 else ""


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
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        hint_text = did_you_mean(value, map(str, arguments)) if isinstance(value, str) else ""
        choices = ", ".join(repr(choice) for choice in arguments)
        raise UserError(f"{path} = {value!r}: expected one of {choices}{hint_text}")
    if origin is tuple or hint is tuple:
        return _check_tuple(value, arguments, path)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise _wrong_type(value, "a mapping", path)
        value_hint = arguments[1] if arguments else Any
        return {key: check(item, value_hint, f"{path}.{key}") for key, item in value.items()}
    if hint is Duration:
        return _check_duration(value, path)
    if hint is None or hint is type(None):
        if value is not None:
            raise _wrong_type(value, "None", path)
        return None
    if hint in (bool, int, float, str):
        return _check_scalar(value, hint, path)
    if isinstance(value, Mapping) and "name" in value and not _is_settings(hint):
        return _check_component(value, hint, path)
    if _is_settings(hint):
        return check_settings(value, hint, path)
    if hint is Any or not isinstance(hint, type) or isinstance(value, Component):
        return tuple(value) if isinstance(value, list) else value
    raise _wrong_type(value, f'a component {{"name": …}} that is a {hint.__name__}', path)


def check_settings(value: Any, hint: type, path: str) -> Any:
    """A mapping as the settings dataclass `hint`: no unknown key, none missing, all in range."""
    if not isinstance(value, Mapping):
        raise _wrong_type(value, f"the settings of {hint.__name__}, a mapping", path)
    fields = {item.name: item for item in dataclasses.fields(hint)}
    hints = typing.get_type_hints(hint)
    for key in value:
        if key not in fields:
            raise UserError(f"{_join(path, key)}: no such setting{did_you_mean(str(key), fields)}")
    checked = {}
    for name, item in fields.items():
        place = _join(path, name)
        if name in value:
            expected = item.metadata.get("component")
            checked[name] = check(value[name], hints[name], place)
            _check_range(checked[name], item.metadata, place)
            if expected is not None:
                _check_component_kind(checked[name], expected, place)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            doc = item.metadata.get("doc", "")
            raise UserError(f"{place}: missing; this setting has no default. {doc}".rstrip())
    return hint(**checked)


def _check_union(value: Any, hints: tuple[Any, ...], path: str) -> Any:
    if value is None and type(None) in hints:
        return None
    errors = []
    candidates = [hint for hint in hints if hint is not type(None)]
    exact = [hint for hint in candidates if isinstance(hint, type) and type(value) is hint]
    for hint in exact + candidates:
        try:
            return check(value, hint, path)
        except UserError as error:
            errors.append(error)
    if len(candidates) == 1 or any(
        _is_settings(hint) or isinstance(value, Mapping) for hint in candidates
    ):
        raise errors[0]
    names = " or ".join(getattr(hint, "__name__", str(hint)) for hint in hints)
    raise _wrong_type(value, names, path)


def _check_tuple(value: Any, hints: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong_type(value, "a tuple or list", path)
    if not hints:
        hints = (Any, ...)
    if len(hints) == 2 and hints[1] is Ellipsis:
        return tuple(check(item, hints[0], f"{path}.{i}") for i, item in enumerate(value))
    if len(value) != len(hints):
        raise UserError(f"{path} = {value!r}: expected {len(hints)} values, found {len(value)}")
    return tuple(
        check(item, hint, f"{path}.{i}")
        for i, (item, hint) in enumerate(zip(value, hints, strict=True))
    )


def _check_scalar(value: Any, hint: type, path: str) -> Any:
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        article = {bool: "True or False", int: "an int", float: "a float", str: "a string"}[hint]
        raise _wrong_type(value, article, path)
    return value


def _check_duration(value: Any, path: str) -> Duration:
    if isinstance(value, Duration):
        return value
    if type(value) in (int, float):
        raise UserError(f'{path} = {value!r}: say of what, such as "{value} steps"')
    if not isinstance(value, str):
        raise _wrong_type(value, 'a duration such as "20 epochs"', path)
    if value.lstrip().startswith("-"):
        raise UserError(f"{path} = {value!r}: a duration can't be negative")
    try:
        return Duration.parse(value)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _check_range(value: Any, metadata: Mapping[str, Any], path: str) -> None:
    number = value.value if isinstance(value, Duration) else value
    if not isinstance(number, int | float) or isinstance(number, bool):
        return
    low, high, above = metadata.get("at_least"), metadata.get("at_most"), metadata.get("above")
    # A NaN fails every comparison, so each bound is put as what must hold.
    if low is not None and not number >= low:
        raise UserError(f"{path} = {value}: must be at least {low}")
    if above is not None and not number > above:
        raise UserError(f"{path} = {value}: must be above {above}")
    if high is not None and not number <= high:
        raise UserError(f"{path} = {value}: must be at most {high}")


def _check_component_kind(value: Any, expected: type, path: str) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        constructor = getattr(item, "constructor", None)
        if isinstance(constructor, type) and not issubclass(constructor, expected):
            raise UserError(
                f"{path} = {item.path!r}: is no {expected.__name__.lower()}; "
                f"it lacks what research.…{expected.__name__} asks for"
            )


def _check_component(value: Mapping[str, Any], hint: Any, path: str) -> Component:
    name = value["name"]
    if not isinstance(name, str):
        raise _wrong_type(name, "the path of a component, a string", f"{path}.name")
    constructor = locate(name, f"{path}.name")
    if (
        hint not in (Any, Component)
        and isinstance(hint, type)
        and isinstance(constructor, type)
        and not getattr(hint, "_is_protocol", False)
        and not issubclass(constructor, hint)
    ):
        raise UserError(f"{path}.name = {name!r}: is no {hint.__name__}")
    parameters = component_parameters(constructor)
    hints = _constructor_hints(constructor)
    arguments: dict[str, Any] = {}
    for key, item in value.items():
        if key == "name":
            continue
        if key not in parameters:
            raise UserError(
                f"{path}.{key}: {name} has no such argument{did_you_mean(str(key), parameters)}"
            )
        arguments[key] = check(item, hints.get(key, Any), f"{path}.{key}")
    for key, parameter in parameters.items():
        if key in arguments:
            continue
        if parameter.default is inspect.Parameter.empty:
            raise UserError(f"{path}.{key}: missing; {name} has no default for it")
        if _is_plain(parameter.default):
            arguments[key] = parameter.default
    return Component(name, constructor, arguments)


def component_parameters(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword arguments a constructor takes, without Linen's own `parent` and `name`."""
    hidden = {"parent", "name"} if hasattr(constructor, "scope") or _is_linen(constructor) else {}
    return {
        name: parameter
        for name, parameter in inspect.signature(constructor).parameters.items()
        if name not in hidden
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def locate(name: str, path: str) -> Callable[..., Any]:
    """What `name` names: under `research` first, then as an absolute import path."""
    module_name, _, attribute = name.rpartition(".")
    for prefix in ("research.", ""):
        module = _import_if_there(prefix + module_name) if module_name else None
        if module is None:
            continue
        if hasattr(module, attribute):
            found = getattr(module, attribute)
            if not callable(found) or inspect.ismodule(found):
                raise UserError(f"{path} = {name!r}: is no class or function")
            return found
        public = [word for word in dir(module) if not word.startswith("_")]
        constructors = [word for word in public if inspect.isclass(getattr(module, word))]
        raise UserError(
            f"{path} = {name!r}: {module.__name__} has no {attribute!r}"
            f"{did_you_mean(attribute, constructors)}"
        )
    families = ("vision", "sequence", "generative", "selfsupervised", "data.sources")
    raise UserError(
        f"{path} = {name!r}: no such component; write a path under research, such as "
        f'"vision.LeNet", or one that Python can import{did_you_mean(module_name, families)}'
    )


def _import_if_there(name: str) -> types.ModuleType | None:
    """The module, or None where it does not exist; errors inside it are raised as they are."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise


def _constructor_hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    target = constructor
    if isinstance(constructor, type) and not dataclasses.is_dataclass(constructor):
        target = constructor.__init__
    return typing.get_type_hints(target)


def _is_linen(constructor: Any) -> bool:
    import flax.linen as nn

    return isinstance(constructor, type) and issubclass(constructor, nn.Module)


def _is_settings(hint: Any) -> bool:
    """Whether a hint is a dataclass of settings, not something a component builds."""
    return (
        isinstance(hint, type)
        and dataclasses.is_dataclass(hint)
        and any("doc" in item.metadata for item in dataclasses.fields(hint))
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    return value is None or isinstance(value, bool | int | float | str)


def _wrong_type(value: Any, expected: str, path: str) -> UserError:
    return UserError(f"{path} = {value!r}: expected {expected}, found {type(value).__name__}")


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
