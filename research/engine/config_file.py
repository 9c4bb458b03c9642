"""Config files: Python that returns plain data, and overrides of single places in it."""

import ast
import inspect
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from research.errors import UserError
from research.suggestion import did_you_mean

_WORDS = {"true": True, "false": False, "none": None, "null": None}


def read_file(location: str) -> dict[str, Any]:
    """What `get_config()`, or `get_config(variant)`, of `FILE.py[:variant]` returns, as plain data.

    A file may list its variants in `VARIANTS`.

    Raises:
      UserError: naming the file, and the line where there is one.
    """
    file, variant = _split(location)
    module = import_file(file)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(f"{file}: defines no function get_config(), which returns the config")
    arguments = _variant_arguments(module, get_config, variant, file)
    try:
        config = _plain(get_config(*arguments))
    except Exception as error:
        raise _failure(error, file) from error
    if not isinstance(config, dict):
        raise UserError(
            f"{file}: get_config() returned {_type_of(config)}; it must return a ConfigDict or dict"
        )
    return config


def read_sweep(location: str) -> Any:
    """What `get_sweep()`, or `get_sweep(variant)`, of `FILE.py[:variant]` returns, as plain data.

    Raises:
      UserError: naming the file, and the line where there is one.
    """
    file, variant = _split(location)
    module = import_file(file)
    get_sweep = getattr(module, "get_sweep", None)
    if not callable(get_sweep):
        raise UserError(
            f"{file}: defines no function get_sweep(), which returns the search space; "
            "`python -m launch.sweep --help` shows one"
        )
    takes_variant = bool(inspect.signature(get_sweep).parameters)
    arguments = _variant_arguments(module, get_sweep, variant, file) if takes_variant else []
    try:
        return _plain(get_sweep(*arguments))
    except Exception as error:
        raise _failure(error, file) from error


def parse_value(text: str) -> Any:
    """A command-line value: a Python literal, true/false/none, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return _WORDS.get(text.lower(), text)


def set_place(plain: Any, path: str, value: Any) -> None:
    """Sets a place in nested mappings and lists, making the mappings that are not there.

    Raises:
      UserError: naming `path`, for a place that can't be.
    """
    names = path.split(".")
    if not all(names):
        raise UserError(f"{path or 'an override'}: write the path of a setting, such as data.seed")
    place = plain
    for depth, name in enumerate(names):
        here = ".".join(names[:depth])
        if isinstance(place, list):
            if not name.isdecimal() or int(name) >= len(place):
                places = f"0 to {len(place) - 1}" if place else "none, it is empty"
                raise UserError(f"{path}: no place {name!r} in {here}; its places are {places}")
        elif not isinstance(place, dict):
            raise UserError(f"{path}: {here} = {place!r} has no settings inside")
        elif name.isdecimal() and name not in place:
            raise UserError(
                f"{path}: the config does not write {here} out, so it has no place {name}; "
                f"set all of it, --config.{here}=…"
            )
        key: Any = int(name) if isinstance(place, list) else name
        if depth == len(names) - 1:
            place[key] = value
            return
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[key]


def _split(location: str) -> tuple[Path, str]:
    """The file, which is there, and the variant of `FILE.py[:variant]`."""
    name, separator, variant = location.partition(".py:")
    file = Path(name + ".py" if separator else name)
    if file.suffix != ".py" or not file.is_file():
        nearby = [str(path) for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
        what = "no such file" if not file.exists() else "no config file, FILE.py"
        raise UserError(f"--config={location}: {what}{did_you_mean(str(file), nearby)}")
    return file, variant


def import_file(file: Path) -> ModuleType:
    """A config file as a module; UserError for what is wrong inside it, with its line."""
    module = ModuleType(f"experiment_config_{file.stem}")
    module.__file__ = str(file)
    try:
        # From its source: bytecode is stale where a file changed twice within a second.
        exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    except Exception as error:
        raise _failure(error, file) from error
    return module


def _variant_arguments(module: ModuleType, get_config: Any, variant: str, file: Path) -> list[str]:
    """The arguments for `get_config`; UserError where the variant and the file don't fit."""
    variants = getattr(module, "VARIANTS", ())
    listed = f"; variants are {', '.join(variants)}" if variants else ""
    parameters = inspect.signature(get_config).parameters.values()
    if not variant:
        if any(parameter.default is parameter.empty for parameter in parameters):
            raise UserError(f"{file}: choose a variant, --config={file}:VARIANT{listed}")
        return []
    if not parameters:
        raise UserError(f"{file}: has no variants, so {variant!r} can't be chosen")
    if variants and variant not in variants:
        raise UserError(
            f"{file}: no variant {variant!r}{did_you_mean(variant, variants, listed=True)}{listed}"
        )
    return [variant]


def _failure(error: Exception, file: Path) -> UserError:
    """What went wrong inside a config file, and in which of its lines."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file)]
        line = lines[-1] if lines else None
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return UserError(f"{file}:{f'{line}:' if line else ''} {type(error).__name__}: {message}")


def _plain(value: Any) -> Any:
    """ConfigDicts as dicts and tuples as lists."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _type_of(value: Any) -> str:
    return "None" if value is None else type(value).__name__
