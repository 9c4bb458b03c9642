"""Every published sequence model has exactly as many parameters as published."""

import math

import jax
import jax.numpy as jnp
import pytest

from research.nn.encoder_decoder import EncoderDecoder
from research.sequence import (
    BERT,
    GPT,
    T5,
    TCN,
    Llama,
    PatchTST,
    RecurrentLanguageModel,
    RecurrentTranslator,
    TranslationTransformer,
)
from research.sequence.translator import Translator
from tests.parity import load_counts

pytestmark = pytest.mark.usefixtures("quickly_traced")

GPT2 = GPT(50_257, 1024, num_layers=12, num_heads=12, embed_dim=768, scan_layers=True)
BASE = BERT(pooler=True, masked_head=False, scan_layers=True)
# Its 512 positions begin at 2.
ROBERTA = BASE.clone(vocab_size=50_265, block_size=514, num_token_types=1)
LARGE = {"num_layers": 24, "num_heads": 16, "embed_dim": 1024, "mlp_dim": 4096}
LLAMA_7B = Llama(
    32_000, 4096, num_layers=32, num_heads=32, embed_dim=4096, mlp_dim=11_008, scan_layers=True
)
# French words to English ones in PyTorch's tutorial.
TRANSLATOR = RecurrentTranslator(4601, 128, target_vocab_size=2991)
VARIANTS = {
    "PTB LSTM small (torch, 2 biases)": RecurrentLanguageModel(10_000, 200),
    "PTB LSTM medium (torch, 2 biases)": RecurrentLanguageModel(10_000, 650),
    "PTB LSTM large (torch, 2 biases)": RecurrentLanguageModel(10_000, 1500),
    "Bahdanau GRU h128 (torch tutorial fra-eng)": TRANSLATOR,
    "Transformer-base paper (37k shared, no final LN)": TranslationTransformer(
        37_000, scan_layers=True
    ),
    "BertModel base": BASE,
    "BertForMaskedLM base": BASE.clone(pooler=False, masked_head=True),
    "BertForPreTraining base": BASE.clone(masked_head=True, num_classes=2),
    "BertModel large": BASE.clone(**LARGE),
    "RobertaModel base": ROBERTA,
    "RobertaForMaskedLM base": ROBERTA.clone(pooler=False, masked_head=True),
    "GPT-2 124M": GPT2,
    "GPT-2 medium": GPT2.clone(num_layers=24, num_heads=16, embed_dim=1024),
    "GPT-2 large": GPT2.clone(num_layers=36, num_heads=20, embed_dim=1280),
    "GPT-2 xl": GPT2.clone(num_layers=48, num_heads=25, embed_dim=1600),
    "nanoGPT 124M (vocab 50304,bias F)": GPT2.clone(vocab_size=50_304, use_bias=False),
    "nanoGPT shakespeare_char GPU": GPT2.clone(
        vocab_size=65, block_size=256, num_layers=6, num_heads=6, embed_dim=384, use_bias=False
    ),
    "nanoGPT shakespeare_char CPU": GPT2.clone(
        vocab_size=65, block_size=64, num_layers=4, num_heads=4, embed_dim=128, use_bias=False
    ),
    "Llama-2-7B": LLAMA_7B,
    "TinyLlama-1.1B": LLAMA_7B.clone(
        num_layers=22, num_kv_heads=4, embed_dim=2048, mlp_dim=5632, block_size=2048
    ),
    "llama-tiny stories15M": LLAMA_7B.clone(
        num_layers=6, num_heads=6, embed_dim=288, mlp_dim=768, tie_embeddings=True
    ),
    "T5-small": T5(scan_layers=True),
    "T5-base": T5(num_layers=12, num_heads=12, embed_dim=768, mlp_dim=3072, scan_layers=True),
    "T5-v1.1-small UNTIED (computed = tied count + 32128*512)": T5(
        num_layers=8,
        num_heads=6,
        mlp_dim=1024,
        activation="gelu_tanh",
        gated=True,
        tie_embeddings=False,
        scan_layers=True,
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_as_many_as_published(name):
    model, tokens = VARIANTS[name], jnp.zeros((1, 2), jnp.int32)
    inputs = (tokens, tokens) if isinstance(model, Translator) else (tokens,)
    assert count(model, *inputs) == load_counts()[name]


def test_the_transformer_without_embeddings():
    model = EncoderDecoder(num_heads=8, mlp_dim=2048, scan_layers=True)
    features = jnp.zeros((1, 2, 512))
    published = load_counts()["nn.Transformer base 6+6 512/2048 (no emb)"]
    assert count(model, features, features) == published


def test_patches_without_the_head():
    """What is counted forecasts from the mean of 41 patches; the paper's model from all of 42."""
    model = PatchTST(96, pad_end=False, num_heads=4, embed_dim=16, mlp_dim=128)
    published = load_counts()["PatchTST/42 ETTh1 336->96"]
    head, own_head = (16 + 1) * 96, (41 * 16 + 1) * 96
    assert count(model, jnp.zeros((1, 336, 7))) - own_head == published - head


@pytest.mark.parametrize(
    ("name", "features", "model"),
    [
        ("TCN JSB (88->4x220 k5)", 88, TCN((220,) * 4, 5, out_features=88)),
        ("TCN pMNIST (8x25 k7)", 1, TCN((25,) * 8, 7, out_features=10)),
    ],
)
def test_temporal_convolutional_networks(name, features, model):
    assert count(model, jnp.zeros((1, 2, features))) == load_counts()[name]


def count(model, *inputs):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
