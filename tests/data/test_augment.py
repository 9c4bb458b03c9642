"""What all transforms promise: purity, their shapes, a draw for each example."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data import augment
from research.data.augment.transform import Transform, apply_transforms

RANDOM = {
    "RandomCrop": augment.RandomCrop(padding=2),
    "RandomResizedCrop": augment.RandomResizedCrop(size=(5, 4), scale=(0.3, 1.0)),
    "RandomFlip": augment.RandomFlip(),
    "RandomRotation": augment.RandomRotation(degrees=90.0),
    "ElasticDeformation": augment.ElasticDeformation(sigma=1.0),
    "RandomAffine": augment.RandomAffine(30.0, (0.2, 0.2), (0.8, 1.2), 20.0),
    "ColorJitter": augment.ColorJitter(0.4, 0.4, 0.4, 0.2),
    "RandomGrayscale": augment.RandomGrayscale(0.5),
    "GaussianBlur": augment.GaussianBlur((0.2, 1.0)),
    "GaussianNoise": augment.GaussianNoise(0.1),
    "Cutout": augment.Cutout(3),
    "Solarize": augment.Solarize(0.5),
    "RandAugment": augment.RandAugment(2, 9.0),
    "RandomErasing": augment.RandomErasing(0.5),
    "Binarize": augment.Binarize("stochastic"),
}
MIXING = {"Mixup": augment.Mixup(1.0, 4), "CutMix": augment.CutMix(1.0, 4)}
FIXED = {
    "ToFloat": augment.ToFloat(),
    "Normalize": augment.Normalize((0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
    "Pad": augment.Pad((8, 9)),
    "CenterCrop": augment.CenterCrop((4, 5)),
    "Resize": augment.Resize((4, 5)),
    "Binarize to a threshold": augment.Binarize("threshold"),
}
ALL = RANDOM | MIXING | FIXED
JITTED = {name: jax.jit(transform) for name, transform in ALL.items()}
SIZES = {"RandomResizedCrop": (5, 4), "Pad": (8, 9), "CenterCrop": (4, 5), "Resize": (4, 5)}


def batch_of(count=8, channels=3):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.random((count, 6, 7, channels)), jnp.float32),
        "label": jnp.arange(count) % 4,
        "index": jnp.arange(count) + 100,
    }


@pytest.mark.parametrize("name", ALL)
def test_pure_and_jittable(name):
    """Eager and jitted agree, a key gives the same twice, and all else in the batch is left."""
    transform, batch, key = ALL[name], batch_of(), jax.random.key(1)
    before = {name: np.array(value) for name, value in batch.items()}
    out = JITTED[name](key, batch)
    jax.tree.map(np.testing.assert_array_equal, out, JITTED[name](key, batch))
    # Rounding may move a value over a threshold, of which these have none within 1e-6.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        out,
        transform(key, batch),
    )
    assert out["image"].shape == (8, *SIZES.get(name, (6, 7)), 3)
    assert out["image"].dtype == jnp.float32
    for field, value in before.items():
        np.testing.assert_array_equal(batch[field], value)
        if field != "image":
            np.testing.assert_array_equal(out[field], value)
    assert isinstance(transform, Transform)


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_its_own_draw(name):
    """Equal images come out different, and different again by another key."""
    batch = batch_of()
    batch["image"] = jnp.broadcast_to(batch["image"][:1], batch["image"].shape)
    first, second = (np.asarray(JITTED[name](jax.random.key(i), batch)["image"]) for i in (1, 2))
    assert len(np.unique(first, axis=0)) > 1
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", RANDOM)
def test_a_draw_belongs_to_the_example_not_to_its_batch(name):
    """With `index`, an example comes out the same in any batch: evaluation relies on it."""
    batch, key = batch_of(), jax.random.key(1)
    turned = {name: value[::-1] for name, value in batch.items()}
    np.testing.assert_allclose(
        JITTED[name](key, turned)["image"][::-1],
        JITTED[name](key, batch)["image"],
        rtol=1e-5,
        atol=1e-6,
    )


def test_without_an_index_the_place_in_the_batch_tells_examples_apart():
    batch = {"image": jnp.zeros((2, 4, 4, 1))}
    first, second = augment.GaussianNoise(1.0)(jax.random.key(0), batch)["image"]
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    "name", sorted(ALL.keys() - {"ColorJitter", "RandomGrayscale", "Normalize"})
)
def test_gray_images_are_taken(name):
    out = jax.eval_shape(ALL[name], jax.random.key(0), batch_of(channels=1))
    assert out["image"].shape == (8, *SIZES.get(name, (6, 7)), 1)


def test_apply_transforms_goes_in_order_with_a_key_each():
    noise, key = augment.GaussianNoise(1.0), jax.random.key(0)
    batch = {"image": jnp.zeros((1, 4, 4, 1))}
    once = apply_transforms([noise], key, batch)["image"]
    twice = apply_transforms([noise, noise], key, batch)["image"]
    assert not np.allclose(twice, 2 * once), "both transforms drew the same noise"
    chain = [augment.Normalize((1.0,), (2.0,)), augment.Pad((6, 6))]
    out = apply_transforms(chain, key, batch)["image"]
    assert (float(out[0, 0, 0, 0]), float(out[0, 1, 1, 0])) == (0.0, -0.5)
    assert apply_transforms([], key, batch) is batch


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.Normalize((0.5,), (0.0,)), "std must be above 0"),
        (lambda: augment.Normalize((0.5,), (1.0, 1.0)), "mean and std must have as many"),
        (lambda: augment.Binarize("round"), "mode must be"),
        (lambda: augment.GaussianNoise(-1.0), "std must be at least 0"),
        (lambda: augment.GaussianNoise(float("nan")), "std must be at least 0"),
        (lambda: augment.Solarize(1.5), r"probability must be in \[0.0, 1.0\]"),
        (lambda: augment.Solarize(0.5, 2.0), "threshold must be in"),
        (lambda: augment.Cutout(-1), "size must be at least 0"),
        (lambda: augment.ColorJitter(hue=0.6), "hue must be in"),
        (lambda: augment.ColorJitter(contrast=2.0), "contrast must be in"),
        (lambda: augment.GaussianBlur((2.0, 1.0)), "sigma must be .smallest, largest."),
        (lambda: augment.GaussianBlur((0.0, 1.0)), "sigma must be at least 0.01"),
        (lambda: augment.Pad((0, 4)), "size must be .height, width."),
        (lambda: augment.Pad((4, 4), "wrap"), "mode must be one of"),
        (lambda: augment.RandomCrop(-1), "padding must be at least 0"),
        (lambda: augment.Resize((4, 4), "area"), "method must be"),
        (lambda: augment.RandomResizedCrop((4, 4), scale=(0.5, 2.0)), "scale must be in"),
        (lambda: augment.RandomResizedCrop((4, 4), ratio=(0.0, 1.0)), "ratio must be above 0"),
        (lambda: augment.RandomFlip("sideways"), "direction must be"),
        (lambda: augment.RandomRotation(200.0), "degrees must be in"),
        (lambda: augment.RandomAffine(translate=(0.0, 2.0)), "translate must be in"),
        (lambda: augment.RandomAffine(scale=(0.0, 1.0)), "scale must be above 0"),
        (lambda: augment.RandomAffine(shear=90.0), "shear must be in"),
        (lambda: augment.ElasticDeformation(-1.0), "sigma must be at least 0"),
        (lambda: augment.ElasticDeformation(grid=1), "grid must be at least 2"),
        (lambda: augment.ElasticDeformation(mode="wrap"), "mode must be one of"),
        (lambda: augment.Mixup(0.0, 10), "alpha must be above 0"),
        (lambda: augment.CutMix(1.0, 1), "num_classes must be at least 2"),
        (lambda: augment.RandAugment(0), "num_ops must be at least 1"),
        (lambda: augment.RandAugment(magnitude=11.0), r"magnitude must be in \[0.0, 10.0\]"),
        (lambda: augment.RandAugment(fill=128.0), r"fill must be in \[0.0, 1.0\]"),
        (lambda: augment.RandomErasing(scale=(0.4, 0.2)), "scale must be .smallest, largest."),
        (lambda: augment.RandomErasing(fill="pixel"), "fill must be a number or .noise."),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("transform", "image", "message"),
    [
        (augment.Normalize((0.5,), (0.5,)), jnp.zeros((2, 4, 4, 3)), "has 1 value.* 3 channel"),
        (augment.RandomGrayscale(), jnp.zeros((2, 4, 4, 1)), "takes RGB images, got 1 channel"),
        (augment.ColorJitter(hue=0.1), jnp.zeros((2, 4, 4, 1)), "takes RGB images"),
        (augment.GaussianNoise(0.1), jnp.zeros((2, 4, 4, 1), jnp.uint8), "ToFloat before it"),
        (augment.RandAugment(), jnp.zeros((2, 4, 4, 2)), "takes RGB images, got 2 channel"),
        (augment.ToFloat(), jnp.zeros((2, 4, 4, 1), jnp.int32), "got int32"),
        (augment.RandomFlip(), jnp.zeros((4, 4, 1)), "batch, height, width, channels"),
        (augment.RandomFlip("diagonal"), jnp.zeros((2, 4, 5, 1)), r"square images, got .4, 5."),
        (augment.Pad((3, 8)), jnp.zeros((2, 4, 4, 1)), "smaller than the image"),
        (augment.Pad((12, 12), "reflect"), jnp.zeros((2, 4, 4, 1)), "can't reflect 4 pixels"),
        (augment.CenterCrop((5, 3)), jnp.zeros((2, 4, 4, 1)), "larger than the image"),
        (augment.RandomCrop(0, size=(5, 3)), jnp.zeros((2, 4, 4, 1)), "larger than the image"),
        (augment.RandomCrop(4, "reflect"), jnp.zeros((2, 4, 4, 1)), "can't reflect"),
    ],
)
def test_images_it_cannot_transform_are_refused_when_traced(transform, image, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(transform, jax.random.key(0), {"image": image})


def test_all_are_exported_frozen_dataclasses():
    assert {type(transform).__name__ for transform in ALL.values()} <= set(augment.__all__)
    for transform in ALL.values():
        assert hash(transform) == hash(dataclasses.replace(transform))
