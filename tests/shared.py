"""What several tests look at and none changes, made once a session, by whichever process of it
comes first."""

import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from research import train
from tests.shrink import arguments
from tests.small_data import write_small_data

CLASSIFIER = "vision/lenet_mnist.py"


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """The path after `make(path)`, which no other process is doing or has done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.made")
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # --data_dir sets it, and a fixture of a whole module must not leave it so.
            with pytest.MonkeyPatch.context() as patch:
                given = os.environ.get("RESEARCH_DATA_DIR", str(path.parent))
                patch.setenv("RESEARCH_DATA_DIR", given)
                make(path)
            made.touch()
    return path


def small_data(root: Path) -> Path:
    """The data directory of the shrunk experiments."""
    return once(root / "data", write_small_data)


def trained(root: Path, config: str) -> Path:
    """The folder of a shrunk experiment that ran to its end."""

    def run(workdir: Path) -> None:
        overrides = composed(root, config)
        assert train.run(arguments(config, workdir, small_data(root), **overrides)) == 0

    return once(root / "runs" / config.replace("/", "_"), run)


def composed(root: Path, config: str) -> Mapping[str, str]:
    """The overrides of configs that build on another run."""
    if config.startswith("generative/gan"):
        return {"probes__classifier__probe__workdir": str(trained(root, CLASSIFIER))}
    if config == "vision/distill_mnist.py":
        return {"objective__teacher": str(trained(root, f"{config}:teacher"))}
    if config == "sequence/bert_imdb.py":
        return {"init_from__path": str(trained(root, f"{config}:pretrain"))}
    if config in ("vision/transfer_cifar10.py", "vision/transfer_cifar10.py:probe"):
        return {"init_from__path": str(trained(root, "vision/transfer_cifar10.py:pretrain"))}
    return {}
