"""Questions and passages: where in the tokens an answer is, and what is said of wrong files."""

import json
import logging

import jax
import numpy as np
import pytest

from research.data.sources import Squad
from research.data.tokenizers import Char, TrainedSubword
from research.errors import UserError

PASSAGE = "Ana Paz lives in Lima, with two cats. Cats sleep all day."


def squad_json(*questions, passage=PASSAGE):
    """A file's content; each question is (text, answers with their starts, whether impossible)."""
    rows = []
    for number, (text, answers, impossible) in enumerate(questions):
        given = [{"text": answer, "answer_start": start} for answer, start in answers]
        rows.append(
            {"id": f"q{number}", "question": text, "answers": given, "is_impossible": impossible}
        )
    articles = [{"title": "A", "paragraphs": [{"context": passage, "qas": rows}]}]
    return json.dumps({"version": "v2.0", "data": articles})


def asked(text, answer, *others):
    return text, [(a, PASSAGE.index(a)) for a in (answer, *others)], False


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").write_text(f"{PASSAGE} where who is\n" * 4)
    return tmp_path


def tokenizer_of(folder, model):
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "<unk>")
    return TrainedSubword((str(folder / "text"),), 310 if model == "bpe" else 70, model, special)


def squad(folder, model="wordpiece", **settings):
    given = {"max_length": 48, "doc_stride": 16, "max_question_length": 8} | settings
    return Squad("q.json", tokenizer_of(folder, model), **given)


def batch_of(dataset):
    return dataset.gather(dataset.arrays, np.arange(dataset.size))


@pytest.mark.parametrize("model", ["wordpiece", "bpe", "unigram"])
def test_answers_are_found_in_the_tokens(folder, model):
    questions = [
        asked("who is", "Ana Paz", "Ana"),
        asked("where is", "Lima"),
        asked("is", "two cats"),
        asked("is", "day."),
        ("is", [], True),
    ]
    (folder / "q.json").write_text(squad_json(*questions))
    source = squad(folder, model, max_length=128, max_question_length=20)
    dataset = source.open(folder)
    batch = batch_of(dataset)
    tokenizer = source.tokenizer
    assert dataset.size == 5
    for row, (text, answers, _) in enumerate(questions):
        tokens, types = batch["tokens"][row], batch["token_types"][row]
        length = int(batch["token_mask"][row].sum())
        passage_start = int(types.argmax())
        assert tokens[0] == tokenizer.token_id("[CLS]")
        assert tokens[passage_start - 1] == tokens[length - 1] == tokenizer.token_id("[SEP]")
        assert tokenizer.encode(text).tolist() == tokens[1 : passage_start - 1].tolist()
        expected = np.zeros(128)
        expected[[0, *range(passage_start, length - 1)]] = 1
        assert batch["answer_mask"][row].tolist() == expected.tolist()
        assert types[passage_start:length].all()
        assert not types[length:].any()
        first, last = int(batch["start"][row]), int(batch["end"][row])
        if not answers:
            assert first == last == 0
            continue
        offsets = dataset.arrays["offsets"][row]
        assert PASSAGE[offsets[first, 0] : offsets[last, 1]] == answers[0][0]
    assert source.questions(folder)[0].answers == ("Ana Paz", "Ana")
    assert source.questions(folder)[4].answers == ()
    on_device = jax.jit(dataset.gather)(dict(dataset.arrays), np.arange(5))
    for name, values in batch.items():
        np.testing.assert_array_equal(values, on_device[name])


def test_long_passages_become_windows_that_overlap(folder, caplog):
    (folder / "q.json").write_text(squad_json(asked("who", "Ana"), asked("where", "all day")))
    source = squad(folder, max_length=16, doc_stride=4, max_question_length=3)
    ids, _ = source.tokenizer.encode_with_offsets(PASSAGE)
    with caplog.at_level(logging.WARNING):
        dataset = source.open(folder)
    batch, questions = batch_of(dataset), dataset.arrays["question"]
    assert "2 of 2 passages are too long for 16 tokens and became windows" in caplog.text
    for question in (0, 1):
        rows = np.flatnonzero(questions == question)
        covered = set()
        for number, row in enumerate(rows):
            start = int(batch["token_types"][row].argmax())
            window = batch["tokens"][row, start : int(batch["token_mask"][row].sum()) - 1]
            begin = 4 * number
            np.testing.assert_array_equal(window, ids[begin : begin + len(window)])
            covered |= set(range(begin, begin + len(window)))
        assert covered == set(range(len(ids)))
        has_answer = batch["start"][rows] > 0
        assert 0 < has_answer.sum() < len(rows)
        text = {0: "Ana", 1: "all day"}[question]
        for row in rows[has_answer]:
            offsets = dataset.arrays["offsets"][row]
            span = offsets[batch["start"][row], 0], offsets[batch["end"][row], 1]
            assert PASSAGE[span[0] : span[1]] == text
        assert (batch["end"][rows[~has_answer]] == 0).all()


def test_what_is_lost_is_counted(folder, caplog):
    long = asked("who who who who who", "Ana Paz lives in Lima, with two cats")
    (folder / "q.json").write_text(squad_json(long, asked("who", "Ana")))
    with caplog.at_level(logging.WARNING):
        squad(folder, max_length=12, doc_stride=3, max_question_length=4).open(folder)
    assert "1 of 2 questions have more than 4 tokens and were cut" in caplog.text
    assert "1 of 2 answers are in no window" in caplog.text
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", r"q.json is no JSON of SQuAD's"),
        ("{}", r"q.json is no JSON of SQuAD's, with articles in `data`: 'data'"),
        ('{"data": []}', r"q.json holds no questions"),
        ('{"data": [{"paragraphs": [{"context": "a"}]}]}', r"first question: KeyError 'qas'"),
        (squad_json(("who", [("Lima", 3)], False)), r"question 'q0': the answer 'Lima' is not at"),
    ],
)
def test_wrong_files(folder, content, complaint):
    (folder / "q.json").write_text(content)
    with pytest.raises(UserError, match=complaint):
        squad(folder).open(folder)


def test_what_cannot_be(folder):
    with pytest.raises(UserError, match=r"must be data.tokenizers.Subword .*, not Char"):
        Squad("q.json", Char("ab"))
    with pytest.raises(UserError, match="max_length = 11 leaves no room"):
        squad(folder, max_length=11)
    with pytest.raises(UserError, match="doc_stride and max_question_length must be at least 1"):
        squad(folder, doc_stride=0)
