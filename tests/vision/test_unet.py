"""U-Net: what a published one answers, and images that cannot be halved evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import vision
from tests.parity import Fixture


def published(fixture):
    """Variables with the weights of milesial/Pytorch-UNet."""
    params, batch_stats = {}, {}

    def convolve(ours, theirs):
        params[ours], batch_stats[ours] = {}, {}
        for i in range(2):
            kernel = fixture.param(f"{theirs}.double_conv.{3 * i}.weight")
            params[ours][f"conv_{i}"] = {"kernel": kernel.transpose(2, 3, 1, 0)}
            scale_and_bias, statistics = fixture.norm(f"{theirs}.double_conv.{3 * i + 1}")
            params[ours][f"norm_{i}"] = scale_and_bias
            batch_stats[ours][f"norm_{i}"] = statistics

    convolve("down_0_convs", "inc")
    for level in range(1, 5):
        convolve(f"down_{level}_convs", f"down{level}.maxpool_conv.1")
        ours, theirs = f"up_{4 - level}", f"up{level}"
        convolve(f"{ours}_convs", f"{theirs}.conv")
        # A transposed convolution of PyTorch is (in, out, rows, columns), and flipped.
        kernel = fixture.param(f"{theirs}.up.weight").transpose(2, 3, 0, 1)[::-1, ::-1]
        params[f"{ours}_conv"] = {"kernel": kernel, "bias": fixture.param(f"{theirs}.up.bias")}
    kernel = fixture.param("outc.conv.weight")[:, :, 0, 0].T
    params["head"] = {"kernel": kernel, "bias": fixture.param("outc.conv.bias")}
    return {"params": params, "batch_stats": batch_stats}


def test_unet_equals_pytorch():
    """Of images of 48×52 pixels, which are halved to 3×3: 52, 26, 13, 6, 3."""
    fixture = Fixture("more/fixtures/unet_milesial")
    images = fixture.input("input").transpose(0, 2, 3, 1)
    model = vision.UNet(
        num_classes=1, padding="SAME", norm="batch", up_activation=False, dtype="float64"
    )
    with jax.enable_x64(True):
        logits = jax.jit(model.apply)(published(fixture), images)
    fixture.assert_equal(logits.transpose(0, 3, 1, 2)[..., ::3], "logits")


@pytest.mark.usefixtures("quickly_traced")
def test_images_of_odd_size():
    """Cropped where the border is, they are refused; with zeros added, the size is kept."""
    images = jax.ShapeDtypeStruct((1, 27, 45, 1), jnp.float32)
    model = vision.UNet(channels=(2, 4, 8), padding="SAME", norm="batch")
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert logits.shape == (1, 27, 45, 2)
    with pytest.raises(ValueError, match=r"which cannot be halved.*padding='SAME'"):
        jax.eval_shape(model.clone(padding="VALID").init, jax.random.key(0), images)
    low = jax.ShapeDtypeStruct((1, 3, 45, 1), jnp.float32)
    with pytest.raises(ValueError, match="does not fit into maps of 1×22"):
        jax.eval_shape(model.init, jax.random.key(0), low)


def test_up_convolutions_begin_as_the_docstring_says():
    model = vision.UNet(channels=(32, 64), padding="SAME")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    std = np.std(variables["params"]["up_0_conv"]["kernel"])
    np.testing.assert_allclose(std, np.sqrt(2 / 64) / 2, rtol=0.02)
