"""Question answering: the best span, what SQuAD counts as right, and learning by heart."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.sources import Squad
from research.data.tokenizers import TrainedSubword
from research.engine.metrics import compute
from research.engine.objective import HasCheck, HasCheckData, HasShow, Objective, Probe
from research.errors import UserError
from research.sequence import (
    BERT,
    T5,
    AnswerReport,
    BERTTokenClassifier,
    QuestionAnswering,
    SequenceToSequence,
)
from research.sequence.answer_report import exact_match, f1, normalized
from research.sequence.question_answering import best_spans
from tests.data.test_squad import PASSAGE, asked, squad_json

MODEL = BERTTokenClassifier(
    BERT(90, block_size=24, num_layers=1, num_heads=2, embed_dim=32, mlp_dim=32, dropout_rate=0.0),
    2,
)
OBJECTIVE = QuestionAnswering(MODEL, max_answer_length=6)


@pytest.mark.parametrize(
    ("answer", "golds", "exact", "overlap"),
    [
        ("the  Cat!", ["A cat"], 1, 1),
        ("cat sat", ["the cat", "dog"], 0, 2 / 3),  # P = 1/2, R = 1
        ("cat cat", ["cat sat on"], 0, 2 / 5),  # a word counts once for each that there is
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("", [], 1, 1),
        ("cat", [], 0, 0),
        ("the", ["an"], 1, 1),  # nothing is left of both
        ("U.S.", ["US"], 1, 1),
        ("another", ["other"], 0, 0),  # an article only as a word
        ("10–12", ["10 12"], 0, 0),  # a dash is no punctuation of ASCII
        ("in two", ["two cats", "in two cats"], 0, 4 / 5),
    ],
)
def test_counts_as_the_official_script(answer, golds, exact, overlap):
    assert exact_match(answer, golds) == exact
    assert f1(answer, golds) == pytest.approx(overlap)


def test_normalisation():
    assert normalized("The  quick, a-b AN\tfox's ") == "quick ab foxs"


@pytest.mark.parametrize("max_length", [1, 3, 20])
def test_the_best_span_is_the_best_of_all(max_length):
    generator = np.random.default_rng(0)
    starts, ends = (generator.normal(size=(5, 9)).astype(np.float32) for _ in range(2))
    starts[:, 7:] = ends[:, 7:] = -np.inf
    found = best_spans(jnp.asarray(starts), jnp.asarray(ends), max_length)
    for row in range(5):
        spans = [
            (i, j) for i, j in itertools.product(range(1, 7), repeat=2) if i <= j < i + max_length
        ]
        scores = [starts[row, i] + ends[row, j] for i, j in spans]
        assert (found.start[row], found.end[row]) == spans[int(np.argmax(scores))]
        assert found.score[row] == pytest.approx(max(scores))
        assert found.none[row] == pytest.approx(starts[row, 0] + ends[row, 0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squad")
    questions = [
        asked("who lives", "Ana Paz", "Ana"),
        asked("where", "Lima"),
        asked("who sleep", "Cats"),
        ("who sleep in Lima", [], True),
    ]
    (folder / "q.json").write_text(squad_json(*questions))
    (folder / "text").write_text(f"{PASSAGE} where who\n" * 4)
    return folder


@pytest.fixture(scope="module")
def source(folder):
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    tokenizer = TrainedSubword((str(folder / "text"),), 90, "wordpiece", special)
    return Squad("q.json", tokenizer, max_length=24, doc_stride=6, max_question_length=6)


@pytest.fixture(scope="module")
def batch(folder, source):
    dataset = source.open(folder)
    rows = dataset.gather(dataset.arrays, np.arange(dataset.size))
    return {name: jnp.asarray(x) for name, x in rows.items()}


def test_are_what_the_engine_asks_for(source):
    for protocol in (Objective, HasCheckData, HasShow):
        assert isinstance(OBJECTIVE, protocol)
    for protocol in (Probe, HasCheck):
        assert isinstance(AnswerReport(source), protocol)


def test_learns_answers_by_heart(folder, source, batch):
    params = OBJECTIVE.init(jax.random.key(0), batch)["params"]
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: OBJECTIVE.loss(p, {}, batch, jax.random.key(0))[0])(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(120):
        params, state = step(params, state)
    assert compute(OBJECTIVE.evaluate(params, {}, batch, None))["accuracy"] == 1
    variables = {"params": params}
    report = AnswerReport(source, batch_size=3, null_threshold=0.0)
    report.check(OBJECTIVE, variables, folder)
    assert report.answers(OBJECTIVE, variables, folder) == ["Ana Paz", "Lima", "Cats", ""]
    found = report(OBJECTIVE, variables, jax.random.key(0), folder)
    expected = {"exact_match": 100, "f1": 100, "f1_answerable": 100, "f1_unanswerable": 100}
    assert found == expected
    always = AnswerReport(source, batch_size=64)
    assert always(OBJECTIVE, variables, jax.random.key(0), folder)["f1"] == 75
    shown = QuestionAnswering(MODEL, 6, source.tokenizer).show(params, {}, batch, None)
    assert "where\n= Lima\n> Lima" in shown["answers"].texts


def test_evaluation_depends_neither_on_batches_nor_on_padding(batch, evaluate_in_parts):
    six = {name: jnp.concatenate([x, x])[:6] for name, x in batch.items()}
    six |= {"mask": jnp.ones(6).at[3].set(0), "index": jnp.arange(6)}
    params = OBJECTIVE.init(jax.random.key(0), batch)["params"]
    whole, parts = evaluate_in_parts(OBJECTIVE, params, {}, six)
    assert compute(parts) == pytest.approx(compute(whole), rel=1e-5)
    assert float(whole["loss"].weight) == 5


class Fixed(nn.Module):
    """Logits of starts and ends that are larger for larger tokens."""

    @nn.compact
    def __call__(self, tokens, train=False, *, mask, token_types):
        scale = self.param("scale", nn.initializers.ones, (1,))
        return (scale * tokens)[..., None] * jnp.ones(2)


def test_an_answer_is_in_the_passage_only(batch):
    objective = QuestionAnswering(Fixed(), max_answer_length=2)
    params = objective.init(jax.random.key(0), batch)["params"]
    found = objective.answers(params, {}, batch)
    may_answer = np.asarray(batch["answer_mask"]) > 0
    rows = np.arange(len(may_answer))
    assert may_answer[rows, found.start].all()
    assert may_answer[rows, found.end].all()
    assert (np.asarray(found.end) - np.asarray(found.start) <= 1).all()
    loss, _ = objective.loss(params, {}, batch, jax.random.key(0))
    assert np.isfinite(loss)
    grads = jax.grad(lambda p: objective.loss(p, {}, batch, jax.random.key(0))[0])(params)
    assert np.isfinite(grads["scale"]).all()


def test_what_cannot_be(source, batch):
    with pytest.raises(UserError, match=r"num_classes = 3: must be 2, of starts and of ends"):
        QuestionAnswering(MODEL.clone(num_classes=3))
    with pytest.raises(UserError, match="max_answer_length = 0"):
        QuestionAnswering(MODEL, 0)
    short = QuestionAnswering(MODEL.clone(bert=MODEL.bert.clone(block_size=23)))
    with pytest.raises(UserError, match=r"block_size = 23: the data's windows have 24 tokens"):
        short.init(jax.random.key(0), batch)
    with pytest.raises(UserError, match=r"a token 90, but .*vocab_size = 90"):
        OBJECTIVE.check_data({"tokens": np.asarray([90])})
    with pytest.raises(UserError, match=r"a token -1, .* at position 2 of example 0"):
        OBJECTIVE.check_data({"tokens": np.asarray([[0, 1, -1], [90, 2, 3]])})
    with pytest.raises(UserError, match=r"measures sequence.QuestionAnswering, not Sequence"):
        AnswerReport(source).check(SequenceToSequence(T5(9)), {}, "")
