"""What README shows works as it is written."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from research import command_line, generate, train
from research.generative import VAE
from research.sequence import LanguageModeling

README = (Path(__file__).parents[1] / "README.md").read_text()
DIGITS = Path(__file__).parents[1] / "experiments" / "vision" / "lenet_digits.py"


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    """The package that README writes, importable."""
    package = tmp_path / "mylab"
    package.mkdir()
    for code in re.findall(r"```python\n(# mylab/.*?)```", README, re.DOTALL):
        file = re.match(r"# mylab/(\w+\.py)", code)
        (package / file[1]).write_text(code)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def run(workdir: Path, *settings: str) -> int:
    short = ["--config.duration=2 steps", "--config.data.batch_size=8"]
    return train.run([f"--config={DIGITS}", f"--workdir={workdir}", *short, *settings])


@pytest.mark.usefixtures("undrawn")
def test_own_components_of_readme_train(mylab, tmp_path):
    assert {file.name for file in mylab.iterdir()} == {"models.py", "objectives.py", "data.py"}
    model = "{'name': 'mylab.models.TinyNet', 'hidden': 32}"
    assert run(tmp_path / "model", f"--config.objective.model={model}") == 0

    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        images = generator.random((32, 4, 4, 1), np.float32)
        np.savez(tmp_path / f"circles_{split}.npz", image=images, label=images.sum((1, 2, 3)))
    settings = [
        f"--config.objective={{'name': 'mylab.objectives.Regression', 'model': {model}}}",
        "--config.data.source={'name': 'mylab.data.Circles', 'split': 'train'}",
        "--config.evaluations.test.source={'name': 'mylab.data.Circles', 'split': 'test'}",
        "--config.checkpoints.best_metric=test/loss",
        "--config.reference=None",
        f"--data_dir={tmp_path}",
    ]
    assert run(tmp_path / "objective", *settings) == 0


def test_every_command_of_readme_is_understood(capsys):
    commands = re.findall(r"python -m (research\.\w+|launch\.\w+)((?:[^\n`]|\\\n)*)", README)
    assert len(commands) >= 6
    generators = (VAE.generate, LanguageModeling.generate, LanguageModeling.stream)
    objective_options = {name for each in generators for name in generate._options_of(each)}
    for module, rest in commands:
        command = importlib.import_module(module)
        if hasattr(command, "__path__"):
            command = importlib.import_module(f"{module}.__main__")
        with pytest.raises(SystemExit) as ended:
            command.run(["--help"])
        assert ended.value.code == command_line.DONE
        shown = capsys.readouterr().out
        for flag in re.findall(r"--(\w+)(?!\S*\.)", rest):
            known = f"--{flag}" in shown or flag == "config" or flag in objective_options
            assert known, f"{module} has no --{flag}"


def test_files_of_readme_exist():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), f"README links to {target}, which does not exist"
