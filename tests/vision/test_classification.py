"""Classification: its loss and metrics against NumPy, and what it does to a model's state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import log_softmax

from research.engine import metrics
from research.engine.config import check_experiment
from research.engine.display import ConfusionMatrix, Images
from research.engine.objective import HasCheckData, HasFeatures, HasShow, Objective
from research.engine.prepare import prepare
from research.errors import UserError
from research.vision import Classification, ConvNet, LeNet
from tests.random_variables import random_variables


class Table(nn.Module):
    """Logits that are looked up: what an objective makes of them can be computed by hand."""

    @nn.compact
    def __call__(self, images, train=False):
        return self.param("table", nn.initializers.normal(2.0), (5, 3)) + 0.0 * images.sum()


def small_net(**settings):
    return LeNet(num_classes=3, channels=(2, 3), hidden=(8,), padding=("SAME", "SAME"), **settings)


def batch_of(size, seed=0):
    generator = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(generator.random((size, 8, 8, 1)), jnp.float32),
        "label": jnp.asarray(generator.integers(3, size=size), jnp.int32),
        "index": jnp.arange(size),
        "mask": jnp.ones(size),
    }


def init(objective, batch):
    variables = dict(random_variables(objective.init, batch))
    return variables.pop("params"), variables


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_loss_is_cross_entropy(label_smoothing, mixed):
    objective, batch = Classification(Table(), label_smoothing), batch_of(5)
    params, collections = init(objective, batch)
    targets = np.eye(3)[batch["label"]]
    if mixed:
        targets = np.random.default_rng(1).dirichlet(np.ones(3), 5)
        batch["label_probs"] = jnp.asarray(targets, jnp.float32)
    loss, aux = objective.loss(params, collections, batch, jax.random.key(1))
    smooth = (1 - label_smoothing) * targets + label_smoothing / 3
    logits = np.asarray(params["table"], np.float64)
    np.testing.assert_allclose(loss, -(smooth * log_softmax(logits, -1)).sum(-1).mean(), rtol=1e-6)
    right = logits.argmax(-1) == targets.argmax(-1)
    np.testing.assert_allclose(aux.metrics["accuracy"].compute(), right.mean(), rtol=1e-6)


def test_evaluation_counts_unmasked_examples_with_plain_labels():
    objective, batch = Classification(Table(), label_smoothing=0.3), batch_of(5)
    params, collections = init(objective, batch)
    batch["mask"] = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0])
    real = np.asarray(batch["mask"]) > 0
    got = objective.evaluate(params, collections, batch, jax.random.key(0))
    logits, labels = np.asarray(params["table"], np.float64), np.asarray(batch["label"])
    losses = -log_softmax(logits, -1)[np.arange(5), labels]
    np.testing.assert_allclose(got["loss"].total, losses[real].sum(), rtol=1e-6)
    np.testing.assert_allclose(
        got["accuracy"].total, (logits.argmax(-1) == labels)[real].sum(), rtol=1e-6
    )
    assert got["loss"].weight == got["accuracy"].weight == 3


def test_evaluation_does_not_depend_on_the_batch_size():
    objective, batch = Classification(ConvNet(3, channels=(2, 4))), batch_of(6)
    params, collections = init(objective, batch)
    evaluate = jax.jit(objective.evaluate)
    whole = evaluate(params, collections, batch, jax.random.key(0))
    padded = {name: jnp.concatenate([x, x[:2]]) for name, x in batch.items()}
    padded["mask"] = padded["mask"].at[6:].set(0)
    parts = [{name: x[i : i + 4] for name, x in padded.items()} for i in (0, 4)]
    first, second = (evaluate(params, collections, part, jax.random.key(0)) for part in parts)
    for name, mean in metrics.merge(first, second).items():
        np.testing.assert_allclose(mean.total, whole[name].total, rtol=1e-6, err_msg=name)
        assert mean.weight == whole[name].weight


def test_training_moves_batch_statistics_and_draws_dropout():
    batch = batch_of(4)
    with_norm = Classification(ConvNet(3, channels=(2, 4)))
    params, collections = init(with_norm, batch)
    _, aux = jax.jit(with_norm.loss)(params, collections, batch, jax.random.key(0))
    assert jax.tree.structure(dict(aux.collections)) == jax.tree.structure(collections)
    moved = jax.tree.map(lambda a, b: bool((a != b).all()), collections, dict(aux.collections))
    assert all(jax.tree.leaves(moved)), "batch statistics must move in training"

    with_dropout = Classification(small_net(dropout_rate=0.5))
    params, collections = init(with_dropout, batch)
    loss = jax.jit(with_dropout.loss)
    losses = [
        float(loss(params, collections, batch, jax.random.key(seed))[0]) for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_bfloat16_computes_and_float32_remains():
    objective, batch = Classification(small_net(dtype="bfloat16")), batch_of(4)
    params, _ = init(objective, batch)
    arguments = params, {}, batch, jax.random.key(0)
    (loss, _), grads = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))(*arguments)
    exact, _ = jax.jit(Classification(small_net()).loss)(*arguments)
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((params, grads))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(loss, exact, rtol=0.02)
    assert loss != exact, "with dtype bfloat16 the layers must compute in bfloat16"


def test_shows_every_mistake_and_only_mistakes():
    objective, batch = Classification(Table()), batch_of(5)
    params, collections = init(objective, batch)
    predictions = params["table"].argmax(-1)
    batch["label"] = predictions.at[jnp.array([1, 3])].add(1) % 3
    displays = objective.show(params, collections, batch, jax.random.key(0))
    pictures, confusions = displays["wrongly_classified"], displays["confusion_matrix"]
    assert isinstance(pictures, Images)
    assert isinstance(confusions, ConfusionMatrix)
    expected = [f"{batch['label'][i]} → {predictions[i]}" for i in (1, 3)]
    assert list(pictures.titles) == expected
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (batch["label"], predictions), 1)
    np.testing.assert_array_equal(confusions.counts, expected)
    np.testing.assert_array_equal(pictures.images.shape, (2, 8, 8, 1))
    assert pictures.images.min() >= 0
    assert pictures.images.max() <= 1
    perfect = {**batch, "label": predictions}
    shown = objective.show(params, collections, perfect, jax.random.key(0))
    assert set(shown) == {"confusion_matrix"}


def test_refuses_labels_that_are_no_classes():
    objective = Classification(small_net())
    classes = small_net().num_classes
    objective.check_data({"label": np.arange(classes)})
    objective.check_data({"image": np.zeros((2, 8, 8, 1))})
    for wrong in (classes, -1):
        with pytest.raises(UserError, match=f"num_classes = {classes}"):
            objective.check_data({"label": np.array([0, wrong])})


def test_features_are_what_the_head_sees():
    objective, batch = Classification(small_net()), batch_of(4)
    params, collections = init(objective, batch)
    features = jax.jit(objective.features)(params, collections, batch)
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    assert features.shape == (4, 8)
    expected = jax.jit(objective.logits)(params, collections, batch)
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_follows_the_protocols():
    objective = Classification(small_net())
    for protocol in (Objective, HasCheckData, HasFeatures, HasShow):
        assert isinstance(objective, protocol), protocol.__name__


def numbers_of(objective, batch):
    params, collections = init(objective, batch)
    loss, aux = objective.loss(params, collections, batch, jax.random.key(1))
    return float(loss), aux, np.asarray(params["table"], np.float64)


@pytest.mark.parametrize("loss_function", ["sigmoid", "focal"])
def test_binary_losses_are_summed_over_classes(loss_function):
    batch = batch_of(5)
    loss, _, logits = numbers_of(Classification(Table(), loss_function=loss_function), batch)
    targets = np.eye(3)[batch["label"]]
    p = 1 / (1 + np.exp(-logits))
    right = np.where(targets == 1, p, 1 - p)
    weights = (1 - right) ** 2.0 if loss_function == "focal" else 1.0
    np.testing.assert_allclose(loss, -(weights * np.log(right)).sum(-1).mean(), rtol=1e-5)


def test_class_weights_weigh_examples_by_their_label():
    weights, batch = np.array([1.0, 3.0, 0.5]), batch_of(5)
    objective = Classification(Table(), 0.1, class_weights=tuple(weights))
    loss, aux, logits = numbers_of(objective, batch)
    targets = np.eye(3)[batch["label"]]
    losses = -((0.9 * targets + 0.1 / 3) * log_softmax(logits, -1)).sum(-1)
    each = weights[batch["label"]]
    np.testing.assert_allclose(loss, (each * losses).sum() / each.sum(), rtol=1e-6)
    np.testing.assert_allclose(aux.weight, each.sum(), err_msg="micro-batches are weighed by it")


def test_a_batch_of_classes_without_weight_teaches_nothing():
    objective, batch = Classification(Table(), class_weights=(0.0, 1.0, 1.0)), batch_of(5)
    params, collections = init(objective, batch)
    none = {**batch, "label": jnp.zeros(5, jnp.int32)}
    compute = jax.value_and_grad(objective.loss, has_aux=True)
    (loss, aux), grads = compute(params, collections, none, jax.random.key(0))
    assert loss == 0 and not grads["table"].any()
    assert 0 < aux.weight < 1e-30, "next to nothing beside other micro-batches, and not 0 alone"


def test_the_largest_logits_count():
    objective, batch = Classification(Table(), top_k=(1, 2)), batch_of(5)
    params, collections = init(objective, batch)
    params = {"table": params["table"].at[0].set(1.0)}  # all equal: the first is the largest
    batch["label"] = batch["label"].at[0].set(1)
    got = metrics.compute(objective.evaluate(params, collections, batch, jax.random.key(0)))
    order = np.argsort(-np.asarray(params["table"]), -1, kind="stable")
    labels = np.asarray(batch["label"])[:, None]
    assert got["top_1_accuracy"] == got["accuracy"] == np.mean(order[:, :1] == labels)
    assert got["top_2_accuracy"] == np.mean((order[:, :2] == labels).any(-1))


@pytest.mark.parametrize(
    ("augmentation", "weights"), [("flip", (1, 1)), ("shift", (2, 1, 1, 2, 1, 1))]
)
def test_views_of_an_image_are_averaged(augmentation, weights):
    model = small_net()
    batch = batch_of(2)
    plain, several = (
        Classification(model, test_time_augmentation=kind) for kind in ("none", augmentation)
    )
    params, collections = init(plain, batch)
    images = np.asarray(batch["image"])
    seen = [images]
    if augmentation == "shift":
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        seen += [padded[:, 2:, 2:], padded[:, :-2, :-2]]
    seen += [view[:, :, ::-1] for view in seen]
    logits = [plain.logits(params, collections, {"image": jnp.asarray(view)}) for view in seen]
    expected = np.average(logits, 0, weights)
    np.testing.assert_allclose(several.logits(params, collections, batch), expected, rtol=1e-5)


class WithAuxiliary(nn.Module):
    """A table of logits, and another of an auxiliary classifier."""

    num_classes: int = 3
    auxiliary: bool = True

    def setup(self):
        self.table = self.param("table", nn.initializers.normal(2.0), (5, 3))
        self.other = self.param("other", nn.initializers.normal(2.0), (5, 3))

    def __call__(self, images, train=False):
        return self.table

    def with_auxiliary(self, images, train=False):
        return self.table, [self.other]


def test_auxiliary_classifiers_count_in_training():
    batch = batch_of(5)
    objective = Classification(WithAuxiliary(), auxiliary_weight=0.3)
    params, collections = init(objective, batch)
    loss, _ = objective.loss(params, collections, batch, jax.random.key(0))
    labels = np.asarray(batch["label"])
    main, other = (
        -log_softmax(np.asarray(params[name], np.float64), -1)[np.arange(5), labels].mean()
        for name in ("table", "other")
    )
    np.testing.assert_allclose(loss, main + 0.3 * other, rtol=1e-6)
    evaluated = objective.evaluate(params, collections, batch, jax.random.key(0))
    np.testing.assert_allclose(evaluated["loss"].compute(), main, rtol=1e-6)


def test_settings_that_do_not_fit_are_refused():
    for settings, told in (
        ({"auxiliary_weight": 0.3}, "LeNet has no auxiliary classifiers"),
        ({"class_weights": (1.0,)}, "class_weights has 1 entries; the model has 3 classes"),
        ({"class_weights": (1.0, -1.0, 1.0)}, r"class_weights = \(1.0, -1.0, 1.0\): must be at"),
        ({"class_weights": (0.0, 0.0, 0.0)}, "must be at least 0, and finite; one above 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing = 1.0: must be in \[0, 1\)"),
        ({"label_smoothing": float("nan")}, "label_smoothing = nan: must be in"),
        ({"focal_gamma": -1.0}, "focal_gamma = -1.0: must be at least 0"),
        ({"auxiliary_weight": -0.3}, "auxiliary_weight = -0.3: must be at least 0"),
        ({"top_k": (3,)}, "top_k: 3 must be at least 1 and below the number of classes"),
    ):
        with pytest.raises(UserError, match=told):
            Classification(small_net(), **settings)
    with pytest.raises(UserError, match="auxiliary classifiers would not be trained"):
        Classification(WithAuxiliary())


def test_refuses_pixels_that_are_no_numbers():
    images = np.zeros((3000, 2, 2, 1), np.float32)
    objective = Classification(small_net())
    objective.check_data({"image": images})
    for value in (np.nan, np.inf):
        images[2077, 1, 0] = value
        with pytest.raises(UserError, match="image 2077 has pixels that are NaN or infinite"):
            objective.check_data({"image": images})


def test_the_first_label_that_is_no_class_is_named():
    with pytest.raises(UserError, match="is that of example 2"):
        Classification(small_net()).check_data({"label": np.array([0, 2, 3, -1])})


def test_labels_of_several_axes_are_refused():
    for model in (small_net(), Table()):  # with as many classes as it says, and it says nothing
        with pytest.raises(UserError, match=r"have shape \(4, 1\); classification needs one an"):
            Classification(model).check_data({"label": np.zeros((4, 1), np.int32)})


def test_labels_that_are_mixed_for_another_number_of_classes_are_refused(tmp_path):
    transforms = (
        {"name": "data.augment.ToFloat"},
        {"name": "data.augment.Mixup", "alpha": 1.0, "num_classes": 7},
    )
    plain = {
        "objective": {"name": "vision.Classification", "model": {"name": "vision.MLP"}},
        "data": {
            "source": {"name": "data.sources.Digits", "split": "train"},
            "transforms": transforms,
            "batch_size": 4,
        },
        "duration": "1 steps",
        "optimizer": {"learning_rate": 0.1},
    }
    told = r"mix labels of num_classes = 7, but the model has objective\.model\.num_classes = 10"
    with pytest.raises(UserError, match=told):
        prepare(check_experiment(plain), tmp_path)
