"""Rows of JSON: an object a line."""

import json
from collections.abc import Mapping
from typing import Any

from research.errors import UserError
from research.suggestion import did_you_mean


def parse_row(line: str, place: str) -> Mapping[str, Any]:
    """The object in a line. Raises UserError, with the place, where there is none."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is not valid JSON: {error}.") from error
    if not isinstance(row, dict):
        raise UserError(f"{place} is {type(row).__name__}, not a JSON object.")
    return row


def text_of(row: Mapping[str, Any], field: str, place: str) -> str:
    """The text in a field. Raises UserError, with the place, where there is none."""
    if field not in row:
        raise UserError(f"{place} has no field {field!r}{did_you_mean(field, row)}")
    if not isinstance(row[field], str):
        raise UserError(f"{place}: field {field!r} is {row[field]!r}, not a string.")
    return row[field]
