"""The names of torchvision's models, and of akamaster's residual networks for CIFAR."""

import re
from itertools import count
from typing import Any

from research.vision.alexnet import AlexNet
from research.vision.cifar_resnet import CifarResNet
from research.vision.convnext import ConvNeXt
from research.vision.densenet import DenseNet
from research.vision.efficientnet import EfficientNet
from research.vision.googlenet import GoogLeNet
from research.vision.inception import BLOCKS, InceptionV3
from research.vision.mobilenet import MobileNetV2
from research.vision.mobilenet_v3 import MobileNetV3
from research.vision.resnet import ResNet
from research.vision.vgg import VGG
from research.vision.vit import ViT
from research.weights import layout
from research.weights.entries import (
    Entries,
    Modules,
    array,
    batch_norm,
    conv,
    conv_norm,
    flattened_linear,
    layer_norm,
    linear,
    linear_as_conv,
    packed_attention,
)


def entries(model: Any, modules: Modules) -> Entries | None:
    """Our parameters by their names; None for a model that torchvision does not have."""
    match model:
        case AlexNet():
            return _alexnet()
        case VGG():
            return _vgg(model, modules)
        case ResNet():
            return _resnet(modules)
        case CifarResNet():
            return _cifar_resnet(modules)
        case DenseNet():
            return _densenet(modules)
        case GoogLeNet():
            return _googlenet(modules)
        case InceptionV3():
            return _inception()
        case MobileNetV2():
            return _mobilenet_v2(modules)
        case MobileNetV3():
            return _mobilenet_v3(modules)
        case EfficientNet():
            return _efficientnet(model, modules)
        case ConvNeXt():
            return _convnext(modules)
        case ViT():
            return _vit(model, modules)
    return None


def canonical(name: str) -> str:
    """A name as newer files spell it: the published ones of DenseNet have a dot before the number
    of a layer's norms and convolutions, and older ones of ViT call its dense layers linear_1 and
    linear_2."""
    name = re.sub(r"(denselayer\d+\.(norm|conv))\.([12])\.", r"\1\3.", name)
    return re.sub(r"\.mlp\.linear_([12])\.", lambda m: f".mlp.{3 * int(m[1]) - 3}.", name)


def _alexnet() -> Entries:
    for i, place in enumerate((0, 3, 6, 8, 10)):
        yield from conv(f"features.{place}", f"conv_{i}")
    yield from flattened_linear("classifier.1", 6, 6, "dense_0")
    yield from linear("classifier.4", "dense_1")
    yield from linear("classifier.6", "head")


def _vgg(model: VGG, modules: Modules) -> Entries:
    yield from vgg_features(model, modules)
    names = [*(f"dense_{i}" for i in range(len(model.hidden))), "head"]
    for i, name in enumerate(names):
        # The first sees maps; ReLU and dropout stand between.
        size = model.pooled_size if i == 0 else 1
        yield from flattened_linear(f"classifier.{3 * i}", size, size, name)


def vgg_features(model: VGG, modules: Modules) -> Entries:
    """The convolutions of a VGG."""
    place, before = 0, 0
    for stage, i in modules.found(r"conv_(\d+)_(\d+)"):
        place += stage - before  # the pooling between stages
        before = stage
        yield from conv(f"features.{place}", f"conv_{stage}_{i}")
        if model.batch_norm:
            yield from batch_norm(f"features.{place + 1}", f"norm_{stage}_{i}")
        place += 3 if model.batch_norm else 2


def _resnet(modules: Modules) -> Entries:
    yield from conv_norm("conv1", "bn1", "stem")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        ours, theirs = f"stage_{stage}_block_{i}", f"layer{stage + 1}.{i}"
        for j in range(3):
            yield from conv_norm(f"{theirs}.conv{j + 1}", f"{theirs}.bn{j + 1}", ours, f"conv_{j}")
        yield from conv_norm(f"{theirs}.downsample.0", f"{theirs}.downsample.1", ours, "shortcut")
    yield from linear("fc", "head")


def _cifar_resnet(modules: Modules) -> Entries:
    yield from conv_norm("conv1", "bn1", "stem")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        ours, theirs = f"stage_{stage}_block_{i}", f"layer{stage + 1}.{i}"
        for j in range(2):
            yield from conv_norm(f"{theirs}.conv{j + 1}", f"{theirs}.bn{j + 1}", ours, f"conv_{j}")
        yield from conv_norm(f"{theirs}.shortcut.0", f"{theirs}.shortcut.1", ours, "shortcut")
    yield from linear("linear", "head")


def _densenet(modules: Modules) -> Entries:
    yield from conv("features.conv0", "stem_conv")
    yield from batch_norm("features.norm0", "stem_norm")
    for block, i in modules.found(r"block_(\d+)_layer_(\d+)"):
        ours = f"block_{block}_layer_{i}"
        theirs = f"features.denseblock{block + 1}.denselayer{i + 1}"
        for j in range(2):
            yield from batch_norm(f"{theirs}.norm{j + 1}", ours, f"norm_{j}")
            yield from conv(f"{theirs}.conv{j + 1}", ours, f"conv_{j}")
    for (block,) in modules.found(r"transition_(\d+)_conv"):
        theirs = f"features.transition{block + 1}"
        yield from batch_norm(f"{theirs}.norm", f"transition_{block}_norm")
        yield from conv(f"{theirs}.conv", f"transition_{block}_conv")
    yield from batch_norm("features.norm5", "norm")
    yield from linear("classifier", "head")


def _googlenet(modules: Modules) -> Entries:
    for i in range(3):
        yield from conv_norm(f"conv{i + 1}.conv", f"conv{i + 1}.bn", f"conv_{i}")
    branches = {
        "branch1": "branch_0",
        "branch2.0": "branch_1_reduce",
        "branch2.1": "branch_1",
        "branch3.0": "branch_2_reduce",
        "branch3.1": "branch_2",
        "branch4.1": "branch_3",
    }
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        for theirs, ours in branches.items():
            name = f"inception{stage + 3}{'abcde'[i]}.{theirs}"
            yield from conv_norm(f"{name}.conv", f"{name}.bn", f"stage_{stage}_block_{i}", ours)
    for i in range(2):
        ours, theirs = f"auxiliary_head_{i}", f"aux{i + 1}"
        yield from conv_norm(f"{theirs}.conv.conv", f"{theirs}.conv.bn", ours, "conv")
        yield from flattened_linear(f"{theirs}.fc1", 4, 4, ours, "dense")
        yield from linear(f"{theirs}.fc2", ours, "head")
    yield from linear("fc", "head")


def _inception() -> Entries:
    def named(theirs: str, *ours: str) -> Entries:
        return conv_norm(f"{theirs}.conv", f"{theirs}.bn", *ours)

    for place, size in (("1a", 3), ("2a", 3), ("2b", 3), ("3b", 1), ("4a", 3)):
        yield from named(f"Conv2d_{place}_{size}x{size}", f"conv_{place}")
    for block, branches in BLOCKS.items():
        theirs = block.capitalize()
        for ours, branch in branches.items():
            name = {
                "branch_3x3_double": "branch3x3dbl",
                "branch_7x7_double": "branch7x7dbl",
                "branch_7x7": "branch7x7x3" if block == "mixed_7a" else "branch7x7",
                "branch_pool": "branch_pool",
            }.get(ours, ours.replace("_", ""))
            length = len(branch.convs)
            alone = length == 1 and not branch.fork
            for i in range(length):
                suffix = "" if alone else f"_{i + 1}"
                yield from named(f"{theirs}.{name}{suffix}", block, f"{ours}_{i}")
            for i, letter in enumerate("ab"):
                yield from named(f"{theirs}.{name}_{length + 1}{letter}", block, f"{ours}_fork_{i}")
    yield from named("AuxLogits.conv0", "auxiliary_head", "conv_0")
    yield from named("AuxLogits.conv1", "auxiliary_head", "conv_1")
    yield from linear("AuxLogits.fc", "auxiliary_head", "head")
    yield from linear("fc", "head")


def _mobilenet_v2(modules: Modules) -> Entries:
    yield from _numbered("features.0", "stem")
    blocks = modules.found(r"block_(\d+)")
    for (i,) in blocks:
        ours, theirs, place = f"block_{i}", f"features.{i + 1}.conv", count()
        if f"{ours}/expand" in modules:
            yield from _numbered(f"{theirs}.{next(place)}", ours, "expand")
        yield from _numbered(f"{theirs}.{next(place)}", ours, "depthwise")
        last = next(place)
        yield from conv_norm(f"{theirs}.{last}", f"{theirs}.{last + 1}", ours, "project")
    yield from _numbered(f"features.{len(blocks) + 1}", "output")
    yield from linear("classifier.1", "head")


def _mobilenet_v3(modules: Modules) -> Entries:
    yield from _numbered("features.0", "stem")
    blocks = modules.found(r"block_(\d+)")
    for (i,) in blocks:
        yield from _inverted_residual(f"features.{i + 1}.block", f"block_{i}", modules)
    yield from _numbered(f"features.{len(blocks) + 1}", "output")
    yield from linear("classifier.0", "dense")
    yield from linear("classifier.3", "head")


def _efficientnet(model: EfficientNet, modules: Modules) -> Entries:
    yield from _numbered("features.0", "stem")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        theirs = f"features.{stage + 1}.{i}.block"
        yield from _inverted_residual(theirs, f"stage_{stage}_block_{i}", modules)
    yield from _numbered(f"features.{len(model.stages) + 1}", "output")
    yield from linear("classifier.1", "head")


def _convnext(modules: Modules) -> Entries:
    yield from conv("features.0.0", "stem_conv")
    yield from layer_norm("features.0.1", "stem_norm")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        ours, theirs = f"stage_{stage}_block_{i}", f"features.{2 * stage + 1}.{i}"
        yield from conv(f"{theirs}.block.0", ours, "depthwise")
        yield from layer_norm(f"{theirs}.block.2", ours, "norm")
        yield from linear(f"{theirs}.block.3", ours, "up")
        yield from linear(f"{theirs}.block.5", ours, "down")
        scale = layout.with_axes(behind=2)
        yield from array(f"{theirs}.layer_scale", ours, "layer_scale", how=scale)
    for (stage,) in modules.found(r"downsample_(\d+)_conv"):
        yield from layer_norm(f"features.{2 * stage + 2}.0", f"downsample_{stage}_norm")
        yield from conv(f"features.{2 * stage + 2}.1", f"downsample_{stage}_conv")
    yield from layer_norm("classifier.0", "norm")
    yield from linear("classifier.2", "head")


def _vit(model: ViT, modules: Modules) -> Entries:
    yield from conv("conv_proj", "patch_embed")
    yield from array("class_token", "class_token", how=layout.with_axes(2))
    yield from array("encoder.pos_embedding", "positions", how=layout.with_axes(1))
    for (i,) in modules.found(r"transformer/block_(\d+)"):
        ours, theirs = ("transformer", f"block_{i}"), f"encoder.layers.encoder_layer_{i}"
        yield from layer_norm(f"{theirs}.ln_1", *ours, "attention_norm")
        yield from packed_attention(
            f"{theirs}.self_attention.in_proj_",
            f"{theirs}.self_attention.out_proj",
            model.sizes.num_heads,
            *ours,
            "attention",
        )
        yield from layer_norm(f"{theirs}.ln_2", *ours, "mlp_norm")
        yield from linear(f"{theirs}.mlp.0", *ours, "mlp", "up")
        yield from linear(f"{theirs}.mlp.3", *ours, "mlp", "down")
    yield from layer_norm("encoder.ln", "norm")
    yield from linear("heads.head", "head")


def _inverted_residual(theirs: str, ours: str, modules: Modules) -> Entries:
    place = count()
    for part in ("expand", "depthwise", "squeeze_excitation", "project"):
        if f"{ours}/{part}" not in modules:
            continue
        name = f"{theirs}.{next(place)}"
        if part == "squeeze_excitation":
            yield from linear_as_conv(f"{name}.fc1", ours, part, "squeeze")
            yield from linear_as_conv(f"{name}.fc2", ours, part, "excite")
        else:
            yield from _numbered(name, ours, part)


def _numbered(name: str, *path: str) -> Entries:
    return conv_norm(f"{name}.0", f"{name}.1", *path)
