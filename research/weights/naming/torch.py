"""The names of PyTorch's own layers, `torch.nn`."""

from typing import Any

from research.nn.attention import MultiHeadAttention
from research.nn.encoder_decoder import EncoderDecoder
from research.nn.recurrent import Recurrent
from research.nn.transformer import Transformer, TransformerSettings
from research.weights import layout
from research.weights.entries import (
    Entries,
    Modules,
    Path,
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
        case Transformer():
            return _stack(model, modules, (), model.cross_attention)
    return None


def _recurrent(modules: Modules) -> Entries:
    for layer, reverse in modules.names(r"layer_(\d+)(_reverse)?"):
        ours, theirs = f"layer_{layer}{reverse or ''}", f"l{layer}{reverse or ''}"
        for kind, name in (("input", "ih"), ("hidden", "hh")):
            yield from array(f"weight_{name}_{theirs}", ours, f"{kind}_kernel", how=layout.LINEAR)
            yield from array(f"bias_{name}_{theirs}", ours, f"{kind}_bias")


def _encoder_decoder(model: EncoderDecoder, modules: Modules) -> Entries:
    yield from _stack(model, modules, ("encoder",), cross_attention=False)
    yield from _stack(model, modules, ("decoder",), cross_attention=True)


def _stack(
    model: TransformerSettings, modules: Modules, above: Path, cross_attention: bool
) -> Entries:
    """Of a `Transformer` below `above`, which is called the same there."""
    theirs_above = "".join(f"{name}." for name in above)
    for (i,) in modules.found("/".join((*above, r"block_(\d+)"))):
        ours, theirs = (*above, f"block_{i}"), f"{theirs_above}layers.{i}"
        kinds = [("self_attn", "attention")]
        if cross_attention:
            kinds.append(("multihead_attn", "cross_attention"))
        for place, (kind, name) in enumerate(kinds, start=1):
            attention, out = f"{theirs}.{kind}.in_proj_", f"{theirs}.{kind}.out_proj"
            yield from packed_attention(attention, out, model.num_heads, *ours, name)
            yield from layer_norm(f"{theirs}.norm{place}", *ours, f"{name}_norm")
        yield from linear(f"{theirs}.linear1", *ours, "mlp", "up")
        yield from linear(f"{theirs}.linear2", *ours, "mlp", "down")
        yield from layer_norm(f"{theirs}.norm{len(kinds) + 1}", *ours, "mlp_norm")
    yield from layer_norm(f"{theirs_above}norm", *above, "norm")
