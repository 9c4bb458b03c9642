"""A tokenizer whose file has changed is not the one that a run was trained with."""

import json
from pathlib import Path

import pytest

from research import evaluate, generate, train
from research.data.tokenizers import TrainedSubword
from research.engine import config
from research.engine.fingerprint import fingerprints
from research.errors import UserError
from tests.shared import small_data
from tests.shrink import arguments

CONFIG = "sequence/gpt_shakespeare.py"


def save_tokenizer(text: str, path: Path) -> None:
    source = path.with_suffix(".txt")
    source.write_text(text)
    TrainedSubword((str(source),), 262).save(path)


@pytest.mark.usefixtures("undrawn")
def test_a_replaced_tokenizer_file_is_refused(tmp_path: Path, shared_dir: Path, capsys) -> None:
    path = tmp_path / "tokenizer.json"
    save_tokenizer("To be or not to be " * 9, path)
    tokenizer = {"name": "data.tokenizers.Subword", "file": str(path)}
    given = arguments(
        CONFIG,
        tmp_path / "run",
        small_data(shared_dir),
        objective__tokenizer=tokenizer,
        data__source__tokenizer=tokenizer,
        evaluations__validation__source__tokenizer=tokenizer,
        objective__model__vocab_size=300,
        reference=None,
        duration="6 steps",
    )
    assert train.run(given) == 0
    commands = {
        "resume": lambda: train.run([*given, "--config.duration=8 steps", "--allow_config_change"]),
        "evaluate": lambda: evaluate.run(
            [f"--workdir={tmp_path / 'run'}", f"--data_dir={small_data(shared_dir)}"]
        ),
        "generate": lambda: generate.run(
            [f"--workdir={tmp_path / 'run'}", f"--output={tmp_path}", "--prompt=To"]
        ),
    }
    original = path.read_text()
    path.write_text(json.dumps(json.loads(original)))  # the same, written otherwise
    assert commands["evaluate"]() == 0
    save_tokenizer("Once more unto the breach " * 9, path)
    assert path.read_text() != original
    for command in commands.values():
        with pytest.raises(UserError, match=r"tokenizer: what it reads is not what the run in"):
            command()
    path.write_text(original)
    for command in commands.values():
        assert command() == 0


def test_every_component_with_a_file_has_its_digest(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a b c")
    word = {"name": "data.tokenizers.Word", "file": str(tmp_path / "words.txt")}
    char = {"name": "data.tokenizers.Char", "alphabet": "ab"}
    source = {"name": "data.sources.Text", "file": "a.txt", "block_size": 2}
    model = {"name": "sequence.RecurrentLanguageModel", "vocab_size": 4, "hidden_dim": 2}
    experiment = config.check_experiment(
        {
            "objective": {"name": "sequence.LanguageModeling", "model": model, "tokenizer": word},
            "data": {"source": {**source, "tokenizer": word}, "batch_size": 1},
            "evaluations": {"test": {"source": {**source, "tokenizer": char}}},
            "duration": "1 steps",
            "optimizer": {"learning_rate": 0.1},
        }
    )
    found = fingerprints(experiment)
    assert found.keys() == {"objective.tokenizer", "data.source.tokenizer"}
    assert len(set(found.values())) == 1
    (tmp_path / "words.txt").write_text("a b d")
    assert set(fingerprints(experiment).values()).isdisjoint(found.values())
