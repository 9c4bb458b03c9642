"""How many bytes the tokens of byte-level byte pair encoding stand for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int


def byte_level_lengths(content: Mapping[str, Any]) -> Int[np.ndarray, " vocab_size"] | None:
    """The bytes of UTF-8 that each token of a tokenizer.json stands for, 0 for special tokens.

    None where they cannot be told exactly: for other tokens than those of byte-level byte pair
    encoding (Radford et al., 2019), and where a text is changed on its way to them.
    """
    model = content["model"]
    special = [token for token in content["added_tokens"] if token["special"]]
    others = [token for token in content["added_tokens"] if not token["special"]]
    is_exact = (
        model["type"] == "BPE"
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and content["normalizer"] is None
        and _keeps_all_bytes(content["pre_tokenizer"])
        and model["vocab"].keys() >= _alphabet()
        # A token that text becomes is special in name only.
        and _learnt(model).isdisjoint(token["content"] for token in special)
        # These take the white space around them with them.
        and not any(token["lstrip"] or token["rstrip"] for token in others)
    )
    if not is_exact:
        return None
    # One character of a name is one byte; the names of added tokens are as in the text.
    lengths = {index: len(name) for name, index in model["vocab"].items()}
    lengths |= {token["id"]: len(token["content"].encode()) for token in others}
    lengths |= {token["id"]: 0 for token in special}
    table = np.zeros(max(lengths) + 1, np.int32)
    table[list(lengths)] = list(lengths.values())
    return table


def _keeps_all_bytes(pre_tokenizer: Mapping[str, Any] | None) -> bool:
    """Whether every byte of a text comes through, and no other."""
    if pre_tokenizer is None:
        return False
    is_sequence = pre_tokenizer["type"] == "Sequence"
    *before, last = pre_tokenizer["pretokenizers"] if is_sequence else [pre_tokenizer]
    return (
        last["type"] == "ByteLevel"
        and not last["add_prefix_space"]
        and all(
            step["type"] == "Digits" or (step["type"] == "Split" and step["behavior"] != "Removed")
            for step in before
        )
    )


def _alphabet() -> set[str]:
    """What stands for each of the 256 bytes."""
    from tokenizers import pre_tokenizers

    return set(pre_tokenizers.ByteLevel.alphabet())


def _learnt(model: Mapping[str, Any]) -> set[str]:
    """The names of the tokens that a text may become."""
    # A pair is a list of two names, or a string of them with a space between.
    return _alphabet() | {"".join(pair).replace(" ", "") for pair in model["merges"]}
