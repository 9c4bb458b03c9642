"""Weights to start a run from: published ones, or those of another run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal

import jax
import numpy as np

from research.engine.objective import Objective
from research.engine.rules import compile_patterns
from research.errors import UserError
from research.weights.convert import fit, flatten, is_own
from research.weights.entries import Path
from research.weights.files import read_arrays
from research.weights.positions import resize_positions as resized
from research.weights.stacking import Flat, stacked, unstacked

Shapes = Mapping[str, jax.ShapeDtypeStruct]


@dataclass(frozen=True)
class Pretrained:
    """Variables from a file of published weights, or from a run's folder, at `step`.

    `take` and `leave` are regular expressions over whole paths of this run's variables, such as
    "params/stem/.*" and "params/head/.*": what some pattern of `take` matches and none of `leave`
    is taken, and must be there; all else starts as without.

    Of a run, `rename` turns its paths into this one's: each pair is a regular expression over a
    whole path and what replaces it, such as ("params/backbone/(.*)", "params/\\\\1"); layers may be
    scanned in one of the two only. Its tokenizers must be this run's, but with
    `allow_other_tokenizer`: for runs that take nothing that depends on tokens. Of a file, `naming`
    says whose names it has; without, that is found out. `resize_positions` interpolates learned
    positions of another grid of patches.
    """

    path: str
    take: tuple[str, ...] = (".*",)
    leave: tuple[str, ...] = ()
    step: Literal["latest", "best"] = "latest"
    rename: tuple[tuple[str, str], ...] = ()
    naming: str | None = None
    resize_positions: bool = False
    allow_other_tokenizer: bool = False

    def __call__(self, objective: Objective, variables: Shapes) -> Mapping[str, np.ndarray]:
        """Arrays by path, of these variables' shapes and types.

        Raises UserError where the file or the run does not have what is to be taken.
        """
        wanted = self._wanted(variables)
        if not FilePath(self.path).exists():
            raise UserError(f"init_from.path = {self.path!r}: no such file, and no run's folder")
        if FilePath(self.path).is_dir():
            return self._of_run(wanted)
        return self._of_file(objective, variables, wanted)

    def origin(self) -> FilePath | None:
        """The run's folder; None for a file, and where its tokenizers may be others."""
        path = FilePath(self.path)
        return None if self.allow_other_tokenizer or not path.is_dir() else path

    def _wanted(self, variables: Shapes) -> Shapes:
        take, leave = (
            compile_patterns(patterns, f"init_from.{name}")
            for name, patterns in (("take", self.take), ("leave", self.leave))
        )
        for pattern in (*take, *leave):
            if not any(pattern.fullmatch(path) for path in variables):
                listed = ", ".join(list(variables)[:8])
                raise UserError(
                    f"init_from: {pattern.pattern!r} matches no variable's whole path; they are "
                    f"{listed}, …"
                )
        return {
            path: shape
            for path, shape in variables.items()
            if any(pattern.fullmatch(path) for pattern in take)
            and not any(pattern.fullmatch(path) for pattern in leave)
        }

    def _of_run(self, wanted: Shapes) -> dict[str, np.ndarray]:
        from research.engine.restore import load_run

        run = load_run(self.path, self.step)
        named = {"/".join(path): x for path, x in flatten(run.variables).items()}
        patterns = compile_patterns((old for old, _ in self.rename), "init_from.rename")
        for pattern, (_, new) in zip(patterns, self.rename, strict=True):
            named = {_renamed(pattern, new, path): x for path, x in named.items()}
        theirs, like = _by_path(named), _like(wanted)
        # Layers may be scanned there and side by side here, or the other way round.
        same = {path: x for path, x in like.items() if path in theirs}
        other = {path: x for path, x in like.items() if path not in theirs}
        expected, arrays = same | unstacked(other), unstacked(theirs) | theirs
        if self.resize_positions:
            arrays |= {
                path: resized(arrays[path], len(x))
                for path, x in expected.items()
                if path[-1] == "positions" and path in arrays
            }
        wrong = [
            f"  {'/'.join(path)} {x.shape}: "
            + (f"{arrays[path].shape} in the run" if path in arrays else "not in the run")
            for path, x in expected.items()
            if path not in arrays or arrays[path].shape != x.shape
        ]
        if wrong:
            raise UserError(
                f"init_from: {self.path} does not have what is to be taken\n"
                + "\n".join(wrong)
                + "\nName it in init_from.leave, give the run's paths other names by "
                "init_from.rename or, for positions of another grid, set "
                "init_from.resize_positions."
            )
        taken = {path: arrays[path] for path in same} | stacked(arrays, other)
        return {"/".join(path): taken[path].astype(x.dtype) for path, x in like.items()}

    def _of_file(
        self, objective: Objective, variables: Shapes, wanted: Shapes
    ) -> dict[str, np.ndarray]:
        model: Any = getattr(objective, "model", None)
        if model is None:
            raise UserError(
                f"init_from: {type(objective).__name__} has no single model whose published names "
                "are known; convert the file to a run's, or start from a run's folder"
            )
        like = {
            path: x
            for path, x in _like(variables).items()
            if is_own(path) and ("/".join(path) in wanted or path[0] in ("params", "batch_stats"))
        }
        left: set[Path] = {path for path in like if "/".join(path) not in wanted}
        path = FilePath(self.path)
        found = fit(
            read_arrays(path),
            path,
            model,
            like,
            left,
            self.naming,
            resize_positions=self.resize_positions,
        )
        return {"/".join(path): array for path, array in found.items()}


def _by_path[Value](values: Mapping[str, Value]) -> dict[Path, Value]:
    return {tuple(path.split("/")): value for path, value in values.items()}


def _like(shapes: Shapes) -> Flat:
    """Arrays of these shapes and types, which take no memory."""
    return {
        path: np.broadcast_to(np.zeros((), x.dtype), x.shape)
        for path, x in _by_path(shapes).items()
    }


def _renamed(pattern: re.Pattern[str], new: str, path: str) -> str:
    match = pattern.fullmatch(path)
    return match.expand(new) if match else path
