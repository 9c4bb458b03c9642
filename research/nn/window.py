"""Windows that slide over maps: of convolutions and of pooling."""

from collections.abc import Sequence


def check_window(
    space: Sequence[int], window: Sequence[int], padding: str | Sequence[tuple[int, int]]
) -> None:
    """Raises ValueError where maps of this size, with their padding, are smaller than the window,
    so that nothing would be left of them."""
    if padding == "SAME":
        return
    sides = [(0, 0)] * len(space) if isinstance(padding, str) else padding
    if any(
        size + low + high < length
        for size, length, (low, high) in zip(space, window, sides, strict=True)
    ):
        raise ValueError(
            f"a window of {_times(window)} does not fit into maps of {_times(space)}: the input is "
            "too small for this network; make it larger (images: data.augment.Resize), or take a "
            "network that shrinks it less"
        )


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
