"""Who may import whom, and what importing a family must not cost."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAMILIES = ("vision", "sequence", "generative", "selfsupervised")
SHARED = ("research.errors", "research.suggestion")
MAY_IMPORT = {
    "nn": ("research.nn",),
    "data": ("research.data", *SHARED),
    # What devices are called is known to layers that average over them.
    "engine": ("research.engine", "research.data", "research.nn.devices", *SHARED),
    **{
        family: (f"research.{family}", "research.nn", "research.data", "research.engine", *SHARED)
        for family in FAMILIES
    },
    # It knows the models of families, and layers, by their published names, and is a command.
    "weights": (
        "research.weights",
        "research.nn",
        "research.vision",
        "research.sequence",
        "research.engine",
        "research.command_line",
        *SHARED,
    ),
}
"""What of ours the files of a folder may import: down only, and no family another."""


def imports_of(file: Path) -> Iterator[str]:
    """Every module of ours that a file imports, also within functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names = [node.module or ""]
            if node.module == "research":
                names = [f"research.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.partition(".")[0] in ("research", "launch"))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_go_down_only(folder):
    files = sorted((ROOT / "research" / folder).rglob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            allowed = any(
                name == place or name.startswith(f"{place}.") for place in MAY_IMPORT[folder]
            )
            assert allowed, f"{file.relative_to(ROOT)} must not import {name}"


def test_importing_every_family_loads_nothing_slow():
    slow = ("tensorflow", "tensorflow_datasets", "matplotlib", "PIL", "sklearn", "orbax", "grain")
    slow += ("tokenizers", "sentencepiece")
    names = [f"research.{family}" for family in (*FAMILIES, "weights")]
    program = f"import sys, {', '.join(names)}; print([x for x in {slow} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stdout + done.stderr
