"""The numbers that the shrunk example configs gave when they were last known to be right.

python -m tests.golden             writes tests/golden.json anew
python -m tests.golden CONFIG…     writes the numbers of these anew, such as vision/vit_cifar10.py
"""

import importlib.metadata
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.shared import trained
from tests.shrink import SHRUNK

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


def write(configs: Sequence[str]) -> None:
    """Runs these shrunk configs, or all, and writes their numbers."""
    kept = json.loads(FILE.read_text())["numbers"] if configs else {}
    with tempfile.TemporaryDirectory() as name:
        found = {config: numbers_of(trained(Path(name), config)) for config in configs or SHRUNK}
    numbers = dict(sorted({**kept, **found}.items()))
    made_with = {package: importlib.metadata.version(package) for package in PACKAGES}
    FILE.write_text(json.dumps({"made_with": made_with, "numbers": numbers}, indent=1) + "\n")


if __name__ == "__main__":
    write(sys.argv[1:])
