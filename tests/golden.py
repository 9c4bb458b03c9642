"""The numbers that the shrunk example configs gave when they were last known to be right.

python -m tests.golden          writes tests/golden.json anew
"""

import importlib.metadata
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

from research import train
from tests.shrink import SHRUNK, arguments
from tests.small_data import write_small_data

FILE = Path(__file__).parent / "golden.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


def numbers_of(workdir: Path) -> dict[str, float]:
    """The losses of training and all final metrics of a run."""
    result = json.loads((workdir / "result.json").read_text())
    numbers = dict(result["metrics"])
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        losses = {key: row[key] for key in row if key == "loss" or key.endswith("_loss")}
        numbers |= {f"step {row['step']}: {key}": value for key, value in losses.items()}
    return numbers


def complaint(config: str, found: Mapping[str, float]) -> str:
    """What differs from the golden numbers of a config and what to do; empty where nothing."""
    golden = json.loads(FILE.read_text())
    expected = golden["numbers"].get(config, {})
    different = [
        f"{name}: {expected.get(name)} -> {found.get(name)}"
        for name in sorted({*expected, *found})
        if name not in expected
        or name not in found
        or not math.isclose(expected[name], found[name], rel_tol=5e-3, abs_tol=5e-3)
    ]
    if not different:
        return ""
    listed = "\n  ".join(different)
    return (
        f"{config}: its numbers are not those in {FILE.name}, made with {golden['made_with']}:\n"
        f"  {listed}\n"
        "If the change was meant to change them, write them anew with `python -m tests.golden` "
        "and commit them with it; if not, it broke something."
    )


def write() -> None:
    """Runs every shrunk config and writes its numbers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = write_small_data(folder / "data")
        classifier = folder / "classifier"
        train.run(arguments("vision/lenet_mnist.py", classifier, data_dir))
        numbers = {}
        for index, config in enumerate(sorted(SHRUNK)):
            workdir = folder / str(index)
            train.run(arguments(config, workdir, data_dir, **composed(config, classifier)))
            numbers[config] = numbers_of(workdir)
    made_with = {package: importlib.metadata.version(package) for package in PACKAGES}
    FILE.write_text(json.dumps({"made_with": made_with, "numbers": numbers}, indent=1) + "\n")


def composed(config: str, classifier: Path) -> dict[str, str]:
    """The overrides of configs that build on another run."""
    if config.startswith("generative/gan"):
        return {"probes__classifier__probe__workdir": str(classifier)}
    return {}


if __name__ == "__main__":
    write()
