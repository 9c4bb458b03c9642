"""The names of Hugging Face's transformers."""

import re
from typing import Any

from research.sequence.bert import BERT
from research.sequence.bert_classifier import BERTClassifier
from research.sequence.bert_token_classifier import BERTTokenClassifier
from research.sequence.gpt import GPT
from research.sequence.llama import Llama
from research.sequence.t5 import T5
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
from research.weights.naming import huggingface_text


def entries(model: Any, modules: Modules) -> Entries | None:
    """Our parameters by the names of their models; None for one that they lack."""
    match model:
        case GPT():
            return huggingface_text.gpt(model, modules)
        case Llama():
            return huggingface_text.llama(model, modules)
        case BERT():
            return huggingface_text.bert(model, modules)
        case BERTClassifier() | BERTTokenClassifier():
            return huggingface_text.bert(model.bert.clone(masked_head=False), modules)
        case T5():
            return huggingface_text.t5(model, modules)
        case ResNet():
            return _resnet(modules)
        case ConvNeXt():
            return _convnext(modules)
        case ViT():
            return _vit(model, modules)
    return None


def canonical(name: str) -> str:
    """A name as newer files spell it: older ones of BERT call scale and bias of a norm gamma and
    beta."""
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{_NORMS[m[1]]}", name)


_NORMS = {"gamma": "weight", "beta": "bias"}

PREFIXES = ("transformer.", "model.", "bert.", "resnet.", "convnext.", "vit.")
"""Of GPT-2, Llama, BERT and the models of images."""

BESIDES = (
    # Masks that old files of GPT-2 hold; positions 0, 1, … of BERT, and its heads and its pooler,
    # for models without; frequencies of Llama; what old files of T5 hold and nothing reads.
    r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",
    r".*\.position_ids",
    r"cls\..*",
    r"(bert\.)?pooler\.dense\.(weight|bias)",
    r".*\.rotary_emb\.inv_freq",
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
)

ALIASES = (
    ("lm_head.weight", "transformer.wte.weight"),
    ("lm_head.weight", "model.embed_tokens.weight"),
    ("lm_head.weight", "shared.weight"),
    ("encoder.embed_tokens.weight", "shared.weight"),
    ("decoder.embed_tokens.weight", "shared.weight"),
    ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
)
"""Other names of tied arrays."""


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
    for (stage,) in modules.found(r"downsample_(\d+)_conv"):
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
            model.sizes.num_heads,
            *ours,
            "attention",
        )
        yield from layer_norm(f"{theirs}.layernorm_after", *ours, "mlp_norm")
        yield from linear(f"{theirs}.intermediate.dense", *ours, "mlp", "up")
        yield from linear(f"{theirs}.output.dense", *ours, "mlp", "down")
    yield from layer_norm("vit.layernorm", "norm")
    yield from linear("classifier", "head")
