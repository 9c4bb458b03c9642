"""Mixup and CutMix: what becomes of the images becomes of the labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data import augment

CLASSES = 64


def batch_of(count=CLASSES, height=8, width=6):
    """Every example has a class of its own and an image filled with that class."""
    label = jnp.arange(count)
    image = jnp.broadcast_to(label[:, None, None, None], (count, height, width, 1))
    return {"image": image.astype(jnp.float32), "label": label}


MIXUP = jax.jit(augment.Mixup(1.0, CLASSES))
CUTMIX = jax.jit(augment.CutMix(1.0, CLASSES))


def apply(transform, batch, seed=0):
    out = transform(jax.random.key(seed), batch)
    return {name: np.asarray(value) for name, value in out.items()}


@pytest.mark.parametrize("transform", [MIXUP, CUTMIX], ids=["Mixup", "CutMix"])
def test_labels_are_mixed_as_the_pixels_are(transform):
    """The expected class under label_probs is the mean pixel: mass by area, or by weight."""
    batch = batch_of()
    out = apply(transform, batch)
    probs = out["label_probs"]
    assert probs.shape == (CLASSES, CLASSES)
    assert probs.dtype == np.float32
    assert probs.min() >= 0
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        probs @ np.arange(CLASSES), out["image"].mean((1, 2, 3)), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(out["label"], batch["label"])
    own = probs[np.arange(CLASSES), np.arange(CLASSES)]
    assert len(np.unique(own)) > 10, "examples share a draw"


def test_mixup_weights_are_beta():
    """Of Beta(a, a) the mean is 1/2 and the variance 1 / (4 (2a + 1))."""
    alpha = 0.4
    batch = {"image": jnp.zeros((4000, 1, 1, 1)), "label": jnp.arange(4000) % 2}
    probs = apply(jax.jit(augment.Mixup(alpha, 2)), batch)["label_probs"]
    own = probs[np.arange(4000), np.asarray(batch["label"])]
    mixed = own[own < 1]  # partners of the other class
    np.testing.assert_allclose(mixed.mean(), 0.5, atol=0.04)
    np.testing.assert_allclose(mixed.var(), 1 / (4 * (2 * alpha + 1)), atol=0.02)


def test_every_example_is_a_partner_once():
    batch = batch_of()
    probs = apply(MIXUP, batch)["label_probs"]
    np.testing.assert_array_equal((probs > 0).sum(0) <= 2, True)
    fixed_points = (np.diag(probs) == 1).sum()
    assert fixed_points < 8


def test_cutmix_pastes_one_box_of_one_partner():
    out = apply(CUTMIX, batch_of())
    boxes = 0
    for own, image, probs in zip(
        range(CLASSES), out["image"][..., 0], out["label_probs"], strict=True
    ):
        pasted = image != own
        assert len(np.unique(image)) <= 2
        rows, columns = pasted.any(1), pasted.any(0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns[None, :])
        for line in (rows, columns):
            assert np.abs(np.diff(np.pad(line.astype(int), 1))).sum() in (0, 2), "has a gap"
        np.testing.assert_allclose(1 - probs[own], pasted.mean(), atol=1e-6)
        boxes += pasted.any()
    assert boxes > CLASSES // 2


def test_mixing_what_is_mixed_mixes_its_labels():
    batch = batch_of()
    once = MIXUP(jax.random.key(0), batch)
    twice = apply(CUTMIX, once, seed=1)
    np.testing.assert_allclose(
        twice["label_probs"] @ np.arange(CLASSES),
        twice["image"].mean((1, 2, 3)),
        rtol=1e-4,
        atol=1e-4,
    )
    assert (twice["label_probs"] > 0).sum(-1).max() > 2


def test_cutmix_takes_integers_and_keeps_them():
    batch, key = batch_of(4), jax.random.key(0)
    batch["image"] = batch["image"].astype(jnp.uint8)
    out = jax.eval_shape(augment.CutMix(1.0, 4), key, batch)
    assert out["image"].dtype == jnp.uint8
    with pytest.raises(ValueError, match="ToFloat"):
        jax.eval_shape(augment.Mixup(1.0, 4), key, batch)


def test_random_choice_takes_one_transform_for_the_whole_batch():
    batch = batch_of()
    choice = jax.jit(
        augment.RandomChoice((augment.Mixup(1.0, CLASSES), augment.CutMix(1.0, CLASSES)))
    )
    pasted = []
    for seed in range(40):
        out = apply(choice, batch, seed)
        whole = np.isclose(out["image"], np.round(out["image"]), atol=1e-4).all((1, 2, 3))
        # Images are blended into levels between, unless both are of one class; or pasted.
        pasted.append(whole.all())
        assert pasted[-1] or whole.mean() < 0.5
        np.testing.assert_allclose(out["label_probs"].sum(-1), 1.0, rtol=1e-5)
    assert 8 < sum(pasted) < 32


def test_random_choice_of_what_does_not_fit_together_is_refused():
    choice = augment.RandomChoice((augment.Mixup(1.0, CLASSES), augment.ToFloat()))
    with pytest.raises(TypeError, match="label_probs"):
        jax.eval_shape(choice, jax.random.key(0), batch_of())
    with pytest.raises(ValueError, match="number of transforms must be at least 1"):
        augment.RandomChoice(())
