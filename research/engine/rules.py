"""Regular expressions over parameter paths such as "encoder/block_0/mlp/kernel"."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import jax

from research.engine.errors import UserError

Value = TypeVar("Value")


def path_of(key_path: tuple[Any, ...]) -> str:
    """A JAX key path as names joined by slashes."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def apply_rules(
    rules: Sequence[tuple[str, Value]], tree: Any, default: Any, setting: str
) -> Any:
    """For every leaf, the value of the first rule whose pattern matches its whole path.

    Raises:
      UserError: for a pattern that is no regular expression or that no path matches,
        naming `setting`.
    """
    patterns = []
    for pattern, value in rules:
        try:
            patterns.append((re.compile(pattern), value))
        except re.error as error:
            raise UserError(f"{setting}: {pattern!r} is no regular expression: {error}") from None
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for compiled, _ in patterns:
        if not any(compiled.fullmatch(path) for path in paths):
            raise UserError(
                f"{setting}: {compiled.pattern!r} matches no parameter; a rule must match a whole "
                f"path, such as {', '.join(paths[:4])}"
            )

    def value_of(path: tuple[Any, ...], _: Any) -> Any:
        name = path_of(path)
        return next((value for regex, value in patterns if regex.fullmatch(name)), default)

    return jax.tree_util.tree_map_with_path(value_of, tree)
