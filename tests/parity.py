"""What published PyTorch models and losses answer, drawn as the fixtures' README says."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(
    os.environ.get("RESEARCH_PARITY_DIR", Path(__file__).parents[2] / "shared" / "parity")
)

OWN = Path(__file__).parent / "fixtures"
"""Those of image models, which are always there."""


class Fixture:
    """A published model: parameters are drawn when asked for, in PyTorch's shapes and float64.

    `name` is a file below the folder; the test is skipped where the folder is absent.
    """

    def __init__(self, name: str):
        with np.load(_existing(f"{name}.npz")) as archive:
            self.meta: dict[str, Any] = json.loads(str(archive["meta"]))
            self.outputs = {key: archive[key] for key in archive.files if key != "meta"}

    def param(self, name: str) -> np.ndarray:
        """A parameter or a buffer."""
        shape = self.meta["params"].get(name)
        shape = self.meta["buffers"][name] if shape is None else shape
        rng = self._rng(name)
        if name.endswith("running_var"):
            return 0.5 + rng.random(shape)
        if name.endswith("running_mean"):
            return 0.1 * rng.normal(size=shape)
        if len(shape) >= 2:
            std = np.sqrt(2 / (shape[0] + np.prod(shape) / shape[0])) * self.meta["gain"]
            return rng.normal(size=shape) * std
        if name.endswith(("weight", "gamma", "scale")):
            return 0.5 + rng.random(shape)
        return 0.1 * rng.normal(size=shape)

    def input(self, name: str) -> np.ndarray:
        """An input of the published model."""
        spec, rng = self.meta["inputs"][name], self._rng(name)
        match spec["kind"]:
            case "values":
                return np.asarray(spec["values"], spec["dtype"])
            case "normal":
                return rng.normal(size=spec["shape"])
            case "uniform":
                return rng.random(spec["shape"])
            case "integers":
                return rng.integers(spec["low"], spec["high"], spec["shape"])
        raise NotImplementedError(f"input {name} of kind {spec['kind']}")

    def norm(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters and running statistics of a batch normalisation."""
        return (
            {"scale": self.param(f"{name}.weight"), "bias": self.param(f"{name}.bias")},
            {"mean": self.param(f"{name}.running_mean"), "var": self.param(f"{name}.running_var")},
        )

    def assert_equal(self, got: Any, name: str) -> None:
        """Compares the part of an output that the fixture keeps, relative to its scale."""
        expected = self.outputs[name]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * expected.std(), err_msg=name)

    def _rng(self, name: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.meta['seed']}/{name}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))


def load_table(name: str) -> dict[str, Any]:
    """Published values and gradients of losses or optimizers; skips where absent."""
    return json.loads(_existing(f"more/tables/{name}.json").read_text())


def load_counts() -> dict[str, int]:
    """How many parameters published models have, by name; skips where absent."""
    lines = _existing("PARAMS.tsv").read_text().splitlines()[1:]
    return {name: int(count) for name, count, _ in (line.split("\t") for line in lines)}


def _existing(name: str) -> Path:
    own = OWN / name.removeprefix("more/").removeprefix("fixtures/")
    path = own if own.exists() else FOLDER / name
    if not path.exists():
        pytest.skip(f"no parity fixtures: {path} is absent (set RESEARCH_PARITY_DIR)")
    return path
