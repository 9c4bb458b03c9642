"""Numbers of one's own in place of those of a published variant."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from research import vision

pytestmark = pytest.mark.usefixtures("quickly_traced")

IMAGES = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
STAGES = ((1, 3, 1, 16, 1), (6, 5, 2, 24, 2))
BLOCKS = ((3, 16, 16, False, False, 1), (5, 32, 24, True, True, 2))

# Model, and the channels of its maps.
MODELS = {
    "ViT": (
        vision.ViT(embed_dim=12, num_layers=2, num_heads=3, mlp_dim=20),
        {"embedding": 12, "block_0": 12, "block_1": 12},
    ),
    "Mixer": (
        vision.Mixer(embed_dim=12, num_layers=2, tokens_dim=5, channels_dim=7),
        {"embedding": 12, "block_0": 12, "block_1": 12},
    ),
    "ConvNeXt": (
        vision.ConvNeXt(stage_sizes=(1, 2, 1), channels=(4, 6, 10)),
        {"stem": 4, "stage_0": 4, "stage_1": 6, "stage_2": 10},
    ),
    "DenseNet": (
        vision.DenseNet(stage_sizes=(1, 2), growth_rate=4, stem_channels=6),
        {"stem": 6, "block_0": 6 + 4, "block_1": 5 + 2 * 4, "output": 13},
    ),
    "ResNet": (
        vision.ResNet(depth=18, stage_sizes=(1, 2), channels=(4, 6)),
        {"stem": 4, "stage_0": 4, "stage_1": 6},
    ),
    "ResNet of bottlenecks": (
        vision.ResNet(depth=50, stage_sizes=(1, 2), channels=(4, 6)),
        {"stem": 4, "stage_0": 16, "stage_1": 24},
    ),
    "VGG": (
        vision.VGG(stage_sizes=(1, 2), channels=(4, 6), hidden=(8,), pooled_size=1),
        {"stage_0": 4, "stage_1": 6},
    ),
    "EfficientNet": (
        vision.EfficientNet(width_factor=0.5, depth_factor=1.5, stages=STAGES),
        {"stem": 16, "stage_0": 8, "stage_1": 16, "output": 64},
    ),
    "MobileNetV2": (
        vision.MobileNetV2(stages=((1, 8, 1, 1), (6, 24, 2, 2))),
        {"stem": 32, "block_0": 8, "block_1": 24, "block_2": 24, "output": 1280},
    ),
    "MobileNetV3": (
        vision.MobileNetV3(blocks=BLOCKS),
        {"stem": 16, "block_0": 16, "block_1": 24, "output": 144},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_numbers_of_ones_own(name):
    model, channels = MODELS[name]
    start = partial(model.init_with_output, method="features")
    maps, variables = jax.eval_shape(start, jax.random.key(0), IMAGES)
    assert {place: x.shape[-1] for place, x in maps.items()} == channels
    blocks = [place for place in variables["params"] if place.startswith("stage_1_block_")]
    assert len(blocks) in (0, {"EfficientNet": 3}.get(name, 2))


def test_hidden_units_and_heads_of_ones_own():
    def params(name):
        return jax.eval_shape(MODELS[name][0].init, jax.random.key(0), IMAGES)["params"]

    block = params("ViT")["transformer"]["block_0"]
    assert block["attention"]["qkv"]["kernel"].shape == (12, 3, 3, 4)
    assert block["mlp"]["up"]["kernel"].shape == (12, 20)
    block = params("Mixer")["block_1"]
    assert block["tokens_mlp"]["up"]["kernel"].shape == (16, 5)
    assert block["channels_mlp"]["up"]["kernel"].shape == (12, 7)
    assert params("VGG")["dense_0"]["kernel"].shape == (6, 8)


@pytest.mark.parametrize(
    ("model", "same"),
    [
        (
            vision.ViT(embed_dim=192, num_heads=3, mlp_dim=768),
            vision.ViT(variant="tiny"),
        ),
        (vision.ResNet(depth=18, stage_sizes=(3, 4, 6, 3)), vision.ResNet(depth=34)),
        (
            vision.DenseNet(stage_sizes=(6, 12, 36, 24), growth_rate=48, stem_channels=96),
            vision.DenseNet(depth=161),
        ),
        (
            vision.EfficientNet(width_factor=1.1, depth_factor=1.2),
            vision.EfficientNet(variant="b2"),
        ),
        (vision.VGG(depth=16, stage_sizes=(1, 1, 2, 2, 2)), vision.VGG(depth=11)),
    ],
)
def test_what_is_not_set_is_the_variants(model, same):
    assert model.sizes == same.sizes


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (vision.ViT, {"num_heads": 5}, "num_heads=5 of ViT must divide embed_dim=768"),
        (vision.ViT, {"num_layers": 0}, "num_layers=0 of ViT must be positive"),
        (vision.Mixer, {"tokens_dim": -1}, "tokens_dim=-1 of Mixer must be positive"),
        (
            vision.ConvNeXt,
            {"stage_sizes": (1, 1)},
            "ConvNeXt with 2 stage_sizes and 4 channels: each stage needs one of each; set them",
        ),
        (vision.ResNet, {"stage_sizes": (1, 0, 1, 1)}, "of ResNet must be positive"),
        (vision.ResNet, {"channels": (4,)}, "ResNet with 4 stage_sizes and 1 channels"),
        (vision.DenseNet, {"stage_sizes": ()}, r"stage_sizes=\(\) of DenseNet must be positive"),
        (vision.VGG, {"channels": (4, 4)}, "VGG with 5 stage_sizes and 2 channels"),
        (vision.EfficientNet, {"width_factor": 0.0}, "width_factor=0.0 of EfficientNet must be"),
        (vision.EfficientNet, {"stages": ((1, 3, 0, 16, 1),)}, "of EfficientNet must be positive"),
        (vision.MobileNetV2, {"stages": ()}, "of MobileNetV2 must be positive"),
        (vision.MobileNetV3, {"blocks": ((3, 0, 16, True, True, 1),)}, "of MobileNetV3 must be"),
    ],
)
def test_numbers_that_make_no_network(model, settings, message):
    with pytest.raises(ValueError, match=message):
        model(**settings)


@pytest.mark.parametrize(
    ("model", "stride"),
    [
        (vision.ResNet(depth=18), 32),
        (vision.ResNet(depth=18, stem="small"), 8),
        (vision.ResNet(depth=18, stage_sizes=(1, 1), channels=(4, 4)), 8),
        (vision.CifarResNet(depth=8), 4),
        (vision.WideResNet(depth=10, widen_factor=1), 4),
        (vision.GoogLeNet(), 32),
        (vision.MobileNetV1(), 32),
        (vision.MobileNetV2(), 32),
        (vision.MobileNetV2(stem="small"), 8),
        (vision.MobileNetV3(), 32),
        (vision.EfficientNet(), 32),
        (vision.EfficientNet(stages=STAGES), 4),
    ],
)
def test_images_smaller_than_the_stride(model, stride):
    name = type(model).__name__
    small = jax.ShapeDtypeStruct((1, stride, stride - 1, 3), jnp.float32)
    message = rf"images of {stride}×{stride - 1} pixels are too small for {name}, which shrinks"
    with pytest.raises(ValueError, match=f"{message} them {stride} times"):
        jax.eval_shape(model.init, jax.random.key(0), small)


@pytest.mark.parametrize("name", ["ResNet", "EfficientNet", "MobileNetV2", "MobileNetV3"])
def test_the_stride_is_what_the_last_maps_are_smaller_by(name):
    """And images that are as large are taken."""
    model, _ = MODELS[name]
    stride = {"ResNet": 8}.get(name, 4)
    maps, _ = jax.eval_shape(
        partial(model.init_with_output, method="features"),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, stride, stride, 3), jnp.float32),
    )
    assert min(x.shape[1] for x in maps.values()) == 1
