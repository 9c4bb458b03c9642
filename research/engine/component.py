"""Components: what a config names by its import path and the engine builds."""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from research.errors import UserError
from research.suggestion import did_you_mean


@dataclass(frozen=True)
class Component:
    """A constructor found by its path, with checked keyword arguments.

    `kind` is the class or protocol of what it must make, where the setting asks for one.
    """

    path: str
    constructor: Callable[..., Any] = field(compare=False)
    arguments: Mapping[str, Any]
    kind: Any = field(default=None, compare=False)


def build(component: Any, path: str) -> Any:
    """The object a component describes, and all those inside it; other data as it is.

    Raises:
      UserError: where a constructor refuses its arguments with a ValueError or UserError, or
        makes something else than the setting asks for.
    """
    if isinstance(component, tuple):
        return tuple(build(item, f"{path}.{i}") for i, item in enumerate(component))
    if isinstance(component, Mapping):
        return {key: build(item, f"{path}.{key}") for key, item in component.items()}
    if not isinstance(component, Component):
        return component
    arguments = {key: build(value, f"{path}.{key}") for key, value in component.arguments.items()}
    try:
        made = component.constructor(**arguments)
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: {component.path}: {error}") from error
    wrong = mismatch(type(made), component.kind)
    if wrong:
        made_what = f"{component.path} made a {type(made).__name__}, which"
        raise UserError(f"{path}: {made_what} {wrong}")
    return made


def locate(name: str, path: str) -> Callable[..., Any]:
    """The class or function `name`: under `research` first, then as an absolute import path.

    Raises:
      UserError: naming `path`, where there is none. Errors inside an imported module are raised
        as they are.
    """
    module_name, _, attribute = name.rpartition(".")
    absent = ""
    for place in (f"research.{module_name}", module_name):
        module = _import_if_there(place)
        if module is None:
            continue
        if not hasattr(module, attribute):
            known = did_you_mean(attribute, _classes_of(module))
            absent = absent or f"{module.__name__} has no {attribute!r}{known}"
            continue
        found = getattr(module, attribute)
        if inspect.ismodule(found):
            listed = did_you_mean("", _classes_of(found))
            raise UserError(f"{path} = {name!r}: a module; name a class or function in it{listed}")
        if not callable(found):
            kind = type(found).__name__
            raise UserError(f"{path} = {name!r}: expected a class or function, found {kind}")
        if inspect.isabstract(found) or getattr(found, "_is_protocol", False):
            raise UserError(f"{path} = {name!r}: abstract; name a class that implements it")
        return found
    if not absent:
        families = ("vision", "sequence", "generative", "selfsupervised", "data.sources")
        absent = (
            'no such component; write a path under research, such as "vision.LeNet", or one '
            f"that Python can import{did_you_mean(module_name, families)}"
        )
    raise UserError(f"{path} = {name!r}: {absent}")


def parameters_of(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword arguments a config may give: not `name`, which is the component's own, nor
    Linen's `parent`."""
    try:
        parameters = inspect.signature(constructor).parameters
    except (ValueError, TypeError):
        return {}
    hidden = {"name", "parent"} if is_linen(constructor) else {"name"}
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name not in hidden
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def hints_of(constructor: Callable[..., Any], path: str) -> dict[str, Any]:
    """The type hints of a constructor's arguments; UserError where one can't be resolved."""
    target: Any = constructor
    if isinstance(constructor, type) and not dataclasses.is_dataclass(constructor):
        target = constructor.__init__  # type: ignore[misc]
    try:
        return typing.get_type_hints(target)
    except NameError as error:
        name = getattr(constructor, "__qualname__", constructor)
        raise UserError(
            f"{path}: the type hints of {name} can't be read: {error}; import it where the hint "
            "stands, not under TYPE_CHECKING"
        ) from error
    except TypeError:
        return {}


def is_linen(constructor: Any) -> bool:
    """Whether this is a class of Linen modules."""
    import flax.linen as nn

    return isinstance(constructor, type) and issubclass(constructor, nn.Module)


def mismatch(found: type, kind: Any) -> str | None:
    """Why objects of the class `found` are no `kind`; None where they may be one.

    Of a protocol, a class must have all members, and its methods must take as many arguments.
    """
    if not isinstance(kind, type) or kind is object:
        return None
    if not getattr(kind, "_is_protocol", False):
        return None if issubclass(found, kind) else f"is no {kind.__name__}"
    annotated = {name for base in found.__mro__ for name in vars(base).get("__annotations__", ())}
    for name, member in _members(kind).items():
        # Not hasattr: every class can be called.
        if not any(name in vars(base) for base in found.__mro__):
            if name in annotated:
                continue
            return f"is no {kind.__name__}: it has no `{name}`"
        arguments = list(inspect.signature(member).parameters)[1:] if callable(member) else []
        if arguments and not _takes(found, name, len(arguments)):
            return f"is no {kind.__name__}: its `{name}` does not take ({', '.join(arguments)})"
    return None


def _members(protocol: type) -> dict[str, Any]:
    """What a protocol asks for: its methods and properties by name."""
    return {
        name: member
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False)
        for name, member in vars(base).items()
        if not name.startswith("_") or name == "__call__"
    }


def _takes(found: type, name: str, count: int) -> bool:
    """Whether objects of a class have a method that can be called with so many arguments."""
    static = isinstance(inspect.getattr_static(found, name), staticmethod | classmethod)
    try:
        inspect.signature(getattr(found, name)).bind(*range(count if static else count + 1))
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def _import_if_there(name: str) -> types.ModuleType | None:
    """The module, or None where it does not exist; errors inside it are raised as they are."""
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise


def _classes_of(module: types.ModuleType) -> list[str]:
    """The public classes that belong to a module or its submodules."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and not name.startswith("_")
        and value.__module__.startswith(module.__name__)
    ]
