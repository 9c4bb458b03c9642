"""What does not fit between a file and a model, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from research.errors import UserError
from research.weights.entries import Entry, Path

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Remedies:
    """What to do where a file does not fit: with anything, and with images of other than {0}
    channels, which the kernel at {1} takes."""

    any: str
    channels: str


LOADING = Remedies(
    "Nothing was read. Other settings of the model, another naming or image_shape or, for a "
    "classifier or positions of another size, drop_head or resize_positions may fit.",
    "give an image_shape of {0} channel(s).",
)
STARTING = Remedies(
    "Nothing was read. Other settings of the model, another init_from.naming, init_from.leave for "
    "what is to start as without or, for positions of another size, init_from.resize_positions may "
    "fit.",
    'take images of {0}, or, in init_from, leave = ("{1}",).',
)


@dataclass
class Mismatch:
    """Collects what is missing, unexpected or of another shape; `remedies` is what there is to do
    about it."""

    path: FilePath
    naming: str
    remedies: Remedies
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)

    def missing(self, path: Path, names: Sequence[str], shape: Shape) -> None:
        """One of ours whose arrays the file does not have."""
        self.rows.append(("missing", ", ".join(names), _told(path, shape)))

    def misshapen(
        self, entry: Entry, shapes: Sequence[Shape], found: Shape | None, shape: Shape
    ) -> None:
        """One of ours whose arrays in the file have other `shapes`, or, in our layout, the shape
        `found`."""
        names = ", ".join(f"{n} {_shape(s)}" for n, s in zip(entry.names, shapes, strict=True))
        self.rows.append(("shape", names, _told(entry.path, shape)))
        if found is not None and len(found) == 4 and _others(found) == _others(shape):
            self.channels.append(
                f"Its first convolution is for images of {found[-2]} channel(s), the images here "
                f"have {shape[-2]}: "
                + self.remedies.channels.format(found[-2], "/".join(entry.path))
            )

    def unexpected(self, name: str, shape: Shape) -> None:
        """An array of the file that is none of ours."""
        self.rows.append(("unexpected", f"{name} {_shape(shape)}", "-"))

    def raise_if_any(self) -> None:
        """Raises UserError with all of it."""
        if not self.rows:
            return
        alone = len(self.rows) == len(self.channels) == 1
        hint = self.channels[0] if alone else self.remedies.any
        counts = {kind: sum(row[0] == kind for row in self.rows) for kind, *_ in self.rows}
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        rows = [("", "in the file", "in the model"), *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        table = "\n".join(
            f"  {kind:<{widths[0]}}  {theirs:<{widths[1]}}  {ours}".rstrip()
            for kind, theirs, ours in rows
        )
        raise UserError(
            f"{self.path}: does not fit the model, read by the names of {self.naming}: {told}\n"
            f"{table}\n{hint}"
        )


def _others(kernel: Shape) -> Shape:
    """All but the number of channels that a convolution's kernel takes."""
    return (*kernel[:-2], kernel[-1])


def _told(path: Path, shape: Shape) -> str:
    return f"{'/'.join(path)} {_shape(shape)}"


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"
