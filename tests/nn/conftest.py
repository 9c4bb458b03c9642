"""What published PyTorch models answer: fixtures drawn as their README says."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

FOLDER = Path(
    os.environ.get("RESEARCH_PARITY_DIR", Path(__file__).parents[3] / "shared" / "parity")
)


class Parity(NamedTuple):
    """A model's parameters are drawn when asked for, in PyTorch's shapes and float64."""

    meta: dict[str, Any]
    outputs: dict[str, np.ndarray]

    def _normal(self, name: str, shape: list[int]) -> np.ndarray:
        return self._generator(name).normal(size=shape)

    def _generator(self, name: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.meta['seed']}/{name}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))

    def param(self, name: str) -> np.ndarray:
        shape = self.meta["params"][name]
        if len(shape) >= 2:
            std = np.sqrt(2 / (shape[0] + np.prod(shape) / shape[0])) * self.meta["gain"]
            return self._normal(name, shape) * std
        if name.endswith(("weight", "gamma", "scale")):
            return 0.5 + self._generator(name).random(shape)
        return 0.1 * self._normal(name, shape)

    def input(self, name: str) -> np.ndarray:
        spec = self.meta["inputs"][name]
        if spec["kind"] == "values":
            return np.asarray(spec["values"], spec["dtype"])
        if spec["kind"] == "normal":
            return self._normal(name, spec["shape"])
        if spec["kind"] == "integers":
            return self._generator(name).integers(spec["low"], spec["high"], spec["shape"])
        raise NotImplementedError(f"input {name} of kind {spec['kind']}")


@pytest.fixture
def parity() -> Callable[[str], Parity]:
    """Loads a fixture by name; the test is skipped where the folder is absent."""

    def load(name: str) -> Parity:
        path = FOLDER / "fixtures" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"no parity fixtures: {path} is absent (set RESEARCH_PARITY_DIR)")
        with np.load(path) as archive:
            outputs = {key: archive[key] for key in archive.files if key != "meta"}
            return Parity(json.loads(str(archive["meta"])), outputs)

    return load
