"""What a mistyped word was probably meant to be."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, listed: bool = False) -> str:
    """A half-sentence that names the closest known word, or lists them all if they are few.

    Where the message has them `listed` already, it is left out.
    """
    known = sorted(set(known))
    # What was only begun is like nothing in length.
    begun = [name for name in known if len(word) > 2 and name.startswith(word)]
    close = begun or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    if listed:
        return ""
    return f"; known are {', '.join(known)}" if 0 < len(known) <= 24 else ""
