"""Mistakes a user can make and mend, and training that went wrong."""

from collections.abc import Mapping


class UserError(Exception):
    """A bad config, bad usage or bad data: one clear message, no traceback, exit code 2."""


class WriteError(UserError):
    """A folder can't be written, or what is there is damaged: no fault of the experiment's."""


class NonFiniteError(Exception):
    """A loss or gradient became NaN or infinite at `step`: exit code 3."""

    def __init__(self, step: int, metrics: Mapping[str, str]):
        self.step, self.metrics = step, metrics
        listed = ", ".join(f"{name} = {value}" for name, value in metrics.items())
        super().__init__(f"not finite at step {step}: {listed}")
