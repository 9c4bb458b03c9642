"""Published models, read by our importer, answer what they answer in PyTorch."""

import jax
import numpy as np
import pytest

from research import vision
from research.weights import convert, load
from tests.parity import Fixture

MODELS = {
    "alexnet": (vision.AlexNet, {}),
    "convnext_tiny": (vision.ConvNeXt, {"variant": "tiny"}),
    "densenet121": (vision.DenseNet, {"depth": 121}),
    "efficientnet_b0": (vision.EfficientNet, {"variant": "b0"}),
    "efficientnet_b1": (vision.EfficientNet, {"variant": "b1"}),
    "googlenet": (vision.GoogLeNet, {"auxiliary": True}),
    "inception_v3": (vision.InceptionV3, {"auxiliary": True}),
    "mixer_b16_224": (vision.Mixer, {"variant": "base"}),
    "mobilenet_v2": (vision.MobileNetV2, {}),
    "mobilenet_v3_large": (vision.MobileNetV3, {"size": "large"}),
    "mobilenet_v3_small": (vision.MobileNetV3, {"size": "small"}),
    "mobilenetv1_100": (vision.MobileNetV1, {}),
    "resnet18": (vision.ResNet, {"depth": 18}),
    "resnet20_cifar": (vision.CifarResNet, {"depth": 20}),
    "resnet50": (vision.ResNet, {"depth": 50}),
    "vgg11": (vision.VGG, {"depth": 11}),
    "vgg16_bn": (vision.VGG, {"depth": 16, "batch_norm": True}),
    "vit_base_patch32_224": (vision.ViT, {"variant": "base", "patch_size": 32}),
    "vit_small_patch16": (vision.ViT, {"variant": "small"}),
}
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_the_published_ones(name, monkeypatch):
    fixture = Fixture(f"fixtures/{name}")
    constructor, settings = MODELS[name]
    names = [*fixture.meta["params"], *fixture.meta["buffers"]]
    arrays = {given: np.asarray(fixture.param(given)) for given in names}
    # Files of a gigabyte would take longer than all else; others are read and written elsewhere.
    monkeypatch.setattr(convert, "read_arrays", lambda path: arrays)
    images = fixture.input("input").transpose(0, 2, 3, 1)

    def outputs(dtype):
        model = constructor(dtype=dtype, param_dtype=dtype, **settings)
        variables = load("weights.safetensors", model)
        method = constructor.with_auxiliary if name in AUXILIARY else None
        with jax.default_matmul_precision("highest"):
            found = jax.jit(lambda v, x: model.apply(v, x, method=method))(
                variables, images.astype(dtype)
            )
        if name not in AUXILIARY:
            return {"logits": found}
        logits, others = found
        return {"logits": logits, **dict(zip(AUXILIARY[name], others, strict=True))}

    single = outputs("float32")
    with jax.enable_x64(True):
        double = outputs("float64")
    assert double.keys() == fixture.outputs.keys()
    for key in double:
        fixture.assert_equal(double[key], key)
        error = np.linalg.norm(single[key] - fixture.outputs[key])
        assert error / np.linalg.norm(fixture.outputs[key]) < 1e-5, key
