"""The names of Hugging Face's transformers for models of text."""

from research.sequence.bert import BERT
from research.sequence.gpt import GPT
from research.sequence.llama import Llama
from research.sequence.t5 import T5
from research.weights import layout
from research.weights.entries import (
    Entries,
    Modules,
    array,
    embedding,
    grouped_attention,
    layer_norm,
    linear,
    separate_attention,
)


def gpt(model: GPT, modules: Modules) -> Entries:
    """GPT-2's; its dense layers lie there as here."""
    yield from embedding("transformer.wte", "token_embedding")
    yield from embedding("transformer.wpe", "position_embedding")
    heads = model.num_heads
    for (i,) in modules.found(r"transformer/block_(\d+)"):
        ours, theirs = ("transformer", f"block_{i}"), f"transformer.h.{i}"
        attention = (*ours, "attention")
        yield from layer_norm(f"{theirs}.ln_1", *ours, "attention_norm")
        qkv = layout.transposed_qkv_kernel(heads)
        yield from array(f"{theirs}.attn.c_attn.weight", *attention, "qkv", "kernel", how=qkv)
        qkv = layout.qkv_bias(heads)
        yield from array(f"{theirs}.attn.c_attn.bias", *attention, "qkv", "bias", how=qkv)
        out = layout.transposed_attention_out(heads)
        yield from array(f"{theirs}.attn.c_proj.weight", *attention, "out", "kernel", how=out)
        yield from array(f"{theirs}.attn.c_proj.bias", *attention, "out", "bias")
        yield from layer_norm(f"{theirs}.ln_2", *ours, "mlp_norm")
        for name, layer in (("c_fc", "up"), ("c_proj", "down")):
            yield from array(f"{theirs}.mlp.{name}.weight", *ours, "mlp", layer, "kernel")
            yield from array(f"{theirs}.mlp.{name}.bias", *ours, "mlp", layer, "bias")
    yield from layer_norm("transformer.ln_f", "transformer", "norm")
    yield from linear("lm_head", "head")


def llama(model: Llama, modules: Modules) -> Entries:
    """Llama's."""
    yield from embedding("model.embed_tokens", "token_embedding")
    for (i,) in modules.found(r"transformer/block_(\d+)"):
        ours, theirs = ("transformer", f"block_{i}"), f"model.layers.{i}"
        names = [f"{theirs}.self_attn.{part}_proj" for part in "qkv"]
        out, path = f"{theirs}.self_attn.o_proj", (*ours, "attention")
        if model.num_kv_heads is None:
            yield from separate_attention(names, out, model.num_heads, *path)
        else:
            yield from grouped_attention(names, out, model.num_heads, model.num_kv_heads, *path)
        yield from layer_norm(f"{theirs}.input_layernorm", *ours, "attention_norm")
        yield from layer_norm(f"{theirs}.post_attention_layernorm", *ours, "mlp_norm")
        for layer in ("gate", "up", "down"):
            yield from linear(f"{theirs}.mlp.{layer}_proj", *ours, "mlp", layer)
    yield from layer_norm("model.norm", "transformer", "norm")
    yield from linear("lm_head", "head")


def bert(model: BERT, modules: Modules) -> Entries:
    """BERT's, with the heads of pre-training; a classifier of its own is `classifier` there."""
    for kind in ("token", "position", "type"):
        name = {"token": "word", "type": "token_type"}.get(kind, kind)
        yield from embedding(f"bert.embeddings.{name}_embeddings", f"{kind}_embedding")
    yield from layer_norm("bert.embeddings.LayerNorm", "embedding_norm")
    for (i,) in modules.found(r"transformer/block_(\d+)"):
        ours, theirs = ("transformer", f"block_{i}"), f"bert.encoder.layer.{i}"
        yield from separate_attention(
            [f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")],
            f"{theirs}.attention.output.dense",
            model.num_heads,
            *ours,
            "attention",
        )
        yield from layer_norm(f"{theirs}.attention.output.LayerNorm", *ours, "attention_norm")
        yield from linear(f"{theirs}.intermediate.dense", *ours, "mlp", "up")
        yield from linear(f"{theirs}.output.dense", *ours, "mlp", "down")
        yield from layer_norm(f"{theirs}.output.LayerNorm", *ours, "mlp_norm")
    yield from linear("bert.pooler.dense", "pooler")
    yield from linear("cls.predictions.transform.dense", "masked_dense")
    yield from layer_norm("cls.predictions.transform.LayerNorm", "masked_norm")
    yield from array("cls.predictions.bias", "masked_bias")
    yield from linear("cls.seq_relationship" if model.masked_head else "classifier", "head")


def t5(model: T5, modules: Modules) -> Entries:
    """T5's, of both versions."""
    yield from embedding("shared", "token_embedding")
    for stack in ("encoder", "decoder"):
        relative = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        yield from embedding(relative, f"{stack}_bias")
        kinds = [("SelfAttention", "attention"), ("EncDecAttention", "cross_attention")]
        for (i,) in modules.found(rf"{stack}/block_(\d+)"):
            ours = (stack, f"block_{i}")
            for place, (kind, name) in enumerate(kinds[: 1 if stack == "encoder" else 2]):
                theirs = f"{stack}.block.{i}.layer.{place}"
                names = [f"{theirs}.{kind}.{part}" for part in "qkv"]
                out = f"{theirs}.{kind}.o"
                yield from separate_attention(names, out, model.num_heads, *ours, name)
                yield from layer_norm(f"{theirs}.layer_norm", *ours, f"{name}_norm")
            theirs = f"{stack}.block.{i}.layer.{1 if stack == 'encoder' else 2}"
            dense = f"{theirs}.DenseReluDense"
            up = [("wi_0", "gate"), ("wi_1", "up")] if model.gated else [("wi", "up")]
            for name, layer in (*up, ("wo", "down")):
                yield from linear(f"{dense}.{name}", *ours, "mlp", layer)
            yield from layer_norm(f"{theirs}.layer_norm", *ours, "mlp_norm")
        yield from layer_norm(f"{stack}.final_layer_norm", stack, "norm")
    yield from linear("lm_head", "head")
