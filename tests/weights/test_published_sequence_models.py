"""Published sequence models, read by our importer, answer what they answer in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import sequence
from research.nn.attention import MultiHeadAttention
from research.nn.encoder_decoder import EncoderDecoder
from research.nn.recurrent import Recurrent
from research.nn.transformer import Transformer
from research.weights import convert, load
from tests.parity import Fixture


def gpt2(fixture, dtype):
    config = fixture.meta["config"]
    model = sequence.GPT(
        vocab_size=config["vocab_size"],
        block_size=config["n_positions"],
        num_layers=config["n_layer"],
        num_heads=config["n_head"],
        embed_dim=config["n_embd"],
        dtype=dtype,
        param_dtype=dtype,
    )
    return model, lambda v: {"logits": model.apply(v, fixture.input("input_ids"))}


def llama(fixture, dtype):
    config = fixture.meta["config"]
    model = sequence.Llama(
        vocab_size=config["vocab_size"],
        block_size=config["max_position_embeddings"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        embed_dim=config["hidden_size"],
        mlp_dim=config["intermediate_size"],
        rotary_base=config["rope_parameters"]["rope_theta"],
        epsilon=config["rms_norm_eps"],
        dtype=dtype,
        param_dtype=dtype,
    )
    key_mask = fixture.input("attention_mask") == 1
    return model, lambda v: {
        "logits": model.apply(v, fixture.input("input_ids"), key_mask=key_mask)
    }


def bert(fixture, dtype):
    config = fixture.meta["config"]
    model = sequence.BERT(
        vocab_size=config["vocab_size"],
        block_size=config["max_position_embeddings"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        embed_dim=config["hidden_size"],
        mlp_dim=config["intermediate_size"],
        epsilon=config["layer_norm_eps"],
        dtype=dtype,
        param_dtype=dtype,
    )

    def outputs(variables):
        logits = model.apply(
            variables,
            fixture.input("input_ids"),
            key_mask=fixture.input("attention_mask") == 1,
            token_types=fixture.input("token_type_ids"),
        )
        return {"logits": logits}

    return model, outputs


def t5(fixture, dtype):
    config = fixture.meta["config"]
    model = sequence.T5(
        vocab_size=config["vocab_size"],
        num_layers=config["num_layers"],
        num_decoder_layers=config["num_decoder_layers"],
        num_heads=config["num_heads"],
        head_dim=config["d_kv"],
        embed_dim=config["d_model"],
        mlp_dim=config["d_ff"],
        num_buckets=config["relative_attention_num_buckets"],
        max_distance=config["relative_attention_max_distance"],
        epsilon=config["layer_norm_epsilon"],
        dtype=dtype,
        param_dtype=dtype,
    )

    def outputs(variables):
        mask = fixture.input("attention_mask") == 1
        source = fixture.input("input_ids")
        memory = model.apply(variables, source, source_mask=mask, method="encode")
        logits = model.apply(
            variables,
            fixture.input("decoder_input_ids"),
            memory,
            source_mask=mask,
            method="decode",
        )
        return {"logits": logits, "encoder_last_hidden_state": memory}

    return model, outputs


def recurrent(fixture, dtype):
    config = fixture.meta["config"]
    cell = config["model"].removeprefix("torch.nn.").lower()
    model = Recurrent(
        config["hidden_size"],
        cell,
        config["num_layers"],
        config["bidirectional"],
        dtype=dtype,
        param_dtype=dtype,
    )
    names = ("h0", "c0") if cell == "lstm" else ("h0",)

    def outputs(variables):
        state = tuple(fixture.input(name) for name in names)
        output, state = model.apply(variables, fixture.input("input").astype(dtype), state=state)
        return {"output": output} | dict(zip(("h_n", "c_n"), state, strict=False))

    return model, outputs


def multihead_attention(fixture, dtype):
    model = MultiHeadAttention(fixture.meta["config"]["num_heads"], dtype=dtype, param_dtype=dtype)

    def outputs(variables):
        inputs = (fixture.input(name).astype(dtype) for name in ("query", "key", "value"))
        output, kept = model.apply(
            variables,
            *inputs,
            key_mask=~fixture.input("key_padding_mask"),
            mutable=["intermediates"],
        )
        return {"output": output, "weights": kept["intermediates"]["weights"][0]}

    return model, outputs


def transformer(fixture, dtype):
    config = fixture.meta["config"]
    model = EncoderDecoder(
        num_encoder_layers=config["num_encoder_layers"],
        num_decoder_layers=config["num_decoder_layers"],
        num_heads=config["nhead"],
        mlp_dim=config["dim_feedforward"],
        activation=config["activation"],
        norm_first=config["norm_first"],
        dtype=dtype,
        param_dtype=dtype,
    )

    def outputs(variables):
        source_mask = ~fixture.input("src_key_padding_mask")
        memory = model.apply(
            variables, fixture.input("src").astype(dtype), source_mask=source_mask, method="encode"
        )
        output = model.apply(
            variables,
            fixture.input("tgt").astype(dtype),
            memory,
            source_mask=source_mask,
            target_mask=~fixture.input("tgt_key_padding_mask"),
            method="decode",
        )
        return {"memory": memory, "output": output}

    return model, outputs


MODELS = {
    "gpt2": gpt2,
    "llama": llama,
    "bert_base": bert,
    "t5_small": t5,
    "lstm": recurrent,
    "gru": recurrent,
    "rnn_tanh": recurrent,
    "multihead_attention": multihead_attention,
    "transformer": transformer,
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_the_published_ones(name, monkeypatch):
    fixture = Fixture(f"fixtures/{name}")
    arrays = {given: fixture.param(given) for given in fixture.meta["params"]}
    arrays |= {alias: arrays[drawn] for alias, drawn in fixture.meta["tied"].items()}
    monkeypatch.setattr(convert, "read_arrays", lambda path: arrays)
    fixture.meta["inputs"].pop("tgt_mask", None)  # what a decoder is by itself

    def outputs(dtype):
        model, compute = MODELS[name](fixture, dtype)
        variables = load("weights.safetensors", model)
        with jax.default_matmul_precision("highest"):
            found = jax.jit(compute)(variables)
        assert sum(x.size for x in jax.tree.leaves(variables)) == fixture.meta["param_count"]
        return found

    single = outputs("float32")
    with jax.enable_x64(True):
        double = outputs("float64")
    assert double.keys() == fixture.outputs.keys()
    for key in double:
        assert double[key].dtype == jnp.float64
        kept = part(fixture, key)
        fixture.assert_equal(double[key][kept], key)
        error = np.linalg.norm(np.asarray(single[key])[kept] - fixture.outputs[key])
        assert error / np.linalg.norm(fixture.outputs[key]) < 1e-5, key


def test_an_encoder_and_a_decoder_by_themselves(monkeypatch):
    """PyTorch's TransformerEncoder and TransformerDecoder."""
    fixture = Fixture("fixtures/transformer")
    config = fixture.meta["config"]

    def loaded(stack, **settings):
        arrays = {
            name.removeprefix(f"{stack}."): fixture.param(name)
            for name in fixture.meta["params"]
            if name.startswith(f"{stack}.")
        }
        monkeypatch.setattr(convert, "read_arrays", lambda path: arrays)
        model = Transformer(
            num_layers=config[f"num_{stack}_layers"],
            num_heads=config["nhead"],
            mlp_dim=config["dim_feedforward"],
            activation=config["activation"],
            norm_first=config["norm_first"],
            dtype="float64",
            param_dtype="float64",
            **settings,
        )
        variables = load("weights.safetensors", model)
        return jax.jit(lambda x, **arguments: model.apply(variables, x, **arguments))

    with jax.enable_x64(True):
        encoder, decoder = loaded("encoder"), loaded("decoder", causal=True, cross_attention=True)
        source_mask = ~fixture.input("src_key_padding_mask")
        memory = encoder(fixture.input("src"), key_mask=source_mask)
        output = decoder(
            fixture.input("tgt"),
            memory=memory,
            memory_mask=source_mask,
            key_mask=~fixture.input("tgt_key_padding_mask"),
        )
    for key, found in (("memory", memory), ("output", output)):
        fixture.assert_equal(found[part(fixture, key)], key)


def part(fixture, key):
    """The part of an output that the fixture keeps, such as "[..., ::13]"."""
    spec = fixture.meta["outputs"][key]["slice"]
    if spec == "[...]":
        return ...
    return ..., slice(None, None, int(spec.removeprefix("[..., ::").removesuffix("]")))
