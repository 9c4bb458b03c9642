"""python -m research.generate on a run whose tokenizer is a file of its data directory."""

import shutil
from pathlib import Path

import pytest

from research import generate, train
from research.data.tokenizers import TrainedSubword
from research.weights import __main__ as weights
from research.weights.files import read_arrays
from tests.commands import run_command
from tests.shared import once, small_data
from tests.shrink import arguments

CONFIG = "sequence/gpt_shakespeare.py"


@pytest.fixture
def run(shared_dir: Path) -> tuple[Path, Path]:
    """The run's folder, and the data directory without which its tokenizer is not found."""

    def make(folder: Path) -> None:
        shutil.copytree(small_data(shared_dir), folder / "data")
        source = folder / "text.txt"
        source.write_text("To be, or not to be " * 9)
        TrainedSubword((str(source),), 262).save(folder / "data" / "own_tokenizer.json")
        tokenizer = {"name": "data.tokenizers.Subword", "file": "own_tokenizer.json"}
        given = arguments(
            CONFIG,
            folder / "run",
            folder / "data",
            objective__tokenizer=tokenizer,
            data__source__tokenizer=tokenizer,
            evaluations__validation__source__tokenizer=tokenizer,
            objective__model__vocab_size=300,
            reference=None,
            duration="6 steps",
        )
        assert train.run(given) == 0

    folder = once(shared_dir / "generate" / "own_tokenizer", make)
    return folder / "run", folder / "data"


@pytest.mark.usefixtures("undrawn")
def test_a_tokenizer_is_read_below_the_data_directory(run, tmp_path, capsys, monkeypatch):
    workdir, data_dir = run
    to_generate = [f"--workdir={workdir}", f"--output={tmp_path}", "--prompt=To"]
    model = tmp_path / "model.safetensors"
    to_convert = ["convert", str(workdir), str(model)]
    for command, given in ((generate.run, to_generate), (weights.run, to_convert)):
        monkeypatch.setenv("RESEARCH_DATA_DIR", str(tmp_path / "no_data"))
        failed = run_command(command, given, capsys)
        assert failed.code == 2
        assert "own_tokenizer.json" in failed.stderr
        assert "--data_dir" in failed.stderr
        assert command([*given, f"--data_dir={data_dir}"]) == 0
    assert (tmp_path / "sample.txt").read_text().startswith("To")
    assert "params/token_embedding/embedding" in read_arrays(model)
