"""How fast this machine's first device multiplies and reads: what a program is held against."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MATRIX = 2048
READ_BYTES = 400_000_000


def matmul_flops(repeats: int = 5) -> float:
    """Operations per second of a product of large float32 matrices."""
    x = jnp.ones((MATRIX, MATRIX))
    product = jax.jit(lambda x: x @ x)
    return 2 * MATRIX**3 / min(_seconds(lambda: product(x), repeats))


def memory_bandwidth(repeats: int = 4) -> float:
    """Bytes per second of products of a matrix that no cache holds with a vector, on average over
    some; on a CPU the faster of XLA's and NumPy's."""
    x, v, product = _operands()
    seconds = [sum(_seconds(lambda: product(x, v), repeats))]
    if jax.default_backend() == "cpu":
        matrix, vector = np.asarray(x), np.asarray(v)
        seconds.append(sum(_seconds(lambda: matrix @ vector, repeats)))
    return repeats * READ_BYTES / min(seconds)


@cache
def _operands() -> tuple[Any, Any, Any]:
    side = int((READ_BYTES / 4) ** 0.5)
    return jnp.ones((side, side)), jnp.ones(side), jax.jit(jnp.matmul)


def _seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Those of some calls, after one that compiles."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    return times
