"""python -m research.generate on a run whose tokenizer is a file of its data directory."""

import json
import shutil
from pathlib import Path

import pytest

from research import generate, train
from research.data.tokenizers import TrainedSubword
from research.errors import UserError
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


@pytest.mark.usefixtures("undrawn")
def test_prompts_may_be_several(run, tmp_path, capsys):
    workdir, data_dir = run
    given = [f"--workdir={workdir}", f"--data_dir={data_dir}", "--max_new_tokens=5"]
    prompts = ["--prompt=To be", "--prompt", "1"]
    assert generate.run([*given, f"--output={tmp_path}", *prompts]) == 0
    first, second = (tmp_path / "sample.txt").read_text().split("\n---\n")
    assert first.startswith("'To be', sample 1:\nTo be")
    assert second.startswith("'1', sample 1:\n1")
    capsys.readouterr()
    assert generate.run([*given, "--stream", "--prompt=To be"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == first.split("\n", 1)[1].rstrip("\n")
    for extra, complaint in (
        (["--stream", *prompts], "--prompt: is there twice"),
        ([f"--output={tmp_path}", "--seed=1", "--top_k=2", "--top_k=3"], "--top_k: is there twice"),
        (["--stream", "--num_beams=2"], "--num_beams=2: no such option"),
        ([f"--output={tmp_path / 'x'}", "--num_beams=2", "--top_k=2"], "num_beams = 2: a beam"),
    ):
        failed = run_command(generate.run, [*given, *extra], capsys)
        assert failed.code == 2
        assert complaint in failed.stderr
    assert not (tmp_path / "x").exists()


def test_help_teaches_what_texts_take(capsys):
    shown = " ".join(run_command(generate.run, ["--help"], capsys).stdout.split())
    for words in (
        "--data_dir DIR",
        '--prompt="ROMEO:" --prompt="JULIET:"',
        "--num_beams=4 --length_penalty=1",
        "--stop=\"('JULIET',)\"",
        "--temperature, --top_k, --top_p, --min_p, --repetition_penalty",
    ):
        assert words in shown


def test_an_objective_that_does_not_stream_says_so(tmp_path):
    config = {
        "objective": {
            "name": "sequence.MaskedLanguageModeling",
            "model": {"name": "sequence.BERT", "vocab_size": 257},
            "tokenizer": {"name": "data.tokenizers.Byte"},
        },
        "data": {
            "source": {
                "name": "data.sources.Text",
                "file": "a.txt",
                "tokenizer": {"name": "data.tokenizers.Byte"},
                "block_size": 8,
            },
            "batch_size": 1,
        },
        "duration": "1 steps",
        "optimizer": {"learning_rate": 0.1},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="MaskedLanguageModeling does not stream; leave it out"):
        generate.run([f"--workdir={tmp_path}", "--stream"])
