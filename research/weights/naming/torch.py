"""The names of PyTorch's own layers, `torch.nn`."""

from typing import Any

from research.nn.attention import MultiHeadAttention
from research.nn.encoder_decoder import EncoderDecoder
from research.nn.recurrent import Recurrent
from research.weights import layout
from research.weights.entries import (
    Entries,
    Modules,
    array,
    layer_norm,
    linear,
    packed_attention,
)


def entries(model: Any, modules: Modules) -> Entries | None:
    """Our parameters by their names; None for a layer they lack."""
    match model:
        case Recurrent():
            return _recurrent(modules)
        case MultiHeadAttention():
            return packed_attention("in_proj_", "out_proj", model.num_heads)
        case EncoderDecoder():
            return _encoder_decoder(model, modules)
    return None


def _recurrent(modules: Modules) -> Entries:
    for layer, reverse in modules.names(r"layer_(\d+)(_reverse)?"):
        ours, theirs = f"layer_{layer}{reverse or ''}", f"l{layer}{reverse or ''}"
        for kind, name in (("input", "ih"), ("hidden", "hh")):
            yield from array(f"weight_{name}_{theirs}", ours, f"{kind}_kernel", how=layout.LINEAR)
            yield from array(f"bias_{name}_{theirs}", ours, f"{kind}_bias")


def _encoder_decoder(model: EncoderDecoder, modules: Modules) -> Entries:
    for stack in ("encoder", "decoder"):
        for (i,) in modules.found(rf"{stack}/block_(\d+)"):
            ours, theirs = (stack, f"block_{i}"), f"{stack}.layers.{i}"
            kinds = [("self_attn", "attention")]
            if stack == "decoder":
                kinds.append(("multihead_attn", "cross_attention"))
            for place, (kind, name) in enumerate(kinds, start=1):
                attention, out = f"{theirs}.{kind}.in_proj_", f"{theirs}.{kind}.out_proj"
                yield from packed_attention(attention, out, model.num_heads, *ours, name)
                yield from layer_norm(f"{theirs}.norm{place}", *ours, f"{name}_norm")
            yield from linear(f"{theirs}.linear1", *ours, "mlp", "up")
            yield from linear(f"{theirs}.linear2", *ours, "mlp", "down")
            yield from layer_norm(f"{theirs}.norm{len(kinds) + 1}", *ours, "mlp_norm")
        yield from layer_norm(f"{stack}.norm", stack, "norm")
