"""Regular expressions over parameter paths such as "encoder/block_0/mlp/kernel"."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from research.errors import UserError


def path_of(key_path: tuple[Any, ...]) -> str:
    """A JAX key path as names joined by slashes."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def compile_patterns(patterns: Iterable[str], setting: str) -> list[re.Pattern[str]]:
    """The patterns compiled; UserError naming `setting` for what is no regular expression."""
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UserError(f"{setting}: {pattern!r} is no regular expression: {error}") from None
    return compiled


def apply_rules[Value](
    rules: Sequence[tuple[str, Value]], tree: Any, default: Any, setting: str
) -> Any:
    """For every leaf, the value of the first rule whose pattern matches its whole path.

    Raises:
      UserError: for a pattern that is no regular expression or that no path matches,
        naming `setting`.
    """
    patterns = compile_patterns((pattern for pattern, _ in rules), setting)
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for pattern in patterns:
        if not any(pattern.fullmatch(path) for path in paths):
            raise UserError(f"{setting}: {_unmatched(pattern, paths)}")

    def value_of(path: tuple[Any, ...], _: Any) -> Any:
        name = path_of(path)
        pairs = zip(patterns, rules, strict=True)
        return next((value for pattern, (_, value) in pairs if pattern.fullmatch(name)), default)

    return jax.tree_util.tree_map_with_path(value_of, tree)


def _unmatched(pattern: re.Pattern[str], paths: Sequence[str]) -> str:
    """What is wrong with a pattern that matches no whole path."""
    partly = next((path for path in paths if pattern.search(path)), None)
    if partly is not None:
        return (
            f"{pattern.pattern!r} matches no parameter's whole path, only a part of {partly!r}; "
            f"write '.*({pattern.pattern}).*'"
        )
    return (
        f"{pattern.pattern!r} matches no parameter; paths are "
        f"{', '.join(paths[:8])}{', …' if len(paths) > 8 else ''}"
    )
