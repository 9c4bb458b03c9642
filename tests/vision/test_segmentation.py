"""Segmentation: its loss and metrics by hand, and a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import log_softmax, softmax

from research.engine import metrics
from research.engine.display import Images
from research.engine.objective import HasCheckData, HasShow, HasSummarize, Objective
from research.errors import UserError
from research.vision import Segmentation, UNet
from research.vision.segmentation import dice_loss


class Maps(nn.Module):
    """Logits that are looked up, of the middle of each image."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, images, train=False):
        return self.param("maps", nn.initializers.normal(2.0), (2, 4, 4, 3)) + 0.0 * images.sum()


def make(**settings):
    objective = Segmentation(Maps(), **settings)
    generator = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(generator.random((2, 8, 8, 1)), jnp.float32),
        "label": jnp.asarray(generator.integers(3, size=(2, 8, 8)), jnp.int32),
        "index": jnp.arange(2),
        "mask": jnp.ones(2),
    }
    params = objective.init(jax.random.key(0), batch)["params"]
    return objective, batch, params, np.asarray(params["maps"], np.float64)


def middle(batch):
    return np.asarray(batch["label"])[:, 2:6, 2:6]


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_over_the_pixels_that_the_output_stands_for(weighted):
    objective, batch, params, logits = make(dice_weight=0.5)
    weights = np.ones((2, 8, 8))
    if weighted:
        weights = np.random.default_rng(1).random((2, 8, 8))
        batch["weight"] = jnp.asarray(weights, jnp.float32)
    loss, aux = objective.loss(params, {}, batch, jax.random.key(0))
    labels = middle(batch)
    losses = -np.take_along_axis(log_softmax(logits, -1), labels[..., None], -1)[..., 0]
    targets, p = np.eye(3)[labels], softmax(logits, -1)
    dice = 2 * (p * targets).sum((0, 1, 2)) / (p.sum((0, 1, 2)) + targets.sum((0, 1, 2)))
    expected = (losses * weights[:, 2:6, 2:6]).mean() + 0.5 * (1 - dice.mean())
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    wrong = (logits.argmax(-1) != labels).mean()
    np.testing.assert_allclose(aux.metrics["pixel_error"].compute(), wrong, rtol=1e-6)


def test_overlap_is_counted_over_all_images_together():
    objective, batch, params, logits = make()
    predictions, labels = logits.argmax(-1), middle(batch)
    whole = objective.evaluate(params, {}, batch, jax.random.key(0))
    computed = metrics.compute(whole)
    for k in range(3):
        both, either = (predictions == k) & (labels == k), (predictions == k) | (labels == k)
        assert computed[f"iou_{k}"] == pytest.approx(both.sum() / either.sum())
    expected = np.mean([computed[f"iou_{k}"] for k in range(3)])
    assert objective.summarize(computed)["mean_iou"] == pytest.approx(expected)

    batch["mask"] = jnp.array([1.0, 0.0])
    first = metrics.compute(objective.evaluate(params, {}, batch, jax.random.key(0)))
    assert first["pixel_error"] == pytest.approx((predictions[0] != labels[0]).mean())
    both = (predictions[0] == 1) & (labels[0] == 1)
    either = (predictions[0] == 1) | (labels[0] == 1)
    assert first["iou_1"] == pytest.approx(both.sum() / either.sum())


def test_classes_that_are_nowhere_do_not_count():
    objective = Segmentation(Maps())
    numbers = {"loss": np.array(1.0), "iou_0": np.array(0.5), "iou_1": np.array(np.nan)}
    assert objective.summarize(numbers)["mean_iou"] == 0.5
    trials = {"iou_0": np.array([0.5, np.nan]), "iou_1": np.array([1.0, np.nan])}
    np.testing.assert_array_equal(objective.summarize(trials)["mean_iou"], [0.75, np.nan])


def test_dice_is_0_where_all_is_right_and_1_where_nothing_is():
    labels = jnp.array([[[0, 1], [1, 0]]])
    right = 50.0 * jax.nn.one_hot(labels, 2)
    assert dice_loss(right, labels) == pytest.approx(0, abs=1e-6)
    assert dice_loss(-right, labels) == pytest.approx(1, abs=1e-6)


def test_shows_labels_and_predictions_side_by_side():
    objective, batch, params, _ = make()
    shown = objective.show(params, {}, batch, jax.random.key(0))["segmentation"]
    assert isinstance(shown, Images)
    assert shown.images.shape == (4, 4, 4, 3) and shown.columns == 2
    assert shown.images.min() >= 0 and shown.images.max() <= 1
    assert shown.titles[0] == "labels" and shown.titles[1].endswith("of pixels wrong")


@pytest.mark.parametrize(("kind", "count"), [("flip", 2), ("dihedral", 8)])
def test_views_of_an_image_have_the_same_logits_turned(kind, count):
    model = UNet(3, (4, 8), padding="SAME")
    plain, averaged = Segmentation(model), Segmentation(model, test_time_augmentation=kind)
    batch = {"image": jax.random.normal(jax.random.key(0), (2, 8, 4, 1))}
    params = plain.init(jax.random.key(1), batch)["params"]

    views = {
        (turns, mirrored): jnp.flip(image, 2) if mirrored else image
        for turns in range(4)
        for mirrored in (False, True)
        for image in [jnp.rot90(batch["image"], turns, (1, 2))]
    }
    logits = np.asarray(averaged.logits(params, {}, batch))
    same = 0
    for (turns, mirrored), view in views.items():
        turned = averaged.logits(params, {}, {"image": view})
        turned = jnp.rot90(jnp.flip(turned, 2) if mirrored else turned, -turns, (1, 2))
        same += np.allclose(turned, logits, atol=1e-5)
    assert not np.allclose(plain.logits(params, {}, batch), logits, atol=1e-3)
    assert same == count


def test_refuses_labels_that_are_no_maps_of_its_classes():
    objective = Segmentation(UNet(num_classes=2))
    objective.check_data({"label": np.zeros((1, 4, 4), int)})
    with pytest.raises(UserError, match="segmentation needs one a pixel"):
        objective.check_data({"label": np.zeros(4, int)})
    labels = np.zeros((4, 4, 4), int)
    for wrong in (2, -1):
        labels[2, 3, 1] = wrong
        with pytest.raises(UserError, match=r"num_classes = 2; the first .* that of example 2"):
            objective.check_data({"label": labels})


def test_weights_of_dice_that_are_no_weights():
    for wrong in (-0.5, float("nan"), float("inf")):
        with pytest.raises(UserError, match=f"dice_weight = {wrong}: must be at least 0"):
            Segmentation(Maps(), dice_weight=wrong)


def test_follows_the_protocols():
    for protocol in (Objective, HasCheckData, HasShow, HasSummarize):
        assert isinstance(Segmentation(Maps()), protocol)
