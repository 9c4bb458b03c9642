"""The rules for transformers on a mesh: the same numbers, and nothing large on every device."""

import json
import re
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
import sharded_transformers

from research import sequence, vision
from research.engine.rules import apply_rules, path_of
from research.nn.sharding import transformer_rules
from tests import processes

SPLIT_TWICE = (
    r".*(attention/(qkv|query|key_value|out)|mlp(_before|_after)?/(up|gate|down)|head)/kernel"
    r"|.*embedding"
)
TINY = {"num_layers": 1, "num_heads": 2, "embed_dim": 8, "mlp_dim": 8}
TOKENS, SERIES, IMAGES = np.zeros((2, 8), np.int32), np.zeros((2, 32, 4)), np.zeros((2, 8, 8, 3))
NO_TOKENS = {"embedding": False, "tied": False}
OTHERS: dict[str, tuple[nn.Module, tuple[np.ndarray, ...], dict[str, bool]]] = {
    "translation": (sequence.TranslationTransformer(16, **TINY), (TOKENS, TOKENS), {}),
    "translation between two vocabularies": (
        sequence.TranslationTransformer(16, target_vocab_size=18, **TINY, share_embeddings=False),
        (TOKENS, TOKENS),
        {"tied": False},
    ),
    "classifier of tokens": (
        sequence.TransformerClassifier(2, **TINY, vocab_size=16),
        (TOKENS,),
        {"tied": False},
    ),
    "classifier of vectors": (sequence.TransformerClassifier(2, **TINY), (SERIES,), NO_TOKENS),
    "BERT classifier": (
        sequence.BERTClassifier(sequence.BERT(16, 8, **TINY), 2),
        (TOKENS,),
        {"tied": False},
    ),
    "PatchTST": (sequence.PatchTST(4, **TINY), (SERIES,), NO_TOKENS),
    "Conformer": (
        sequence.Conformer(num_classes=4, **TINY, scan_layers=True),
        (SERIES,),
        {**NO_TOKENS, "scan_layers": True},
    ),
    "ViT": (vision.ViT(variant="tiny", patch_size=4), (IMAGES,), NO_TOKENS),
}
BY_DEFAULT = r".*(position|type)_embedding/.*"


@pytest.mark.timeout(900)  # seconds when the machine is busy
def test_transformers_on_eight_devices_are_as_on_one(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    started = processes.start(sharded_transformers.report, tmp_path, num_devices=8)
    processes.finish(started, timeout=800)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["devices"] == 8
    for name in sharded_transformers.MODELS:
        with subtests.test("three steps end where one device ends", model=name):
            assert report[name]["difference"] < 1e-5
            one, eight = report[name]["losses"]
            assert abs(one[0] - one[-1]) > 1e-3, "nothing is learnt, so nothing is compared"
            np.testing.assert_allclose(eight, one, rtol=1e-5)
        for path, (size, parts) in report[name]["parts"].items():
            if size >= sharded_transformers.LARGE:
                with subtests.test("large parameters are split", model=name, path=path):
                    assert parts > 1
            if re.fullmatch(SPLIT_TWICE, path) and not re.fullmatch(BY_DEFAULT, path):
                with subtests.test("over tensor and fsdp", model=name, path=path):
                    assert parts == (1 if "_bias/" in path else 4)


@pytest.mark.parametrize("name", OTHERS)
def test_the_rules_are_those_of_every_transformer(name: str) -> None:
    """A rule that matches nothing is refused."""
    model, inputs, flags = OTHERS[name]
    params = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    places = apply_rules(transformer_rules(**flags), params, None, "rules")
    leaves = jax.tree_util.tree_leaves_with_path(places, is_leaf=lambda x: not isinstance(x, dict))
    axes = {path_of(path): place for path, place in leaves}
    for path, shape in jax.tree_util.tree_leaves_with_path(params):
        place = axes[path_of(path)]
        if re.fullmatch(SPLIT_TWICE, path_of(path)) and not re.fullmatch(BY_DEFAULT, path_of(path)):
            assert {"fsdp", "tensor"} <= set(place), path_of(path)
        assert place is None or len(place) == shape.ndim, path_of(path)
