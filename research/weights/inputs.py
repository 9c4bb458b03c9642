"""What a model is called with, to know its variables."""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.nn.attention import MultiHeadAttention
from research.nn.encoder_decoder import EncoderDecoder
from research.nn.recurrent import Recurrent
from research.nn.transformer import Transformer
from research.sequence.translator import Translator
from research.vision.cifar_resnet import CifarResNet, WideResNet
from research.vision.inception import InceptionV3
from research.vision.vit import ViT

Inputs = tuple[jax.ShapeDtypeStruct, ...]


def model_inputs(
    model: nn.Module, arrays: Mapping[str, np.ndarray], image_shape: Sequence[int] | None
) -> Inputs:
    """Tokens for a model of tokens, features as wide as its published arrays for a layer, else
    images of `image_shape`, by default those that the published model takes."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    match model:
        case Translator():
            return tokens, tokens
        case Recurrent():
            return (_features(arrays, ("weight_ih_l0", 1), ("params/layer_0/input_kernel", 0)),)
        case MultiHeadAttention():
            return (_features(arrays, ("in_proj_weight", 1), ("params/qkv/kernel", 0)),)
        case EncoderDecoder():
            name = "encoder.layers.0.linear1.weight", 1
            ours = "params/encoder/block_0/mlp/up/kernel", 0
            return (_features(arrays, name, ours),) * 2
        case Transformer():
            name, ours = ("layers.0.linear1.weight", 1), ("params/block_0/mlp/up/kernel", 0)
            return (_features(arrays, name, ours),) * (2 if model.cross_attention else 1)
    if hasattr(model, "vocab_size"):
        return (tokens,)
    shape = image_shape or _image_shape(model, arrays)
    return (jax.ShapeDtypeStruct((1, *shape), jnp.float32),)


def _features(arrays: Mapping[str, np.ndarray], *names: tuple[str, int]) -> jax.ShapeDtypeStruct:
    """One position, of the length of that axis of the first of these arrays that there is."""
    width = next((arrays[name].shape[axis] for name, axis in names if name in arrays), 1)
    return jax.ShapeDtypeStruct((1, 1, width), jnp.float32)


def _image_shape(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> tuple[int, int, int]:
    """What the published model takes: of a ViT by the positions in the file."""
    size = 224
    match model:
        case CifarResNet() | WideResNet():
            size = 32
        case InceptionV3():
            size = 299
        case ViT():
            # Theirs have an axis of length 1 before.
            found = [x for name, x in arrays.items() if "pos" in name and x.ndim in (2, 3)]
            lengths = [x.shape[-2] for x in found]
            if lengths:
                size = model.patch_size * math.isqrt(lengths[0])
    return size, size, 3
