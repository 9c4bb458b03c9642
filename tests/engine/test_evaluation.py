"""Evaluation is exact: every example once, whatever the batch size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from research.engine.prepare import Prepared
from research.engine.program import evaluation_key

SOURCE = small.HARD["evaluations"]["test"]["source"]
SIZES = {f"of_{size}": {"source": SOURCE, "batch_size": size} for size in (1, 7, 128)}
FROM_HOST = {"source": {**SOURCE, "on_device": False}, "batch_size": 40}


@pytest.fixture(scope="module")
def run() -> Prepared:
    return small.ready(**small.HARD | {"evaluations": {**SIZES, "from_host": FROM_HOST}})


def test_every_batch_size_gives_the_mean_over_all_examples(run: Prepared) -> None:
    state = run.init()
    # Statistics other than the initial ones, so that using a batch's own would be seen.
    state = state.replace(ema_collections=jax.tree.map(lambda x: x + 0.3, state.ema_collections))
    evaluate = jax.jit(run.program.objective.evaluate)
    arrays = run.evaluators["from_host"].dataset.arrays
    size = len(arrays["label"])

    def at_once(first_index: int) -> dict[str, float]:
        index = np.arange(first_index, first_index + size)
        batch = {**arrays, "mask": np.ones(size, np.float32), "index": index}
        whole = evaluate(state.params, state.evaluated_collections, batch, evaluation_key(0))
        return {name: float(mean.compute()) for name, mean in whole.items()}

    expected = at_once(0)
    assert expected["perplexity"] == pytest.approx(np.exp(expected["loss"]))
    assert expected["loss"] != pytest.approx(at_once(1)["loss"], rel=1e-5), "noise matters"
    for name, evaluator in run.evaluators.items():
        found = evaluator(state)
        assert found == pytest.approx(expected, rel=1e-6), name
        assert sorted(found) == evaluator.metric_names(state)


def test_the_average_is_evaluated_where_there_is_one(run: Prepared) -> None:
    state = run.init()
    zeros = state.replace(ema=jax.tree.map(jnp.zeros_like, state.params))
    measured = run.evaluators["of_128"](zeros)
    assert measured["loss"] == pytest.approx(np.log(10), rel=1e-6)
    assert run.evaluators["of_128"](state)["loss"] != pytest.approx(np.log(10), rel=1e-4)


def test_what_is_traced_to_be_checked_is_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    def count(name: str) -> None:
        function = getattr(small.Classify, name)

        def counted(*args: Any) -> Any:
            traced.append(name)
            return function(*args)

        monkeypatch.setattr(small.Classify, name, counted)

    count("init")
    count("evaluate")
    run = small.ready(**small.HARD)
    assert traced == ["init", "evaluate"]
    run.evaluators["test"](run.init())
    assert traced == ["init", "evaluate"]
