"""Numbers of channels of scaled networks."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` next to `channels`, and at least 90 % of it (Howard et al.)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
