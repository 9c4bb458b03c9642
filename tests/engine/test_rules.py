import jax
import numpy as np
import pytest

from research.engine.rules import apply_rules, compile_patterns, path_of
from research.errors import UserError

PARAMS = {
    "encoder": {"block_0": {"kernel": np.zeros(2), "bias": np.zeros(1)}},
    "head": {"kernel": np.zeros(3), "bias": np.zeros(1)},
}


def test_paths_are_names_joined_by_slashes():
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(PARAMS)]
    assert paths == [
        "encoder/block_0/bias",
        "encoder/block_0/kernel",
        "head/bias",
        "head/kernel",
    ]


def test_paths_go_through_lists():
    ((path, _),) = jax.tree_util.tree_leaves_with_path({"layers": [{"kernel": 0}]})
    assert path_of(path) == "layers/0/kernel"


def test_the_first_rule_that_matches_the_whole_path_decides():
    rules = [("encoder/.*", 0.1), (r".*/kernel", 2.0)]
    assert apply_rules(rules, PARAMS, 1.0, "setting") == {
        "encoder": {"block_0": {"kernel": 0.1, "bias": 0.1}},
        "head": {"kernel": 2.0, "bias": 1.0},
    }


def test_no_rules_leave_the_default():
    assert set(jax.tree.leaves(apply_rules([], PARAMS, 7, "setting"))) == {7}


def test_values_may_be_tuples():
    placed = apply_rules([("head/kernel", ("fsdp", None))], PARAMS, None, "setting")
    assert placed["head"]["kernel"] == ("fsdp", None)
    assert placed["head"]["bias"] is None


def test_a_rule_hidden_by_an_earlier_one_is_no_mistake():
    rules = [(".*", 1), ("head/bias", 2)]
    assert apply_rules(rules, PARAMS, 0, "setting")["head"]["bias"] == 1


def test_a_rule_that_matches_nothing_shows_the_paths():
    expected = "optimizer.freeze: 'decoder/.*' matches no parameter; paths are encoder/block_0/bias"
    with pytest.raises(UserError, match=expected):
        apply_rules([(".*", 1), ("decoder/.*", 2)], PARAMS, 0, "optimizer.freeze")


def test_a_rule_that_matches_a_part_says_how_to_match_the_whole():
    with pytest.raises(UserError) as raised:
        apply_rules([("kernel|scale", 1)], PARAMS, 0, "rules")
    assert (
        "rules: 'kernel|scale' matches no parameter's whole path, only a part of "
        "'encoder/block_0/kernel'" in str(raised.value)
    )
    suggested = ".*(kernel|scale).*"
    assert repr(suggested) in str(raised.value)
    assert apply_rules([(suggested, 1)], PARAMS, 0, "rules")["head"] == {"kernel": 1, "bias": 0}


def test_a_bad_regular_expression_is_named():
    with pytest.raises(UserError, match=r"optimizer.freeze: '\[a' is no regular expression: "):
        compile_patterns([".*", "[a"], "optimizer.freeze")
