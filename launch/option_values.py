"""What options of several launchers take."""

import argparse
import re
from collections.abc import Sequence

from research.errors import UserError


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def read_pairs(option: str, texts: Sequence[str], form: str = "KEY=VALUE") -> dict[str, str]:
    """What `--option KEY=VALUE`, given several times, says. Raises UserError."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"{option} {text}: write {form}")
        if key in pairs:
            raise UserError(f"{option} {key}: given twice")
        pairs[key] = value
    return pairs


def check_variables(option: str, names: Sequence[str]) -> None:
    """Raises UserError for what a shell would not take as a variable's name."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(
                f"{option} {name}: a variable's name has letters, digits and underscores"
            )
