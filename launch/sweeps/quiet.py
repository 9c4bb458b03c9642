"""A progress bar that shows nothing: the sweep's table does."""

from typing import Self, final


@final
class Quiet:
    """Takes the place of a `Progress`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, step: int, loss: float | None = None, *, data_wait: float = 0.0) -> None:
        """Shows nothing."""

    def message(self, text: str) -> None:
        """Shows nothing."""
