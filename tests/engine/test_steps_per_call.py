"""Several steps in one call of the compiled program are the same steps."""

from typing import Any

import jax
import numpy as np
import small

SETTINGS = {**small.HARD, "duration": "20 steps", "data__transforms": [{"name": "small.Jitter"}]}


def same_bits(first: Any, second: Any) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def differ(first: Any, second: Any) -> float:
    return small.largest_difference(first.replace(rng=None), second.replace(rng=None))


def test_twenty_steps_however_they_are_called() -> None:
    _, one_a_call, expected = small.trained(**SETTINGS)
    run = small.ready(**SETTINGS, steps_per_call=7)
    compiled = small.compile_train(run, run.init())
    seven_a_call, history = small.advance(run, run.init(), 0, [7, 7, 6], compiled)
    assert int(seven_a_call.step) == 20
    assert differ(one_a_call, seven_a_call) < 1e-6
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        assert values.shape == (20,)
        np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-6, err_msg=name)

    cut_elsewhere, rows = small.advance(run, run.init(), 0, [5, 5, 5, 5], compiled)
    states = [state.replace(rng=None) for state in (cut_elsewhere, seven_a_call)]
    assert same_bits(*states), "bits depend on how the run was cut into calls"
    assert same_bits(rows, history)

    from_host, from_host_state, _ = small.trained(
        **SETTINGS, steps_per_call=7, data__on_device=False
    )
    assert run.on_device
    assert not from_host.on_device
    assert differ(from_host_state, seven_a_call) < 1e-6
