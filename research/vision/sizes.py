"""How deep and wide a network is: by a row of a published table, or by numbers of one's own."""

from typing import Any


def sizes_of[Row](model: Any, row: Row) -> Row:
    """The row of a table, a named tuple, with those settings of the model that are not None in
    place of its numbers of the same names.

    Raises ValueError for numbers that are not positive, for none where there must be some, and
    where not all that have one for each stage have as many.
    """
    table: Any = row
    given = {name: getattr(model, name) for name in table._fields}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        check_positive(model, name, value)
    sizes = table._replace(**given)
    sequences = {name: value for name, value in sizes._asdict().items() if _is_sequence(value)}
    lengths = {name: len(value) for name, value in sequences.items()}
    if len(set(lengths.values())) > 1:
        listed = " and ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(
            f"{type(model).__name__} with {listed}: each stage needs one of each; set them all"
        )
    return sizes


def check_positive(model: Any, name: str, value: Any) -> None:
    """Raises ValueError where a number, or one of those in a sequence, is not above 0, and where
    the sequence is empty."""
    if not _is_positive(value):
        raise ValueError(f"{name}={value} of {type(model).__name__} must be positive")


def _is_positive(value: Any) -> bool:
    if _is_sequence(value):
        return bool(value) and all(map(_is_positive, value))
    return isinstance(value, bool) or value > 0


def _is_sequence(value: Any) -> bool:
    return isinstance(value, tuple | list)
