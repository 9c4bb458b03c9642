"""Weights read and written back, and what is said where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

from research import sequence, vision
from research.errors import UserError
from research.nn.attention import MultiHeadAttention
from research.nn.encoder_decoder import EncoderDecoder
from research.nn.recurrent import Recurrent
from research.nn.transformer import Transformer
from research.weights import convert, load, save
from research.weights.files import read_arrays, write_arrays
from research.weights.inputs import model_inputs
from research.weights.naming import NAMINGS

pytestmark = pytest.mark.usefixtures("quickly_traced")

BERT = sequence.BERT(
    vocab_size=5, block_size=3, num_layers=2, num_heads=2, embed_dim=6, mlp_dim=8, pooler=True
)
GPT = sequence.GPT(vocab_size=5, block_size=3, num_layers=2, num_heads=2, embed_dim=6)
LLAMA = sequence.Llama(
    vocab_size=5, block_size=3, num_layers=2, num_heads=4, embed_dim=8, mlp_dim=6
)
T5 = sequence.T5(
    vocab_size=5,
    num_layers=2,
    num_decoder_layers=1,
    num_heads=2,
    head_dim=3,
    embed_dim=8,
    mlp_dim=6,
)

MODELS = {
    "AlexNet": vision.AlexNet(num_classes=3),
    "BERT": BERT,
    "BERT classifier": BERT.clone(masked_head=False, num_classes=3),
    "BERT of tokens": sequence.BERTTokenClassifier(BERT, num_classes=3),
    "CifarResNet": vision.CifarResNet(depth=20),
    "CifarResNet B": vision.CifarResNet(depth=20, shortcut="B"),
    "ConvNeXt": vision.ConvNeXt(num_classes=3),
    "DenseNet": vision.DenseNet(num_classes=3),
    "EfficientNet": vision.EfficientNet(num_classes=3),
    "EncoderDecoder": EncoderDecoder(num_heads=2, mlp_dim=8, num_encoder_layers=1),
    "GPT": GPT,
    "GPT untied": GPT.clone(tie_embeddings=False),
    "GoogLeNet": vision.GoogLeNet(num_classes=3, auxiliary=True),
    "InceptionV3": vision.InceptionV3(num_classes=3, auxiliary=True),
    "LeNet": vision.LeNet(),
    "Llama": LLAMA,
    "Llama grouped": LLAMA.clone(num_kv_heads=2),
    "Mixer": vision.Mixer(num_classes=3, variant="small"),
    "MobileNetV1": vision.MobileNetV1(num_classes=3),
    "MobileNetV2": vision.MobileNetV2(num_classes=3),
    "MobileNetV3": vision.MobileNetV3(num_classes=3),
    "MobileNetV3 small": vision.MobileNetV3(num_classes=3, size="small"),
    "MultiHeadAttention": MultiHeadAttention(num_heads=2),
    "Recurrent": Recurrent(4, num_layers=2, bidirectional=True),
    "ResNet": vision.ResNet(num_classes=3, depth=18),
    "T5": T5,
    "T5 1.1": T5.clone(gated=True, tie_embeddings=False),
    "Transformer": Transformer(num_layers=2, num_heads=2, mlp_dim=8),
    "Transformer decoder": Transformer(
        num_layers=1, num_heads=2, mlp_dim=8, cross_attention=True, final_norm=False
    ),
    "EfficientNet of our own": vision.EfficientNet(
        num_classes=3, width_factor=0.5, stages=((1, 3, 1, 16, 1), (6, 3, 2, 24, 2))
    ),
    "ConvNeXt of our own": vision.ConvNeXt(num_classes=3, stage_sizes=(1, 2), channels=(4, 6)),
    "MobileNetV2 of our own": vision.MobileNetV2(
        num_classes=3, stages=((1, 8, 1, 1), (6, 8, 2, 2))
    ),
    "ResNet of our own": vision.ResNet(
        num_classes=3, depth=50, stage_sizes=(1, 2), channels=(4, 6)
    ),
    "VGG": vision.VGG(num_classes=3, depth=11, batch_norm=True, hidden=(8,), pooled_size=2),
    "ViT": vision.ViT(num_classes=3, variant="tiny"),
    "ViT of our own": vision.ViT(num_classes=3, embed_dim=8, num_layers=2, num_heads=4, mlp_dim=12),
    "ViT average": vision.ViT(
        num_classes=3, variant="tiny", pool="average", class_token=False, norm_after_pool=True
    ),
}
# Layers take their width from the file.
WIDTHS = {
    "EncoderDecoder": {"encoder.layers.0.linear1.weight": np.empty((0, 6))},
    "MultiHeadAttention": {"in_proj_weight": np.empty((0, 6))},
    "Recurrent": {"weight_ih_l0": np.empty((0, 6))},
    "Transformer": {"layers.0.linear1.weight": np.empty((0, 6))},
}
FITTING = [
    (name, naming)
    for name, model in MODELS.items()
    for naming in NAMINGS
    if NAMINGS[naming].entries(model, convert.Modules([])) is not None
    # Only timm has this form.
    and not (name == "ViT average" and naming in ("torchvision", "huggingface"))
]


def numbers(model, shape=(64, 64, 3)):
    """Variables of float32 in which no array has a number twice, and none begins as another."""
    flat = {}
    inputs = model_inputs(model, WIDTHS.get(type(model).__name__, {}), shape)
    for i, (path, leaf) in enumerate(convert._like(model, inputs).items()):
        start = 0x3F800000 + 1000 * i
        bits = np.arange(start, start + leaf.size, dtype=np.uint32)
        flat[path] = bits.view(np.float32).reshape(leaf.shape)
    return traverse_util.unflatten_dict(flat)


def assert_same(one, other):
    one, other = traverse_util.flatten_dict(one), traverse_util.flatten_dict(other)
    assert one.keys() == other.keys()
    for path in one:
        assert one[path].dtype == other[path].dtype, path
        np.testing.assert_array_equal(one[path], other[path], err_msg="/".join(path))


@pytest.mark.parametrize(("name", "naming"), FITTING)
def test_what_is_written_is_read_back_bit_for_bit(name, naming, monkeypatch):
    """Without the file between, which other tests have: it takes longer than all else."""
    files = {}
    monkeypatch.setattr(convert, "write_arrays", files.__setitem__)
    monkeypatch.setattr(convert, "read_arrays", files.__getitem__)
    model = MODELS[name]
    shape = {"LeNet": (28, 28, 1), "InceptionV3": (299, 299, 3)}.get(name, (64, 64, 3))
    variables = numbers(model, shape)
    path = Path("weights.safetensors")
    save(path, model, variables, naming=naming)
    assert_same(load(path, model, image_shape=shape), variables)


@pytest.mark.parametrize(
    ("model", "naming"),
    [
        (vision.ViT(num_classes=3, variant="tiny"), "timm"),
        (vision.ConvNeXt(num_classes=3), "timm"),
        (GPT, "huggingface"),
        (T5, "huggingface"),
    ],
)
def test_scanned_layers_are_those_side_by_side(model, naming, tmp_path):
    variables = numbers(model)
    path = tmp_path / "weights.npz"
    save(path, model, variables, naming=naming)
    scanned = model.clone(scan_layers=True)
    stacked = load(path, scanned, image_shape=(64, 64, 3))
    again = tmp_path / "again.npz"
    save(again, scanned, stacked, naming=naming)
    first, second = read_arrays(path), read_arrays(again)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_everything_that_does_not_fit_is_told_at_once_and_nothing_is_read(tmp_path):
    model = vision.ResNet(num_classes=3, depth=18)
    path = tmp_path / "weights.safetensors"
    save(path, model, numbers(model))
    arrays = read_arrays(path)
    del arrays["layer1.0.bn1.running_mean"]
    arrays["layer1.0.bn1.running_average"] = np.zeros(64)
    arrays["conv1.weight"] = arrays["conv1.weight"][:, :1]
    arrays["layer4.1.bn2.num_batches_tracked"] = np.zeros((), np.int64)
    write_arrays(path, arrays)
    with pytest.raises(UserError) as caught:
        load(path, model)
    lines = str(caught.value).splitlines()
    assert all(word in lines[0] for word in ("1 missing", "1 shape", "1 unexpected"))
    told = {line.split()[0]: line for line in lines[2:5]}
    assert "layer1.0.bn1.running_mean" in told["missing"]
    assert "batch_stats/stage_0_block_0/conv_0/norm/mean 64" in told["missing"]
    assert "conv1.weight 64×1×7×7" in told["shape"]
    assert "params/stem/conv/kernel 7×7×3×64" in told["shape"]
    assert "layer1.0.bn1.running_average 64" in told["unexpected"]


def test_a_bias_that_the_model_does_not_have_is_not_passed_over(tmp_path):
    model = vision.ResNet(num_classes=3, depth=18)
    path = tmp_path / "weights.safetensors"
    save(path, model, numbers(model))
    write_arrays(path, {**read_arrays(path), "conv1.bias": np.zeros(64)})
    with pytest.raises(UserError, match=r"unexpected +conv1.bias 64"):
        load(path, model)


def test_names_of_older_files_and_arrays_that_are_there_twice(tmp_path):
    variables, path = numbers(GPT), tmp_path / "weights.npz"
    save(path, GPT, variables, naming="huggingface")
    arrays = read_arrays(path)
    older = {name.removeprefix("transformer."): x for name, x in arrays.items()}
    older["h.0.attn.bias"] = np.ones((1, 1, 3, 3))  # the causal mask
    older["lm_head.weight"] = older["wte.weight"]
    write_arrays(path, older)
    assert_same(load(path, GPT), variables)
    write_arrays(path, older | {"lm_head.weight": older["wte.weight"] + 1})
    with pytest.raises(UserError, match=r"unexpected +lm_head.weight 5×6"):
        load(path, GPT)

    variables, path = numbers(BERT), tmp_path / "bert.npz"
    save(path, BERT, variables, naming="huggingface")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): x
        for name, x in read_arrays(path).items()
    }
    assert any(name.endswith("gamma") for name in renamed)
    write_arrays(path, renamed)
    assert_same(load(path, BERT), variables)


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        (BERT.clone(masked_head=False), "bert."),
        (BERT.clone(masked_head=False, pooler=False), "bert."),
        (LLAMA.clone(tie_embeddings=True), "model."),
        (vision.ViT(num_classes=None, variant="tiny"), "vit."),
    ],
)
def test_files_of_models_without_heads_have_no_prefix(model, prefix, tmp_path):
    variables, path = numbers(model), tmp_path / "weights.npz"
    save(path, model, variables, naming="huggingface")
    arrays = read_arrays(path)
    assert all(name.startswith(prefix) for name in arrays)
    headless = {name.removeprefix(prefix): x for name, x in arrays.items()}
    headless.setdefault("pooler.dense.bias", np.zeros(6))
    write_arrays(path, headless)
    assert_same(load(path, model, image_shape=(64, 64, 3)), variables)


@pytest.mark.parametrize(
    ("name", "newer", "older"),
    [
        (
            "DenseNet",
            ("norm1.", "norm2.", "conv1.", "conv2."),
            ("norm.1.", "norm.2.", "conv.1.", "conv.2."),
        ),
        ("ViT", (".mlp.0.", ".mlp.3."), (".mlp.linear_1.", ".mlp.linear_2.")),
    ],
)
def test_names_of_older_files_of_torchvision(name, newer, older, tmp_path):
    model, path = MODELS[name], tmp_path / "weights.npz"
    variables = numbers(model)
    save(path, model, variables, naming="torchvision")
    arrays = read_arrays(path)
    renamed = dict(arrays)
    for new, old in zip(newer, older, strict=True):
        renamed = {key.replace(new, old): x for key, x in renamed.items()}
        assert any(old in key for key in renamed)
    write_arrays(path, renamed)
    assert_same(load(path, model, image_shape=(64, 64, 3)), variables)


def test_the_dense_layers_of_timms_vgg_are_convolutions(tmp_path):
    model = vision.VGG(num_classes=3, depth=11, hidden=(8, 5), pooled_size=2)
    variables, torchvision, timm = numbers(model), tmp_path / "a.npz", tmp_path / "b.npz"
    save(torchvision, model, variables, naming="torchvision")
    save(timm, model, variables, naming="timm")
    theirs, arrays = read_arrays(torchvision), read_arrays(timm)
    layers = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2"}
    layers["classifier.6"] = "head.fc"
    shapes = {"classifier.0.weight": (8, 512, 2, 2), "classifier.3.weight": (5, 8, 1, 1)}
    for name, array in theirs.items():
        layer, _, kind = name.rpartition(".")
        same = arrays.pop(f"{layers.get(layer, layer)}.{kind}")
        np.testing.assert_array_equal(same, array.reshape(shapes.get(name, array.shape)))
    assert not arrays


def test_old_files_of_t5_hold_a_bias_that_nothing_reads(tmp_path):
    variables, path = numbers(T5), tmp_path / "t5.npz"
    save(path, T5, variables, naming="huggingface")
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    write_arrays(path, {**read_arrays(path), unread: np.zeros((32, 2))})
    assert_same(load(path, T5), variables)


def test_a_classifier_of_another_size_is_dropped_on_request(tmp_path):
    theirs = vision.ResNet(num_classes=10, depth=18)
    ours = vision.ResNet(num_classes=3, depth=18)
    path = tmp_path / "weights.safetensors"
    written = numbers(theirs)
    save(path, theirs, written)
    with pytest.raises(UserError, match=r"fc.weight 10×512"):
        load(path, ours)
    variables = load(path, ours, drop_head=True)
    assert variables["params"]["head"]["kernel"].shape == (512, 3)
    assert np.std(variables["params"]["head"]["kernel"]) > 0, "initialised, not left at 0"
    np.testing.assert_array_equal(
        variables["params"]["stem"]["conv"]["kernel"], written["params"]["stem"]["conv"]["kernel"]
    )


@pytest.mark.parametrize(
    "model",
    [
        vision.ViT(num_classes=3, variant="tiny"),
        vision.MobileNetV3(num_classes=3, size="small"),
        vision.MobileNetV1(num_classes=3),
    ],
)
def test_a_model_without_classifier_leaves_that_of_the_file_aside(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save(path, model, numbers(model), naming="timm")
    variables = load(path, model.clone(num_classes=None))
    assert "head" not in variables["params"]


def test_positions_are_resized_on_request(tmp_path):
    model = vision.ViT(num_classes=3, variant="tiny")
    path = tmp_path / "weights.safetensors"
    written = numbers(model, (128, 128, 3))
    # Inside, where the border does not count, a plane stays a plane.
    grid = np.add.outer(np.arange(8.0), 2 * np.arange(8.0)).reshape(64, 1)
    written["params"]["positions"][1:] = grid
    save(path, model, written, naming="timm")
    with pytest.raises(UserError, match="positions"):
        load(path, model, image_shape=(256, 256, 3))
    larger = load(path, model, image_shape=(256, 256, 3), resize_positions=True)
    positions = larger["params"]["positions"]
    np.testing.assert_array_equal(positions[0], written["params"]["positions"][0])
    inner = positions[1:, 0].reshape(16, 16)[4:-4, 4:-4]
    expected = np.add.outer(np.arange(16) / 2 - 0.25, np.arange(16) - 0.5)[4:-4, 4:-4]
    np.testing.assert_allclose(inner, expected, rtol=1e-5)


def test_the_size_of_the_images_of_a_vit_is_found_in_our_own_names(tmp_path):
    model = vision.ViT(num_classes=3, variant="tiny")
    path, written = tmp_path / "weights.npz", numbers(model, (96, 96, 3))
    save(path, model, written, naming="research")
    assert_same(load(path, model), written)


def test_images_of_other_channels_than_those_of_the_file(tmp_path):
    model = vision.CifarResNet(depth=8, channels=4)
    path, written = tmp_path / "weights.npz", numbers(model, (32, 32, 1))
    save(path, model, written)
    with pytest.raises(UserError) as caught:
        load(path, model)
    hint = str(caught.value).splitlines()[-1]
    assert hint == (
        "Its first convolution is for images of 1 channel(s), the images here have 3: give an "
        "image_shape of 1 channel(s)."
    )
    assert_same(load(path, model, image_shape=(32, 32, 1)), written)


def test_names_that_there_are_not(tmp_path):
    model = vision.LeNet()
    with pytest.raises(UserError, match=r"'torchvison'.*torchvision"):
        save(tmp_path / "x.npz", model, numbers(model, (28, 28, 1)), naming="torchvison")
    with pytest.raises(UserError, match=r"LeNet: has no names in timm"):
        save(tmp_path / "x.npz", model, numbers(model, (28, 28, 1)), naming="timm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "model",
    [
        BERT.clone(pooler=False),
        BERT.clone(pooler=False, masked_head=False),
        BERT.clone(masked_head=False),
        sequence.BERTTokenClassifier(BERT, num_classes=3),
        *(
            sequence.BERTClassifier(BERT, num_classes=3, pooling=pooling)
            for pooling in ("pooler", "first", "mean")
        ),
    ],
)
def test_bert_as_published_fits_models_with_other_heads(model, tmp_path):
    path = tmp_path / "bert.npz"
    published = BERT.clone(num_classes=2)
    written = numbers(published)
    save(path, published, written, naming="huggingface")
    found = load(path, model, drop_head=True)["params"]
    assert found.keys() == numbers(model)["params"].keys()
    taken = found.keys() - {"head"}
    assert_same({k: found[k] for k in taken}, {k: written["params"][k] for k in taken})


def test_a_pooler_that_the_model_has_is_missed(tmp_path):
    path = tmp_path / "bert.npz"
    without = BERT.clone(pooler=False)
    save(path, without, numbers(without), naming="huggingface")
    with pytest.raises(UserError, match=r"missing +bert.pooler.dense.bias "):
        load(path, BERT)
