"""Every published model has exactly as many parameters as published."""

import math

import jax
import jax.numpy as jnp
import pytest

from research import vision
from tests.parity import load_counts

pytestmark = pytest.mark.usefixtures("quickly_traced")

VARIANTS = {
    "LeNet-5 (modern, full C3)": vision.LeNet(),
    "LeNet Caffe 20-50-500-10": vision.LeNet(
        channels=(20, 50), hidden=(500,), padding=("VALID", "VALID")
    ),
    "LeNet-300-100": vision.MLP(hidden=(300, 100)),
    "LeNet-5 1998 original (partial C3, trainable S2/S4)": vision.LeNet1998(num_classes=None),
    "alexnet": vision.AlexNet(),
    "vgg11": vision.VGG(depth=11),
    "vgg16": vision.VGG(depth=16),
    "vgg16_bn": vision.VGG(depth=16, batch_norm=True),
    "vgg19": vision.VGG(depth=19),
    "vgg19_bn": vision.VGG(depth=19, batch_norm=True),
    "VGG16-BN CIFAR 512->10": vision.VGG(
        num_classes=10, depth=16, batch_norm=True, hidden=(), pooled_size=1
    ),
    **{f"resnet{depth}": vision.ResNet(depth=depth) for depth in (18, 34, 50, 101, 152)},
    "ResNet-18 CIFAR stem 10cls": vision.ResNet(num_classes=10, depth=18, stem="small"),
    "ResNet-50 CIFAR encoder": vision.ResNet(num_classes=None, depth=50, stem="small"),
    **{f"cifar-resnet{depth}": vision.CifarResNet(depth=depth) for depth in (20, 32, 44, 56, 110)},
    "WRN-28-10": vision.WideResNet(),
    "WRN-40-2": vision.WideResNet(depth=40, widen_factor=2),
    "densenet121": vision.DenseNet(),
    "timm:mobilenetv1_100": vision.MobileNetV1(),
    "mobilenet_v2": vision.MobileNetV2(),
    "mobilenet_v3_large": vision.MobileNetV3(),
    "mobilenet_v3_small": vision.MobileNetV3(size="small"),
    **{f"efficientnet_b{i}": vision.EfficientNet(variant=f"b{i}") for i in range(8)},
    "timm:efficientnet_b0": vision.EfficientNet(),
    "convnext_tiny": vision.ConvNeXt(),
    "inception_v3 (aux)": vision.InceptionV3(auxiliary=True),
    "inception_v3 (no aux)": vision.InceptionV3(),
    "googlenet (aux)": vision.GoogLeNet(auxiliary=True),
    "googlenet (no aux)": vision.GoogLeNet(),
    "vit_b_16": vision.ViT(),
    "vit_l_16": vision.ViT(variant="large"),
    "timm:vit_tiny_patch16_224": vision.ViT(variant="tiny"),
    "timm:vit_small_patch16_224": vision.ViT(variant="small"),
    "timm:vit_base_patch16_224": vision.ViT(scan_layers=True),
    "timm:vit_base_patch32_224": vision.ViT(patch_size=32),
    "timm:vit_large_patch16_224": vision.ViT(variant="large", scan_layers=True),
    "timm:deit_tiny_patch16_224": vision.ViT(variant="tiny"),
    "timm:deit_small_patch16_224": vision.ViT(variant="small"),
    "timm:deit_base_patch16_224": vision.ViT(scan_layers=True),
    "timm:vit_small_patch4_32 (CIFAR)": vision.ViT(num_classes=10, variant="small", patch_size=4),
    "timm:mixer_s16_224": vision.Mixer(variant="small"),
    "timm:mixer_b16_224": vision.Mixer(),
    "timm:mixer_l16_224": vision.Mixer(variant="large"),
    "timm:convnext_tiny": vision.ConvNeXt(scan_layers=True),
    "U-Net 2015 (1->2, no BN)": vision.UNet(),
    "U-Net milesial (3->1, BN)": vision.UNet(num_classes=1, padding="SAME", norm="batch"),
}
SHAPES = {
    "LeNet-5": (28, 28, 1),
    "LeNet": (28, 28, 1),
    "cifar": (32, 32, 3),
    "WRN": (32, 32, 3),
    "timm:vit_small_patch4_32": (32, 32, 3),
    "inception": (299, 299, 3),
    "U-Net 2015": (572, 572, 1),
    "U-Net milesial": (64, 64, 3),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_as_many_as_published(name):
    model = VARIANTS[name]
    shape = next(
        (shape for start, shape in SHAPES.items() if name.startswith(start)), (224, 224, 3)
    )
    method = type(model).with_auxiliary if getattr(model, "auxiliary", False) else None
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), method=method)
    )
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    assert count == load_counts()[name]


def test_larger_convnexts_of_the_paper():
    """Liu et al. 2022, table 1: 50 M and 89 M."""
    for variant, millions in (("small", 50), ("base", 89), ("large", 198)):
        model = vision.ConvNeXt(variant=variant)
        variables = jax.eval_shape(
            lambda model=model: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
        )
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
        assert round(count / 1e6) == millions
