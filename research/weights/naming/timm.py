"""The names of timm's models."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from research.vision.convnext import ConvNeXt
from research.vision.densenet import DenseNet
from research.vision.efficientnet import EfficientNet
from research.vision.inception import InceptionV3
from research.vision.mixer import Mixer
from research.vision.mobilenet import MobileNetV1, MobileNetV2
from research.vision.mobilenet_v3 import MobileNetV3
from research.vision.resnet import ResNet
from research.vision.vgg import VGG
from research.vision.vit import ViT
from research.weights import layout
from research.weights.entries import (
    Entries,
    Modules,
    array,
    conv,
    conv_norm,
    flattened_linear_as_conv,
    layer_norm,
    linear,
    linear_as_conv,
    packed_attention,
)
from research.weights.naming import torchvision


def entries(model: Any, modules: Modules) -> Entries | None:
    """Our parameters by their names; None for a model of which timm has no counterpart."""
    match model:
        case ResNet() | DenseNet() | InceptionV3():
            return torchvision.entries(model, modules)
        case VGG():
            return _vgg(model, modules)
        case MobileNetV1():
            return _mobilenet_v1(modules)
        case MobileNetV2():
            return _mobilenet_v2(model, modules)
        case MobileNetV3():
            # Its stages are told by the number of blocks.
            return _mobilenet_v3(modules) if model.blocks is None else None
        case EfficientNet():
            return _efficientnet(modules)
        case ConvNeXt():
            return _convnext(modules)
        case ViT():
            return _vit(model, modules)
        case Mixer():
            return _mixer(modules)
    return None


def _vgg(model: VGG, modules: Modules) -> Entries:
    yield from torchvision.vgg_features(model, modules)
    size = model.pooled_size
    yield from flattened_linear_as_conv("pre_logits.fc1", size, size, "dense_0")
    yield from linear_as_conv("pre_logits.fc2", "dense_1")
    yield from linear("head.fc", "head")


def _mobilenet_v1(modules: Modules) -> Entries:
    yield from conv_norm("conv_stem", "bn1", "stem")
    for (i,), theirs in zip(modules.found(r"block_(\d+)"), _staged(_V1_DEPTHS), strict=True):
        yield from conv_norm(f"{theirs}.conv_dw", f"{theirs}.bn1", f"block_{i}", "depthwise")
        yield from conv_norm(f"{theirs}.conv_pw", f"{theirs}.bn2", f"block_{i}", "pointwise")
    yield from linear("classifier", "head")


def _mobilenet_v2(model: MobileNetV2, modules: Modules) -> Entries:
    depths = [depth for _, _, depth, _ in model.stages]
    yield from conv_norm("conv_stem", "bn1", "stem")
    for (i,), theirs in zip(modules.found(r"block_(\d+)"), _staged(depths), strict=True):
        yield from _inverted_residual(theirs, f"block_{i}", modules)
    yield from conv_norm("conv_head", "bn2", "output")
    yield from linear("classifier", "head")


def _mobilenet_v3(modules: Modules) -> Entries:
    yield from conv_norm("conv_stem", "bn1", "stem")
    blocks = modules.found(r"block_(\d+)")
    depths = _V3_DEPTHS[len(blocks)]
    for (i,), theirs in zip(blocks, _staged(depths), strict=True):
        yield from _inverted_residual(theirs, f"block_{i}", modules)
    # timm counts the last 1×1 convolution among the blocks.
    yield from conv_norm(f"blocks.{len(depths)}.0.conv", f"blocks.{len(depths)}.0.bn1", "output")
    yield from linear_as_conv("conv_head", "dense")
    yield from linear("classifier", "head")


def _efficientnet(modules: Modules) -> Entries:
    yield from conv_norm("conv_stem", "bn1", "stem")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        yield from _inverted_residual(f"blocks.{stage}.{i}", f"stage_{stage}_block_{i}", modules)
    yield from conv_norm("conv_head", "bn2", "output")
    yield from linear("classifier", "head")


def _convnext(modules: Modules) -> Entries:
    yield from conv("stem.0", "stem_conv")
    yield from layer_norm("stem.1", "stem_norm")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        ours, theirs = f"stage_{stage}_block_{i}", f"stages.{stage}.blocks.{i}"
        yield from conv(f"{theirs}.conv_dw", ours, "depthwise")
        yield from layer_norm(f"{theirs}.norm", ours, "norm")
        yield from linear(f"{theirs}.mlp.fc1", ours, "up")
        yield from linear(f"{theirs}.mlp.fc2", ours, "down")
        yield from array(f"{theirs}.gamma", ours, "layer_scale")
    for (stage,) in modules.found(r"downsample_(\d+)_conv"):
        theirs = f"stages.{stage + 1}.downsample"
        yield from layer_norm(f"{theirs}.0", f"downsample_{stage}_norm")
        yield from conv(f"{theirs}.1", f"downsample_{stage}_conv")
    yield from layer_norm("head.norm", "norm")
    yield from linear("head.fc", "head")


def _vit(model: ViT, modules: Modules) -> Entries:
    yield from conv("patch_embed.proj", "patch_embed")
    yield from array("cls_token", "class_token", how=layout.with_axes(2))
    yield from array("pos_embed", "positions", how=layout.with_axes(1))
    for (i,) in modules.found(r"transformer/block_(\d+)"):
        ours, theirs = ("transformer", f"block_{i}"), f"blocks.{i}"
        yield from layer_norm(f"{theirs}.norm1", *ours, "attention_norm")
        yield from packed_attention(
            f"{theirs}.attn.qkv.", f"{theirs}.attn.proj", model.sizes.num_heads, *ours, "attention"
        )
        yield from layer_norm(f"{theirs}.norm2", *ours, "mlp_norm")
        yield from linear(f"{theirs}.mlp.fc1", *ours, "mlp", "up")
        yield from linear(f"{theirs}.mlp.fc2", *ours, "mlp", "down")
    yield from layer_norm("fc_norm" if model.norm_after_pool else "norm", "norm")
    yield from linear("head", "head")


def _mixer(modules: Modules) -> Entries:
    yield from conv("stem.proj", "patch_embed")
    for (i,) in modules.found(r"block_(\d+)"):
        ours, theirs = f"block_{i}", f"blocks.{i}"
        yield from layer_norm(f"{theirs}.norm1", ours, "tokens_norm")
        yield from layer_norm(f"{theirs}.norm2", ours, "channels_norm")
        for part in ("tokens", "channels"):
            yield from linear(f"{theirs}.mlp_{part}.fc1", ours, f"{part}_mlp", "up")
            yield from linear(f"{theirs}.mlp_{part}.fc2", ours, f"{part}_mlp", "down")
    yield from layer_norm("norm", "norm")
    yield from linear("head", "head")


# Blocks of each stage as timm counts them; of v3 by how many there are in all.
_V1_DEPTHS = (1, 2, 2, 6, 2)
_V3_DEPTHS = {15: (1, 2, 3, 4, 2, 3), 11: (1, 2, 3, 2, 3)}


def _staged(depths: Sequence[int]) -> list[str]:
    return [f"blocks.{stage}.{i}" for stage, depth in enumerate(depths) for i in range(depth)]


def _inverted_residual(theirs: str, ours: str, modules: Modules) -> Entries:
    expands, norm = f"{ours}/expand" in modules, count(1)
    names = (
        {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
        if expands
        else {"depthwise": "conv_dw", "project": "conv_pw"}
    )
    for part, name in names.items():
        yield from conv_norm(f"{theirs}.{name}", f"{theirs}.bn{next(norm)}", ours, part)
    yield from linear_as_conv(f"{theirs}.se.conv_reduce", ours, "squeeze_excitation", "squeeze")
    yield from linear_as_conv(f"{theirs}.se.conv_expand", ours, "squeeze_excitation", "excite")
