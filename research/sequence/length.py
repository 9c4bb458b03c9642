"""How many tokens a model takes."""

from jaxtyping import Array, Int


def check_length(tokens: Int[Array, "batch length"], block_size: int) -> None:
    """Raises ValueError where there are more than `block_size` tokens."""
    if tokens.shape[1] > block_size:
        raise ValueError(f"{tokens.shape[1]} tokens do not fit block_size={block_size}")
