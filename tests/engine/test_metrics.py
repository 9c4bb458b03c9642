"""Means that add up exactly, and their way to the record."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.engine.metrics import Mean, accuracy, compute, cross_entropy, mean_of, merge, pack
from research.engine.window import Window
from research.errors import NonFiniteError

VALUES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30)


@settings(deadline=None)  # the first example compiles
@given(VALUES, st.integers(0, 30))
def test_parts_merge_to_the_whole(values, cut):
    array = np.asarray(values, np.float32)
    parts = [mean_of(part) for part in (array[:cut], array[cut:])]
    merged = parts[0].merge(parts[1])
    assert float(merged.weight) == len(values)
    assert merged.compute() == pytest.approx(np.mean(array, dtype=np.float64), abs=1e-4)


def test_a_mask_leaves_padding_out_whatever_it_holds():
    values = jnp.asarray([[1.0, 2.0], [math.nan, math.inf], [3.0, 6.0]])
    mean = mean_of(values, jnp.asarray([1, 0, 1]))
    assert (float(mean.total), float(mean.weight)) == (12.0, 4.0)
    assert mean_of(values, jnp.asarray([True, False, False])).compute() == 1.5
    tokens = mean_of(values, jnp.asarray([[1, 1], [0, 0], [0, 1]]))
    assert tokens.compute() == 3.0
    assert math.isnan(mean_of(values, jnp.zeros(3)).compute()), "a mean over nothing is no number"


def test_perplexity_is_the_exponential_of_the_merged_mean():
    first, second = (mean_of(jnp.asarray(x), finish="exp") for x in ([0.0, 1.0], [4.0]))
    merged = merge({"perplexity": first}, {"perplexity": second, "other": Mean(1.0, 2.0)})
    assert compute(merged) == pytest.approx({"perplexity": math.exp(5 / 3), "other": 0.5})


def test_packing_keeps_every_number_and_its_name():
    metrics = {"b": Mean(jnp.float32(3), jnp.int32(4)), "a": Mean(2.0, 8.0, "exp")}
    packed = jax.jit(pack)(metrics)
    assert packed.values.dtype == jnp.float32
    assert compute(packed.means()) == pytest.approx({"a": math.exp(0.25), "b": 0.75})


def test_losses_are_float32_whatever_the_logits_are():
    logits = jnp.asarray([[1.0, 3.0, -2.0]], jnp.bfloat16)
    loss = cross_entropy(logits, jnp.asarray([1]))
    assert loss.dtype == jnp.float32
    expected = np.log(np.exp([1.0, 3.0, -2.0]).sum()) - 3.0
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)
    hits = accuracy(jnp.asarray([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), jnp.asarray([1, 1, 1]))
    assert hits.compute() == pytest.approx(2 / 3)


def history(losses: list, **others: list) -> object:
    """What a call returns: every metric of several steps (and trials), with weight 2."""
    columns = {"loss": losses, **others}
    arrays = {name: np.asarray(column, np.float32) for name, column in columns.items()}
    metrics = {name: Mean(2 * x, np.full_like(x, 2)) for name, x in arrays.items()}
    stacked = [np.stack([mean.total, mean.weight], -1) for _, mean in sorted(metrics.items())]
    packed = pack({name: Mean(0.0, 1.0) for name in metrics})
    return packed.replace(values=np.stack(stacked, -2))


def rows_of(cuts: list[int], every: int, losses: list) -> list:
    rows: list = []
    window = Window(every, lambda packed: packed, lambda *row: rows.append(row))
    step = 0
    for count in cuts:
        padded = losses[step : step + count] + [math.nan] * 2  # a feed is longer than its steps
        window.add(step, count, history(padded))
        step += count
    window.drain()
    window.flush(step)
    return rows


def test_rows_are_means_of_their_steps_however_the_calls_were_cut():
    losses = list(np.random.default_rng(0).normal(size=20).astype(np.float32) * 10)
    whole = rows_of([20], 7, losses)
    assert [step for step, _ in whole] == [7, 14, 20]
    for start, (step, row) in zip((0, 7, 14), whole, strict=True):
        assert row["loss"] == pytest.approx(np.mean(losses[start:step], dtype=np.float64))
    for cuts in ([1] * 20, [7, 7, 6], [3, 11, 5, 1]):
        assert rows_of(cuts, 7, losses) == whole, "not the same bits"


def test_a_window_goes_on_from_its_memory_with_the_same_bits():
    losses = list(np.random.default_rng(1).normal(size=10).astype(np.float32))
    rows: list = []
    first = Window(10, lambda packed: packed, lambda *row: rows.append(row))
    first.add(0, 4, history(losses[:4]))
    first.drain()
    second = Window(10, lambda packed: packed, lambda *row: rows.append(row))
    second.remember(first.memory())
    second.add(4, 6, history(losses[4:]))
    second.drain()
    assert rows == rows_of([10], 10, losses)


def test_metrics_are_read_one_call_late():
    read: list = []
    window = Window(1, lambda packed: read.append(packed) or packed, lambda *row: None)
    calls = [history([float(i)]) for i in range(3)]
    for i, call in enumerate(calls):
        window.add(i, 1, call)
        assert len(read) == i
    assert window.loss == 1.0
    window.drain()
    assert len(read) == 3
    assert window.loss == 2.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_bad_step_inside_a_call_is_named(bad):
    window = Window(100, lambda packed: packed, lambda *row: None)
    window.add(30, 3, history([1.0, 2.0, 3.0]))
    window.add(33, 4, history([1.0, 2.0, bad, math.nan], grad_norm=[1.0, 2.0, 3.0, math.nan]))
    with pytest.raises(NonFiniteError, match=r"step 36: loss = ") as caught:
        window.drain()
    assert caught.value.step == 36
    assert caught.value.metrics.keys() == {"loss"}


def test_a_bad_gradient_is_named_too_and_other_metrics_may_be_anything():
    window = Window(100, lambda packed: packed, lambda *row: None)
    window.add(0, 2, history([1.0, 1.0], accuracy=[math.nan] * 2, critic_loss=[1.0, 1.0]))
    window.add(2, 2, history([1.0, 1.0], grad_norm=[1.0, math.inf], critic_loss=[1.0, 1.0]))
    with pytest.raises(NonFiniteError, match=r"step 4: grad_norm = inf"):
        window.drain()


def test_steps_beyond_the_count_do_not_stop_a_run():
    window = Window(100, lambda packed: packed, lambda *row: None)
    window.add(0, 2, history([1.0, 1.0, math.nan]))
    window.drain()
    assert window.loss == 1.0


def test_one_bad_trial_goes_on_and_all_bad_trials_stop():
    rows: list = []
    window = Window(2, lambda packed: packed, lambda *row: rows.append(row))
    window.add(0, 2, history([[1.0, math.nan], [2.0, math.nan]]))
    window.drain()
    ((_, row),) = rows
    np.testing.assert_array_equal(row["loss"], [1.5, math.nan])
    window.add(2, 3, history([[1.0, math.nan], [math.inf, math.nan], [math.nan, math.nan]]))
    with pytest.raises(NonFiniteError, match="step 4: loss = "):
        window.drain()
