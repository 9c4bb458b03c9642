"""The names of Hugging Face's transformers."""

from typing import Any

from research.vision.convnext import ConvNeXt
from research.vision.resnet import ResNet
from research.vision.vit import ViT
from research.weights import layout
from research.weights.entries import (
    Entries,
    Modules,
    array,
    conv,
    conv_norm,
    layer_norm,
    linear,
    separate_attention,
)


def entries(model: Any, modules: Modules) -> Entries | None:
    """Our parameters by the names of their image classifiers; None for a model they lack."""
    match model:
        case ResNet():
            return _resnet(modules)
        case ConvNeXt():
            return _convnext(modules)
        case ViT():
            return _vit(model, modules)
    return None


def _resnet(modules: Modules) -> Entries:
    def named(theirs: str, *ours: str) -> Entries:
        return conv_norm(f"{theirs}.convolution", f"{theirs}.normalization", *ours)

    yield from named("resnet.embedder.embedder", "stem")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        ours, theirs = f"stage_{stage}_block_{i}", f"resnet.encoder.stages.{stage}.layers.{i}"
        for j in range(3):
            yield from named(f"{theirs}.layer.{j}", ours, f"conv_{j}")
        yield from named(f"{theirs}.shortcut", ours, "shortcut")
    yield from linear("classifier.1", "head")


def _convnext(modules: Modules) -> Entries:
    yield from conv("convnext.embeddings.patch_embeddings", "stem_conv")
    yield from layer_norm("convnext.embeddings.layernorm", "stem_norm")
    for stage, i in modules.found(r"stage_(\d+)_block_(\d+)"):
        ours, theirs = f"stage_{stage}_block_{i}", f"convnext.encoder.stages.{stage}.layers.{i}"
        yield from conv(f"{theirs}.dwconv", ours, "depthwise")
        yield from layer_norm(f"{theirs}.layernorm", ours, "norm")
        yield from linear(f"{theirs}.pwconv1", ours, "up")
        yield from linear(f"{theirs}.pwconv2", ours, "down")
        yield from array(f"{theirs}.layer_scale_parameter", ours, "layer_scale")
    for stage in range(3):
        theirs = f"convnext.encoder.stages.{stage + 1}.downsampling_layer"
        yield from layer_norm(f"{theirs}.0", f"downsample_{stage}_norm")
        yield from conv(f"{theirs}.1", f"downsample_{stage}_conv")
    yield from layer_norm("convnext.layernorm", "norm")
    yield from linear("classifier", "head")


def _vit(model: ViT, modules: Modules) -> Entries:
    yield from conv("vit.embeddings.patch_embeddings.projection", "patch_embed")
    yield from array("vit.embeddings.cls_token", "class_token", how=layout.with_axes(2))
    yield from array("vit.embeddings.position_embeddings", "positions", how=layout.with_axes(1))
    for (i,) in modules.found(r"transformer/block_(\d+)"):
        ours, theirs = ("transformer", f"block_{i}"), f"vit.encoder.layer.{i}"
        yield from layer_norm(f"{theirs}.layernorm_before", *ours, "attention_norm")
        yield from separate_attention(
            [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")],
            f"{theirs}.attention.output.dense",
            model.num_heads,
            *ours,
            "attention",
        )
        yield from layer_norm(f"{theirs}.layernorm_after", *ours, "mlp_norm")
        yield from linear(f"{theirs}.intermediate.dense", *ours, "mlp", "up")
        yield from linear(f"{theirs}.output.dense", *ours, "mlp", "down")
    yield from layer_norm("vit.layernorm", "norm")
    yield from linear("classifier", "head")
