"""What moves images moves the maps of labels and weights that lie over them, by the same draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data import augment
from research.data.augment.elastic import displacements

EXACT = {
    "RandomFlip": augment.RandomFlip(),
    "RandomFlip up and down": augment.RandomFlip("vertical"),
    "RandomFlip along the diagonal": augment.RandomFlip("diagonal"),
    "RandomCrop": augment.RandomCrop(3),
    "RandomCrop of another size": augment.RandomCrop(2, "reflect", (20, 18)),
    "CenterCrop": augment.CenterCrop((15, 20)),
    "Pad": augment.Pad((40, 35), "edge"),
}
RESAMPLED = {
    "RandomRotation": augment.RandomRotation(90.0, fill=1.0),
    "RandomAffine": augment.RandomAffine(30.0, (0.2, 0.2), (0.8, 1.2), 20.0),
    "RandomResizedCrop": augment.RandomResizedCrop((32, 40), (0.2, 0.6)),
    "Resize": augment.Resize((64, 80), "bicubic"),
    "ElasticDeformation": augment.ElasticDeformation(2.0),
}


def batch_of(count=8):
    """Blocks of two classes, of which the image and the weights are pictures."""
    blocks = np.random.default_rng(0).integers(2, size=(count, 4, 4))
    label = np.kron(blocks, np.ones((1, 8, 8), int))
    weight = jnp.asarray(label, jnp.float32)
    return {"image": weight[..., None], "label": jnp.asarray(label, jnp.int32), "weight": weight}


def apply(transform, batch):
    return {k: np.asarray(x) for k, x in jax.jit(transform)(jax.random.key(0), batch).items()}


@pytest.mark.parametrize("name", EXACT)
def test_maps_move_as_the_images(name):
    batch = batch_of()
    out = apply(EXACT[name], batch)
    np.testing.assert_array_equal(out["label"], out["image"][..., 0])
    np.testing.assert_array_equal(out["weight"], out["image"][..., 0])
    assert out["label"].dtype == np.int32
    assert out["label"].shape != batch["label"].shape or (out["label"] != batch["label"]).any()


@pytest.mark.parametrize("name", RESAMPLED)
def test_resampled_labels_are_those_of_the_nearest_pixel(name):
    """Where all pixels around are of one class, the label is that class; elsewhere one of them."""
    batch = batch_of()
    out = apply(RESAMPLED[name], batch)
    image, label = out["image"][..., 0], out["label"]
    assert label.dtype == np.int32 and label.shape == image.shape
    assert set(np.unique(label)) == {0, 1}, "labels are blended"
    inside = out["weight"] == image  # `fill` is not for the maps
    if name != "Resize":
        assert ((out["weight"] > 0.01) & (out["weight"] < 0.99)).any(), "weights are not blended"
    sure = inside & (np.minimum(np.abs(image), np.abs(image - 1)) < 1e-6)
    assert sure.mean() > 0.4
    np.testing.assert_array_equal(label[sure], image[sure].round())
    outside = ~inside
    if name == "RandomRotation":
        assert outside.mean() > 0.05
        assert (out["weight"][outside] < 1).all()
        assert not label[outside & (image == 1) & (out["weight"] == 0)].any()

    plain = apply(RESAMPLED[name], {"image": batch["image"], "label": jnp.arange(8)})
    np.testing.assert_array_equal(plain["image"], out["image"])
    np.testing.assert_array_equal(plain["label"], np.arange(8))


def test_maps_of_another_size_are_refused():
    batch = {"image": jnp.zeros((2, 8, 8, 1)), "label": jnp.zeros((2, 4, 4), int)}
    with pytest.raises(ValueError, match=r"`label` have shape .2, 4, 4., the images .2, 8, 8, 1."):
        jax.eval_shape(augment.RandomFlip(), jax.random.key(0), batch)


@pytest.mark.parametrize("transform", [augment.Mixup(1.0, 2), augment.CutMix(1.0, 2)])
def test_maps_are_not_mixed(transform):
    with pytest.raises(ValueError, match=r"mixes one class an example, got .* \(8, 32, 32\)"):
        jax.eval_shape(transform, jax.random.key(0), batch_of())


def test_elastic_deformation_moves_by_what_is_drawn():
    """Of an image whose channels are its coordinates, the result shows where each pixel is from."""
    size, sigma = 33, 2.0
    here = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
    image = np.broadcast_to(here.astype(np.float32), (256, size, size, 2))
    out = apply(augment.ElasticDeformation(sigma), {"image": jnp.asarray(image)})["image"]
    moved = (out - here)[:, 8:-8, 8:-8]
    assert moved[:, 8, 8].std() == pytest.approx(sigma, rel=0.1)
    assert np.abs(moved[:, 8, 8].mean(0)).max() < 0.4
    assert abs(np.corrcoef(moved[:, 8, 8].T)[0, 1]) < 0.2, "rows and columns move alike"
    bends = np.abs(np.diff(moved, 2, axis=1)).max()
    assert bends < 0.2, "the field is not smooth"
    still = apply(augment.ElasticDeformation(0.0), {"image": jnp.asarray(image)})["image"]
    np.testing.assert_allclose(still, image, atol=1e-4)


def test_displacements_pass_through_those_of_the_grid():
    coarse = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    field = np.asarray(displacements(jnp.asarray(coarse), (9, 13)))
    assert field.shape == (2, 9, 13)
    np.testing.assert_allclose(field[:, ::4, ::4], coarse, atol=1e-5)
    # Keys' cubic kernel halfway between the middle two of four points.
    expected = (9 * (coarse[:, 0, 1] + coarse[:, 0, 2]) - coarse[:, 0, 0] - coarse[:, 0, 3]) / 16
    np.testing.assert_allclose(field[:, 0, 6], expected, atol=1e-5)


@pytest.mark.parametrize(("mode", "expected"), [("constant", 0.0), ("edge", 7.0), ("reflect", 5.0)])
def test_elastic_deformation_has_the_mode_outside(mode, expected, monkeypatch):
    from research.data.augment import elastic

    def two_to_the_right(coarse, size):
        return jnp.stack([jnp.zeros(size), jnp.full(size, 2.0)])

    monkeypatch.setattr(elastic, "displacements", two_to_the_right)
    image = jnp.broadcast_to(jnp.arange(8.0)[:, None], (1, 8, 8, 1))
    batch = {"image": image, "label": image[..., 0].astype(jnp.int32)}
    out = augment.ElasticDeformation(mode=mode)(jax.random.key(0), batch)
    assert out["image"][0, 0, :, 0].tolist()[:6] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert out["image"][0, 0, 7, 0] == expected
    assert out["label"][0, 0, 7] == expected
