"""Texts with a model that writes what it is told to: where they end, and how they are streamed."""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from research import generate
from research.data.tokenizers import Byte, TrainedSubword, Word
from research.errors import UserError
from research.sequence import LanguageModeling
from research.sequence.beam_search import BeamSearch
from research.sequence.sampling import Sampling
from research.sequence.text_writing import TextWriter, choose_decoder

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Reciter:
    """The next token is the next of these, wherever a text has got to."""

    tokens: tuple[int, ...]
    vocab_size: int

    def apply(
        self, variables, tokens, *, key_mask=None, positions=None, use_cache=False, mutable=()
    ):
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        following = jnp.asarray(self.tokens)[jnp.minimum(positions + 1, len(self.tokens) - 1)]
        logits = 100.0 * jax.nn.one_hot(following, self.vocab_size)
        return (logits, {"cache": {}}) if mutable else logits


def reciting(tokenizer, text, **settings):
    tokens = tuple(int(index) for index in tokenizer.encode(text))
    return LanguageModeling(Reciter(tokens, tokenizer.vocab_size), tokenizer, **settings)


def check_stream(objective, expected, **options):
    """The stream grows to `expected`, which `generate` writes, too; returns it."""
    streamed = list(objective.stream({}, {}, KEY, **options))
    for before, after in itertools.pairwise(streamed):
        assert after.startswith(before) and after != before
    assert streamed[-1] == expected
    assert list(objective.generate({}, {}, KEY, **options)["sample"].texts) == [expected]
    return streamed


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (("JULIET",), "To JULY, JUL, "),
        (("JUL, J", "Y, Z"), "To JULY, "),
        (("JULIET", "LIE"), "To JULY, JUL, JU"),
        (("LIET", "JULIET"), "To JULY, JUL, "),
        (("ULIETTE", "LIETA"), "To JULY, JUL, JULIET, JULI"),
    ],
)
def test_what_may_become_a_stop_is_held_back(stop, expected):
    text = "To JULY, JUL, JULIET, JULI"
    objective = reciting(Byte(), text)
    streamed = check_stream(objective, expected, prompt="To", max_new_tokens=24, stop=stop)
    assert "To JULY, " in streamed, "what is decided is shown"


def test_half_a_character_is_never_streamed(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("To be or not to be " * 9)
    tokenizer = TrainedSubword((str(tmp_path / "text.txt"),), 262)
    text = "To be größer: 5 €, 😀 not"
    tokens = tokenizer.encode(text)
    assert "\ufffd" in tokenizer.decode(tokens[:-5]), "no character is of several tokens"
    objective = reciting(tokenizer, text)
    options = {"prompt": "To", "max_new_tokens": len(tokens) - 1}
    streamed = check_stream(objective, text, **options)
    assert not any("\ufffd" in part for part in streamed)
    shown = generate._print(objective.stream({}, {}, KEY, **options))
    assert capsys.readouterr().out == f"{text}\n"
    assert shown == text
    # What never becomes whole is there at the end, as `generate` writes it.
    *before, last = objective.stream({}, {}, KEY, prompt="To", max_new_tokens=len(tokens) - 6)
    assert last.endswith("\ufffd")
    assert not any("\ufffd" in part for part in before)


def test_a_text_that_changes_is_printed_anew(capsys):
    assert generate._print(iter(["do", "do n", "don't"])) == "don't"
    assert capsys.readouterr().out == "do n\ndon't\n"


def test_texts_end_before_the_end_token():
    words = Word(("<s>", "once", "upon", "a", "time"))
    text = "once upon a time <s> once upon"
    options = {"prompt": "once", "max_new_tokens": 6}
    check_stream(reciting(words, text), text, **options)
    ending = reciting(words, text, end_token="<s>")
    check_stream(ending, "once upon a time", **options)
    # One in the prompt ends nothing.
    again = reciting(words, "<s> once upon a <s> time", end_token="<s>")
    check_stream(again, "<s> once upon a", prompt="<s> once", max_new_tokens=6)
    (beam,) = ending.generate({}, {}, KEY, **options, num_beams=2)["sample"].texts
    assert beam == "once upon a time"
    with pytest.raises(UserError, match=r"objective\.end_token = '</s>': There is no token"):
        reciting(words, text, end_token="</s>").init(KEY, {"tokens": jnp.zeros((1, 3), int)})
    with pytest.raises(UserError, match=r"end_token = 'x': Byte has no special tokens"):
        reciting(Byte(), text, end_token="x").generate({}, {}, KEY)


def test_a_beam_is_not_streamed():
    writer = TextWriter(Reciter((1, 2), 3), {}, Byte(), BeamSearch(), max_new_tokens=2)
    with pytest.raises(UserError, match="it cannot be streamed"):
        next(writer.stream(KEY, [1]))


def test_options_choose_between_a_beam_and_draws():
    for default in (Sampling(), BeamSearch(3, 1.5)):
        assert choose_decoder(default) == default
        assert choose_decoder(default, temperature=1.0) == Sampling()
        assert choose_decoder(default, top_k=3, min_p=0.1) == Sampling(top_k=3, min_p=0.1)
    assert choose_decoder(Sampling(), num_beams=2) == BeamSearch(2)
    assert choose_decoder(BeamSearch(3, 1.5), num_beams=2) == BeamSearch(2, 1.5)
    assert choose_decoder(BeamSearch(3, 1.5), length_penalty=0.0) == BeamSearch(3, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_beams": 2, "top_p": 0.9, "temperature": 1.0},
            r"^num_beams = 2: a beam .* there is temperature = 1.0, top_p = 0.9; leave one",
        ),
        (
            {"length_penalty": 1.0, "repetition_penalty": 1.2},
            r"^length_penalty = 1.0: .* repetition_penalty = 1.2",
        ),
        ({"num_beams": 0}, "num_beams = 0: must be at least 1"),
        ({"length_penalty": float("nan")}, "length_penalty = nan: must be finite"),
        ({"top_p": 0.0}, "top_p = 0.0"),
    ],
)
def test_options_of_both_decoders_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        choose_decoder(Sampling(), **options)
