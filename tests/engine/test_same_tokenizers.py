"""Text is the same tokens to the objective, to all its data and to the run it starts from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.data.tokenizers import TrainedSubword
from research.engine.config import check_experiment, load
from research.engine.prepare import prepare
from research.engine.tokenizers import check_tokenizers
from research.errors import UserError
from tests.shared import small_data, trained
from tests.shrink import EXPERIMENTS, arguments

CHAR = {"name": "data.tokenizers.Char", "alphabet": "ab"}
OTHER = {"name": "data.tokenizers.Char", "alphabet": "ba"}
WORD = {"name": "data.tokenizers.Word", "vocabulary": ("a", "b")}
CONFIG = "sequence/gpt_shakespeare.py"


def modelling(objective: Any, train: Any, test: Any) -> dict[str, Any]:
    text = {"name": "data.sources.Text", "file": "a.txt", "block_size": 2}
    model = {"name": "sequence.RecurrentLanguageModel", "vocab_size": 8, "hidden_dim": 2}
    return {
        "objective": {"name": "sequence.LanguageModeling", "model": model, "tokenizer": objective},
        "data": {"source": {**text, "tokenizer": train}, "batch_size": 1},
        "evaluations": {"test": {"source": {**text, "tokenizer": test}}},
        "duration": "1 steps",
        "optimizer": {"learning_rate": 0.1},
    }


def translation(**others: Any) -> dict[str, Any]:
    """Of which the two languages have tokens of their own, but for what is given."""
    both = {"source_tokenizer": CHAR, "target_tokenizer": WORD}
    pairs = {
        "name": "data.sources.TextPairs",
        "source": "a",
        "target": "b",
        "max_length": 4,
        **both,
    }
    model = {"name": "sequence.RecurrentTranslator", "vocab_size": 8, "hidden_dim": 2}
    objective = {"name": "sequence.SequenceToSequence", "model": model, **both}
    probe = {"name": "sequence.TranslationReport", "source": {**pairs, **others}}
    return {
        "objective": objective,
        "data": {"source": pairs, "batch_size": 1},
        "probes": {"test": {"probe": probe}},
        "duration": "1 steps",
        "optimizer": {"learning_rate": 0.1},
    }


@pytest.mark.parametrize(
    ("used", "told"),
    [
        (
            (CHAR, OTHER, CHAR),
            r"data\.source\.tokenizer: makes other tokens than objective\.tokenizer: its alphabet "
            r"is 'ba', not 'ab'; give both the same",
        ),
        (
            (CHAR, CHAR, WORD),
            r"evaluations\.test\.source\.tokenizer: makes other tokens than objective\.tokenizer: "
            r"it is data\.tokenizers\.Word, not data\.tokenizers\.Char",
        ),
        (
            (None, WORD, {**WORD, "lowercase": True}),
            r"evaluations\.test\.source\.tokenizer: .* data\.source\.tokenizer: its lowercase is "
            "True, not False",
        ),
    ],
)
def test_data_of_other_tokens_is_refused(used: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        prepare(check_experiment(modelling(*used)), tmp_path)


def test_each_side_of_a_pair_has_tokens_of_its_own() -> None:
    check_tokenizers(check_experiment(translation()))
    refused = check_experiment(translation(target_tokenizer=CHAR))
    with pytest.raises(
        UserError,
        match=r"probes\.test\.probe\.source\.target_tokenizer: .* objective\.target_tokenizer: it",
    ):
        check_tokenizers(refused)


def test_what_makes_both_sides_has_the_tokens_of_both() -> None:
    corruption = {"name": "data.augment.SpanCorruption", "tokenizer": CHAR, "start_token": "a"}
    plain = translation()
    plain["data"] |= {"transforms": (corruption,)}
    with pytest.raises(
        UserError, match=r"data\.transforms\.0\.tokenizer: .* objective\.target_tokenizer: it is"
    ):
        check_tokenizers(check_experiment(plain))


def test_the_same_tokens_from_another_file_are_no_others(tmp_path: Path) -> None:
    for name, text in {"one": "a b c", "copy": "a b c", "two": "a b d"}.items():
        (tmp_path / name).write_text(text)
    one, copy, two = (
        {"name": "data.tokenizers.Word", "file": str(tmp_path / name)}
        for name in ("one", "copy", "two")
    )
    check_tokenizers(check_experiment(modelling(one, copy, one)))
    with pytest.raises(UserError, match=r"its file is '.*/two', not '.*/one'"):
        check_tokenizers(check_experiment(modelling(one, copy, two)))


def test_a_trained_tokenizer_is_that_of_its_saved_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be " * 9)
    files = (str(tmp_path / "a.txt"),)
    TrainedSubword(files, 260).save(tmp_path / "saved.json")
    learnt = {"name": "data.tokenizers.TrainedSubword", "files": files, "size": 260}
    saved = {"name": "data.tokenizers.Subword", "file": str(tmp_path / "saved.json")}
    check_tokenizers(check_experiment(modelling(saved, learnt, learnt)))
    smaller = {**learnt, "size": 258}
    with pytest.raises(UserError, match=r"it is data.tokenizers.Tra.*, not data.tokenizers.Subw"):
        check_tokenizers(check_experiment(modelling(saved, smaller, smaller)))


def test_a_run_of_other_tokens_is_no_start(
    tmp_path: Path, shared_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data_dir = trained(shared_dir, CONFIG), small_data(shared_dir)
    monkeypatch.setenv("RESEARCH_DATA_DIR", str(data_dir))
    experiment = load(str(EXPERIMENTS / CONFIG))
    turned = experiment.objective.arguments["tokenizer"].arguments["alphabet"][::-1]

    def start(**overrides: Any) -> Any:
        file, *given = arguments(CONFIG, tmp_path, data_dir, **overrides)
        settings = [text.removeprefix("--config.").partition("=") for text in given[2:]]
        overrides_by_path = [(path, text) for path, _, text in settings]
        return prepare(load(file.removeprefix("--config="), overrides_by_path), data_dir)

    pretrained = {"name": "weights.Pretrained", "path": str(run)}
    others = {
        "objective__tokenizer__alphabet": turned,
        "data__source__tokenizer__alphabet": turned,
        "evaluations__validation__source__tokenizer__alphabet": turned,
    }
    same = start(init_from=pretrained).initial_arrays
    assert same
    told = rf"^objective\.tokenizer: .* objective\.tokenizer of {run}, which init_from starts from:"
    with pytest.raises(UserError, match=told):
        _ = start(init_from=pretrained, **others).initial_arrays
    allowed = start(init_from={**pretrained, "allow_other_tokenizer": True}, **others)
    for path, array in allowed.initial_arrays.items():
        np.testing.assert_array_equal(array, same[path])
