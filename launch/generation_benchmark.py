"""How fast a language model writes, beside what reading its parameters and cache must take."""

import inspect
import time
from typing import Any

from research.errors import UserError

TOKENS_AT_A_TIME = 8
PROMPT_LENGTH = 16
DEFAULT_ROOM = 1024  # of models without a block_size


def measure_generation(experiment: Any, repeats: int) -> dict[str, Any]:
    """Tokens per second of one text, at the start of the cache and at its end.

    The model is that of the experiment's objective with fresh parameters; no data is opened. A
    token takes at least as long as reading all parameters and the cache once: `over_bound` is the
    median of how many times as long it takes, each beside a bandwidth measured at that moment. Both
    are means over some tenths of a second: the shortest of some reads would be held against what no
    program reaches for longer.

    Raises UserError where the objective's model writes no tokens.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from launch.machine_speed import memory_bandwidth
    from research.engine.config import build
    from research.sequence.decoding import write
    from research.sequence.sampling import Sampling

    component = experiment.objective.arguments.get("model")
    model: Any = None if component is None else build(component, "objective.model")
    if "use_cache" not in inspect.signature(type(model).__call__).parameters:
        raise UserError("objective.model: writes no tokens one by one; --generate measures that")
    room = getattr(model, "block_size", DEFAULT_ROOM)
    # The chunk that compiles, and those that are measured.
    length = (repeats + 1) * TOKENS_AT_A_TIME
    if room < length + PROMPT_LENGTH:
        raise UserError(
            f"--repeats={repeats}: {length} tokens do not fit behind a prompt of {PROMPT_LENGTH} "
            f"in objective.model.block_size = {room}"
        )
    key = jax.random.key(0)
    variables = jax.jit(model.init)(key, jnp.zeros((1, 1), jnp.int32))

    def seconds(prompt_length: int) -> list[tuple[float, float]]:
        """Seconds a token, and that over the bound, of each chunk behind a prompt."""
        writing = write(
            model,
            variables,
            key,
            jnp.zeros((1, prompt_length), jnp.int32),
            vocab_size=model.vocab_size,
            max_new_tokens=room - prompt_length,
            sampling=Sampling(),
            tokens_at_a_time=TOKENS_AT_A_TIME,
        )
        next(writing)
        measured = []
        for _ in range(repeats):
            before = memory_bandwidth()
            started = time.perf_counter()
            next(writing)
            each = (time.perf_counter() - started) / TOKENS_AT_A_TIME
            bandwidth = (before + memory_bandwidth()) / 2
            measured.append((each, each * bandwidth / num_bytes))
        return measured

    def size(tree: Any) -> int:
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    blank = jnp.zeros((1, room), jnp.int32)
    _, made = jax.eval_shape(
        lambda: model.apply(variables, blank, use_cache=True, mutable=["cache"])
    )
    num_bytes = size(variables) + size(made)
    starts, ends = seconds(PROMPT_LENGTH), seconds(room - length)
    start, end = (float(np.median([each for each, _ in part])) for part in (starts, ends))
    return {
        "device": jax.local_devices()[0].device_kind,
        "cache_length": room,
        "tokens_per_second": 1 / start,
        "seconds_per_token_at_start": start,
        "seconds_per_token_at_end": end,
        "bytes_per_token": num_bytes,
        "memory_bandwidth": memory_bandwidth(),
        "over_bound": float(np.median([ratio for _, ratio in starts + ends])),
    }
