"""CTC: that the loss is PyTorch's and the sum over all paths, what is heard, what is refused."""

import itertools
import math
from collections import defaultdict

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.tokenizers import Char
from research.engine.display import Heatmaps, Text
from research.engine.metrics import compute
from research.engine.objective import HasCheckData, HasShow, Objective
from research.errors import UserError
from research.sequence import CTC, AcousticEncoder
from research.sequence.ctc import ctc_losses
from research.sequence.ctc_decoding import best_path, prefix_beam_search
from tests.parity import load_table


class Same(nn.Module):
    """Gives its input, every second frame."""

    num_classes: int = 4

    @nn.compact
    def __call__(self, inputs, train=False, *, mask=None):
        return inputs[:, ::2] + self.param("shift", nn.initializers.zeros, ())

    def output_mask(self, mask):
        return mask[:, ::2]


OBJECTIVE = CTC(Same(), Char("abc"))
PARAMS = {"shift": jnp.zeros(())}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def table():
    return load_table("ctc")


def blank_last(table):
    """The table's logits (batch, time, class) and labels, whose blank is 0, and masks."""
    inputs = table["inputs"]
    logits = np.asarray(inputs["logits"]).swapaxes(0, 1)[..., [1, 2, 3, 0]]
    mask = np.arange(logits.shape[1]) < np.asarray(inputs["input_lengths"])[:, None]
    label_mask = np.arange(3) < np.asarray(inputs["target_lengths"])[:, None]
    return logits, mask, np.asarray(inputs["targets"]) - 1, label_mask


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_loss_and_gradient_are_pytorchs(table):
    logits, mask, labels, label_mask = map(jnp.asarray, blank_last(table))
    outputs = table["outputs"]
    losses = ctc_losses(logits, mask, labels, label_mask)
    close(losses, outputs["loss_none"])
    close((losses / label_mask.sum(1)).mean(), outputs["loss_mean"])
    gradient = jax.grad(lambda x: ctc_losses(x, mask, labels, label_mask).sum())(logits)
    expected = np.asarray(outputs["grad_of_sum_wrt_logits"]).swapaxes(0, 1)[..., [1, 2, 3, 0]]
    close(gradient, expected)

    ones = jnp.zeros((3, 4), int)
    impossible = ctc_losses(logits, mask, ones, jnp.ones((3, 4), bool))
    expected = np.asarray(outputs["impossible_targets_1111_loss_none"], float)
    close(impossible[0], expected[0])
    assert np.isinf(expected[1:]).all() and (impossible[1:] > 9e4).all()


def test_greedy_labels_are_those_of_the_table(table):
    logits, mask, *_ = blank_last(table)
    labels, is_label = map(np.asarray, best_path(jnp.asarray(logits), jnp.asarray(mask)))
    found = [(labels[i, is_label[i]] + 1).tolist() for i in range(3)]
    assert found == table["outputs"]["greedy"]


def test_a_search_that_is_wide_enough_is_exact(table):
    logits, mask, *_ = blank_last(table)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for i in range(3):
        expected = table["outputs"][f"best_labellings_{i}"]
        found = prefix_beam_search(log_probs[i][mask[i]], 4**7)[:5]
        assert [[label + 1 for label in labels] for labels, _ in found] == expected["labels"]
        close(np.exp([score for _, score in found]), expected["probability"])
        (first, score), *_ = prefix_beam_search(log_probs[i][mask[i]], 20)
        assert [label + 1 for label in first] == expected["labels"][0]
        assert math.exp(score) <= expected["probability"][0] + 1e-12


def test_loss_is_the_sum_over_all_paths():
    logits = np.random.default_rng(0).normal(size=(5, 3))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(3), repeat=5):
        labels = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != 2)
        sums[labels] += math.prod(probs[t, symbol] for t, symbol in enumerate(path))
    assert sum(sums.values()) == pytest.approx(1)
    labels = sorted(sums)
    rows = np.zeros((len(labels), 5), int)
    mask = np.asarray([[place < len(row) for place in range(5)] for row in labels])
    for row, one in zip(rows, labels, strict=True):
        row[: len(one)] = one
    many = np.broadcast_to(logits, (len(labels), 5, 3))
    losses = ctc_losses(jnp.asarray(many), jnp.ones(many.shape[:2], bool), rows, mask)
    np.testing.assert_allclose(losses, [-math.log(sums[one]) for one in labels], rtol=1e-5)
    searched = dict(prefix_beam_search(np.log(probs), 10_000))
    # Also beginnings that have no path left, of probability 0.
    searched = {one: math.exp(score) for one, score in searched.items() if score > -math.inf}
    assert searched == pytest.approx(sums)


def batch_of(paths: list[str], labels: list[str]) -> dict:
    """Frames in which the model is all but sure of a path, such as "aa-b", each of them twice."""
    symbols, length, room = "abc-", max(map(len, paths)), max(map(len, labels))
    inputs = np.zeros((len(paths), 2 * length, 4), np.float32)
    input_mask = np.zeros(inputs.shape[:2], np.float32)
    truth, label_mask = np.zeros((len(paths), room), np.int32), np.zeros((len(paths), room))
    for i, (path, text) in enumerate(zip(paths, labels, strict=True)):
        for t, symbol in enumerate(path):
            inputs[i, 2 * t : 2 * t + 2, symbols.index(symbol)] = 30.0
        input_mask[i, : 2 * len(path)] = 1
        truth[i, : len(text)], label_mask[i, : len(text)] = [symbols.index(x) for x in text], 1
    return {
        "inputs": jnp.asarray(inputs),
        "input_mask": jnp.asarray(input_mask),
        "labels": jnp.asarray(truth),
        "label_mask": jnp.asarray(label_mask, jnp.float32),
    }


PATHS = ["aa-ab", "c--", "-ab--cc", "b", "---", "-cab"]
LABELS = ["aab", "c", "abc", "bb", "a", "cab"]


def test_what_is_heard():
    batch = batch_of(PATHS, LABELS)
    for num_beams in (1, 3):
        heard = OBJECTIVE.texts(PARAMS, {}, batch, num_beams)
        assert heard == ["aab", "c", "abc", "b", "", "cab"]
    assert CTC(Same(), Char("abc"), num_beams=3).labels(PARAMS, {}, batch)[2] == [0, 1, 2]


def test_evaluation_is_exact(evaluate_in_parts):
    assert isinstance(OBJECTIVE, Objective)
    batch = batch_of(PATHS, LABELS) | {"mask": jnp.ones(6), "index": jnp.arange(6)}
    whole, parts = (compute(x) for x in evaluate_in_parts(OBJECTIVE, PARAMS, {}, batch))
    assert whole["accuracy"] == pytest.approx(4 / 6)
    assert whole == pytest.approx(parts, rel=1e-5)
    loss, aux = OBJECTIVE.loss(PARAMS, {}, batch, jax.random.key(0))
    assert float(loss) == pytest.approx(whole["loss"])
    assert compute(aux.metrics)["accuracy"] == pytest.approx(4 / 6)
    right = {name: x[:3] for name, x in batch.items()}
    assert float(OBJECTIVE.loss(PARAMS, {}, right, jax.random.key(0))[0]) < 1e-3


def test_padding_changes_nothing():
    batch = batch_of(PATHS, LABELS)
    loss, _ = OBJECTIVE.loss(PARAMS, {}, batch, jax.random.key(0))
    inputs = jnp.where(batch["input_mask"][..., None] > 0, batch["inputs"], 99.0)
    more = {
        "inputs": jnp.pad(inputs, ((0, 0), (0, 8), (0, 0)), constant_values=-7.0),
        "input_mask": jnp.pad(batch["input_mask"], ((0, 0), (0, 8))),
        "labels": jnp.pad(batch["labels"], ((0, 0), (0, 2)), constant_values=1),
        "label_mask": jnp.pad(batch["label_mask"], ((0, 0), (0, 2))),
    }
    padded, aux = OBJECTIVE.loss(PARAMS, {}, more, jax.random.key(0))
    np.testing.assert_allclose(padded, loss, rtol=1e-6)
    assert compute(aux.metrics)["accuracy"] == pytest.approx(4 / 6)


def test_labels_that_do_not_fit_are_refused_before_training():
    assert isinstance(OBJECTIVE, HasCheckData)
    batch = batch_of(PATHS[:3], LABELS[:3])
    OBJECTIVE.check_data(batch)
    wrong = batch_of(["abc", "aab-"], ["abc", "aab"])  # two a need a blank between them: 4 frames
    OBJECTIVE.check_data(wrong)
    wrong["input_mask"] = wrong["input_mask"].at[1, 6:].set(0)  # 3 frames
    match = r"the 3 labels of example 1 need 4 frames, and the model makes 3 of the 6 .*\(1 of 2\)"
    with pytest.raises(UserError, match=match):
        OBJECTIVE.check_data(wrong)
    lengths = {name: wrong[name] for name in ("labels", "label_mask")} | {"num_frames": [6, 6]}
    with pytest.raises(UserError, match=match):
        OBJECTIVE.check_data(lengths)
    with pytest.raises(UserError, match=r"labels go from 0 to 3, but .*num_classes = 4, the last"):
        OBJECTIVE.check_data(batch | {"labels": batch["labels"].at[0, 0].set(3)})


def test_wrong_settings_are_named():
    for make, match in (
        (lambda: CTC(Same(), num_beams=0), "objective.num_beams = 0"),
        (lambda: CTC(Same(), Char("ab")), r"num_classes = 4: must be 3, one for each of the 2"),
        (
            lambda: CTC(AcousticEncoder(num_classes=4, hidden_dim=2, pooling="mean")),
            "objective.model.pooling = 'mean'",
        ),
        (lambda: CTC(Same()).texts(PARAMS, {}, batch_of(["a"], ["a"])), "tokenizer: missing"),
    ):
        with pytest.raises(UserError, match=match):
            make()


@pytest.mark.parametrize("tokenizer", [None, Char("abc")])
def test_alignments_are_shown(tokenizer):
    objective = CTC(Same(), tokenizer)
    assert isinstance(objective, HasShow)
    batch = batch_of(PATHS, LABELS)
    shown = objective.show(PARAMS, {}, batch, jax.random.key(0))
    said, heard = ("bb", "b") if tokenizer else ("1 1", "1")
    assert isinstance(shown["sequences"], Text)
    assert shown["sequences"].texts[3] == f"= {said}\n> {heard}"
    maps = shown["alignments"]
    assert isinstance(maps, Heatmaps)
    above, below = maps.maps[:2]
    assert above.values.shape == below.values.shape == (4, 10)
    assert above.values.min() == 0 and above.values.max() == 1
    assert below.title == ("heard: aab" if tokenizer else "heard: 0 0 1")
    np.testing.assert_allclose(below.values.sum(0), 1, rtol=1e-5)
    assert below.values.argmax(0).tolist() == [0, 0, 0, 0, 3, 3, 0, 0, 1, 1]
