"""What befell texts on their way to tokens: counted once, and told whenever they are opened."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int

from research.data.cache import Pieces, decode_once

VERSION = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tally:
    """Counts by name, and by the names of some why and where the first was left out."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)

    def leave_out(self, name: str, reason: str) -> None:
        """Counts one, whose reason is kept where it is the first."""
        self.counts[name] += 1
        self.reasons.setdefault(name, reason.rstrip("."))

    def add_tokens(
        self, ids: Int[np.ndarray, " tokens"], unknown: int | None, side: str = ""
    ) -> None:
        """Counts tokens and those of them that have the id `unknown`."""
        self.counts[f"{side}tokens"] += len(ids)
        if unknown is not None:
            self.counts[f"{side}unknown"] += int((np.asarray(ids) == unknown).sum())

    def told(self, name: str, total: str, what: str) -> str:
        """Such as "3 of 29,000 texts were cut", by the names of two counts; empty for none."""
        if not self.counts[name]:
            return ""
        first = f" (the first: {self.reasons[name]})" if name in self.reasons else ""
        return f"{self.counts[name]:,} of {self.counts[total]:,} {what}{first}"

    def unknown(self, side: str = "") -> str:
        """Such as "12 unknown tokens (0.01 %)"; empty for none."""
        count = self.counts[f"{side}unknown"]
        share = 100 * count / max(1, self.counts[f"{side}tokens"])
        return f"{count:,} unknown {side}tokens ({share:.2f} %)" if count else ""


def decode_tallied(
    files: Sequence[Path],
    settings: str,
    decode: Callable[[Tally], Pieces],
    keep: bool = True,
    in_memory: bool = True,
) -> tuple[dict[str, np.ndarray], Tally]:
    """The arrays of `cache.decode_once`, and what `decode` counted while it made them, which is
    kept with them."""

    def pieces() -> Iterator[Mapping[str, np.ndarray]]:
        tally = Tally()
        yield from decode(tally)
        content = json.dumps([tally.counts, tally.reasons])
        yield {"tally": np.frombuffer(content.encode(), np.uint8)}

    arrays = decode_once(files, f"{settings}, tally {VERSION}", pieces, keep, in_memory)
    counts, reasons = json.loads(arrays.pop("tally").tobytes())
    return arrays, Tally(Counter(counts), reasons)


def padding_of(lengths: Int[np.ndarray, " size"], width: int) -> float:
    """The share of places that are padding where examples have `width` places each."""
    return 1.0 - float(lengths.mean()) / width


def tell(source: object, lost: Iterable[str], padding: float = 0.0) -> None:
    """Logs what was lost of a source's texts and how much of them is padding, in one line; nothing
    where nothing was and little is."""
    found = [text for text in lost if text]
    level = logging.WARNING if found else logging.INFO
    if round(100 * padding):
        found.append(f"{100 * padding:.0f} % padding")
    if found:
        logger.log(level, "%s: %s.", source, ", ".join(found))
