"""Classes and numbers of whole sequences: what is averaged, what is refused, what is shown."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from research.data.tokenizers import Char
from research.engine.metrics import compute, merge
from research.engine.objective import HasCheckData, HasFeatures, HasShow, Objective
from research.errors import UserError
from research.sequence import BERT, BERTClassifier, SequenceClassification, SequenceRegression
from tests.random_variables import random_variables

KEY = jax.random.key(0)


class MeanPooled(nn.Module):
    """The mean of tokens' embeddings, or of vectors, and a dense layer."""

    num_classes: int | None = 3
    vocab_size: int = 10

    @nn.compact
    def __call__(self, x, train=False, *, mask=None):
        if x.ndim == 2:
            x = nn.Embed(self.vocab_size, 4)(x)
        weights = jnp.ones(x.shape[:2]) if mask is None else mask
        x = (x * weights[..., None]).sum(1) / weights.sum(1, keepdims=True)
        return x if self.num_classes is None else nn.Dense(self.num_classes, name="head")(x)


CLASSIFICATION = SequenceClassification(MeanPooled(), tokenizer=Char("abcdefghij"))
REGRESSION = SequenceRegression(MeanPooled(num_classes=1))


def text_batch(labels=(0, 2, 1, 0)):
    generator = np.random.default_rng(0)
    lengths = np.array([6, 2, 4, 1])
    mask = (np.arange(6) < lengths[:, None]).astype(np.float32)
    return {
        "tokens": jnp.asarray(generator.integers(0, 10, (4, 6), np.int32)),
        "token_mask": jnp.asarray(mask),
        "label": jnp.asarray(labels),
    }


def audio_batch():
    batch = text_batch()
    inputs = np.random.default_rng(1).normal(size=(4, 6, 5)).astype(np.float32)
    return {"inputs": inputs, "input_mask": batch["token_mask"], "label": batch["label"]}


def params_of(objective, batch):
    return random_variables(objective.init, batch)["params"]


@pytest.mark.parametrize("objective", [CLASSIFICATION, REGRESSION])
def test_is_what_the_engine_asks_for(objective):
    for protocol in (Objective, HasCheckData, HasFeatures, HasShow):
        assert isinstance(objective, protocol)


@pytest.mark.parametrize("make", [text_batch, audio_batch])
def test_loss_and_accuracy_are_of_the_logits(make):
    batch = make()
    params = params_of(CLASSIFICATION, batch)
    logits = np.asarray(CLASSIFICATION.logits(params, {}, batch))
    labels = np.asarray(batch["label"])
    logs = log_softmax(logits.astype(np.float64), -1)
    losses = -logs[np.arange(4), labels]
    evaluated = compute(CLASSIFICATION.evaluate(params, {}, batch, KEY))
    assert evaluated["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert evaluated["accuracy"] == (logits.argmax(-1) == labels).mean()
    smoothed = dataclasses.replace(CLASSIFICATION, label_smoothing=0.2)
    for objective, expected in (
        (CLASSIFICATION, losses.mean()),
        (smoothed, (0.8 * losses - 0.2 * logs.mean(-1)).mean()),
    ):
        loss, aux = objective.loss(params, {}, batch, KEY)
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        assert compute(aux.metrics)["accuracy"] == evaluated["accuracy"]
    # Not of smoothed targets.
    assert compute(smoothed.evaluate(params, {}, batch, KEY)) == evaluated


@pytest.mark.parametrize("make", [text_batch, audio_batch])
def test_padding_does_not_matter(make):
    batch = make()
    name = "token" if "tokens" in batch else "input"
    params = params_of(CLASSIFICATION, batch)
    whole = CLASSIFICATION.logits(params, {}, batch)
    shown = int(batch[f"{name}_mask"][1].sum())
    alone = {f"{name}s": batch[f"{name}s"][1:2, :shown]}
    np.testing.assert_allclose(
        CLASSIFICATION.logits(params, {}, alone), whole[1:2], rtol=1e-5, err_msg="without a mask"
    )


@pytest.mark.parametrize("objective", [CLASSIFICATION, REGRESSION])
def test_evaluation_does_not_depend_on_batches(objective):
    batch = text_batch()
    params = params_of(objective, batch)
    whole = compute(objective.evaluate(params, {}, {**batch, "mask": jnp.ones(4)}, KEY))
    parts = []
    for rows, mask in (([0, 1], [1.0, 1.0]), ([2, 0], [1.0, 0.0]), ([1, 3], [0.0, 1.0])):
        part = {name: array[jnp.asarray(rows)] for name, array in batch.items()}
        parts.append(objective.evaluate(params, {}, {**part, "mask": jnp.asarray(mask)}, KEY))
    assert compute(merge(merge(*parts[:2]), parts[2])) == pytest.approx(whole, rel=1e-5)


def test_features_are_what_the_last_layer_sees():
    batch = text_batch()
    params = params_of(CLASSIFICATION, batch)
    features = CLASSIFICATION.features(params, {}, batch)
    assert features.shape == (4, 4)
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits, CLASSIFICATION.logits(params, {}, batch), rtol=1e-5)


def test_shows_the_surest_mistakes_first():
    batch = text_batch()
    params = params_of(CLASSIFICATION, batch)
    probabilities = np.asarray(jax.nn.softmax(CLASSIFICATION.logits(params, {}, batch)))
    predictions = probabilities.argmax(-1)
    batch["label"] = (jnp.asarray(predictions) + jnp.asarray([0, 1, 2, 1])) % 3
    named = dataclasses.replace(CLASSIFICATION, class_names=("bad", "so-so", "good"))
    shown = named.show(params, {}, batch, KEY)
    matrix = shown["confusion_matrix"]
    assert matrix.class_names == ("bad", "so-so", "good")
    assert matrix.counts.sum() == 4
    assert np.trace(matrix.counts) == 1
    texts = shown["wrongly_classified"].texts
    order = sorted([1, 2, 3], key=lambda i: -probabilities[i].max())
    names = named.class_names
    for i, text in zip(order, texts, strict=True):
        title, words = text.split("\n")
        true, predicted = names[int(batch["label"][i])], names[predictions[i]]
        assert title == f"{true} → {predicted} ({probabilities[i].max():.1%})"
        length = int(batch["token_mask"][i].sum())
        assert words == named.tokenizer.decode(np.asarray(batch["tokens"][i, :length]))
    without = dataclasses.replace(CLASSIFICATION, tokenizer=None)
    assert set(without.show(params, {}, batch, KEY)) == {"confusion_matrix"}
    sound = audio_batch()
    assert set(named.show(params_of(named, sound), {}, sound, KEY)) == {"confusion_matrix"}


def test_errors_of_numbers():
    batch = text_batch(labels=(0.5, -1.0, 2.0, 0.0))
    params = params_of(REGRESSION, batch)
    errors = np.asarray(REGRESSION.predictions(params, {}, batch)) - np.asarray(batch["label"])
    squared, absolute = np.mean(errors**2), np.mean(np.abs(errors))
    for kind, expected in (("squared", squared), ("absolute", absolute)):
        objective = dataclasses.replace(REGRESSION, loss_function=kind)
        loss, _ = objective.loss(params, {}, batch, KEY)
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        assert compute(objective.evaluate(params, {}, batch, KEY)) == pytest.approx(
            {"loss": expected, "squared_error": squared, "absolute_error": absolute}, rel=1e-5
        )
    points = REGRESSION.show(params, {}, batch, KEY)["predictions"].points
    np.testing.assert_allclose(points[:, 1] - points[:, 0], errors, rtol=1e-5)


def test_refuses_data_that_does_not_fit_the_model():
    for objective in (CLASSIFICATION, REGRESSION):
        objective.check_data({"tokens": np.arange(10), "label": np.array([0, 2])})
        with pytest.raises(UserError, match=r"a token 10, but .*vocab_size = 10"):
            objective.check_data({"tokens": np.arange(11)})
        with pytest.raises(UserError, match=r"a token -2, but .*; the first .* 1 of example 3$"):
            objective.check_data({"tokens": np.asarray([[1, 2]] * 3 + [[0, -2], [-3, 0]])})
    with pytest.raises(UserError, match=r"from -1 to 2.*num_classes = 3.*example 1"):
        CLASSIFICATION.check_data({"label": np.array([0, -1, 2])})
    with pytest.raises(UserError, match="the label of example 1 is NaN"):
        REGRESSION.check_data({"label": np.array([0.0, np.nan])})


def test_refuses_settings_that_do_not_fit():
    with pytest.raises(UserError, match=r"label_smoothing = 1\.0"):
        SequenceClassification(MeanPooled(), label_smoothing=1.0)
    with pytest.raises(UserError, match=r"class_names: 2 names.*num_classes = 3"):
        SequenceClassification(MeanPooled(), class_names=("a", "b"))
    with pytest.raises(UserError, match="num_classes = 3: a regression has one output"):
        SequenceRegression(MeanPooled())
    with pytest.raises(UserError, match="loss_function must be"):
        SequenceRegression(MeanPooled(1), loss_function="huber")


def test_which_text_of_a_pair_a_token_is_of_is_told_to_the_model():
    batch = text_batch() | {"token_types": jnp.asarray(text_batch()["token_mask"], jnp.int32)}
    bert = BERT(10, 6, num_layers=1, num_heads=2, embed_dim=8, mlp_dim=8, dropout_rate=0.0)
    objective = SequenceClassification(BERTClassifier(bert, 3))
    params = params_of(objective, batch)
    logits = objective.logits(params, {}, batch)
    mask = batch["token_mask"] > 0
    expected = objective.model.apply(
        {"params": params}, batch["tokens"], mask=mask, token_types=batch["token_types"]
    )
    np.testing.assert_array_equal(logits, expected)
    without = {name: array for name, array in batch.items() if name != "token_types"}
    assert jnp.abs(logits - objective.logits(params, {}, without)).max() > 1e-3
    loss, _ = objective.loss(params, {}, batch, KEY)
    np.testing.assert_allclose(
        loss, compute(objective.evaluate(params, {}, batch, KEY))["loss"], rtol=1e-6
    )
    with pytest.raises(UserError, match=r"pairs of texts, and MeanPooled takes no token_types"):
        CLASSIFICATION.init(KEY, batch)
