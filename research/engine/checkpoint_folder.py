"""The folder of a run's checkpoints: which steps there are, which is best, what to put away."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import jax

from research.engine.checkpoint_manifest import DamageError, read_manifest

TEMPORARY = ".orbax-checkpoint-tmp"  # orbax's own name for what it has not finished
_DELETED = ".deleted"


def list_steps(folder: Path) -> tuple[int, ...]:
    """The steps with a checkpoint, damaged ones included, newest first."""
    if not folder.is_dir():
        return ()
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    steps = {int(name) for name in names if name.isdecimal()}
    return tuple(sorted((step for step in steps if str(step) in names), reverse=True))


def set_aside_damaged(folder: Path, step: int) -> None:
    """Renames a checkpoint to `<step>.damaged`, so that the step can be saved again.

    Over several processes all of them call it, and none goes on before it is done.
    """
    if jax.process_index() == 0:
        (folder / str(step)).rename(_unused(folder / f"{step}.damaged"))
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"set aside {folder}/{step}")


def clean_up(folder: Path) -> None:
    """Removes what killed runs left half written or half deleted.

    For the start of a training run: it would take away what another run is writing there.
    """
    if jax.process_index() == 0 and folder.is_dir():
        for path in folder.iterdir():
            if TEMPORARY in path.name or _DELETED in path.name:
                shutil.rmtree(path, ignore_errors=True)


def delete_checkpoint(folder: Path, step: int) -> None:
    """Deletes a checkpoint; a kill half-way leaves no part of it under the step's name."""
    doomed = (folder / str(step)).rename(_unused(folder / f"{step}{_DELETED}"))
    shutil.rmtree(doomed, ignore_errors=True)


def best_first(folder: Path, steps: Iterable[int]) -> tuple[list[int], list[int]]:
    """The steps with a metric, best first and of equals the newest, and those whose manifest is
    damaged, so that nobody knows."""
    ranks: dict[int, tuple[float, int]] = {}
    unknown: list[int] = []
    for step in steps:
        try:
            manifest = read_manifest(folder / str(step))
        except DamageError:
            unknown.append(step)
            continue
        if manifest.metric is not None:
            sign = 1 if manifest.best_mode == "min" else -1
            ranks[step] = (sign * manifest.metric, -step)
    return sorted(ranks, key=ranks.__getitem__), unknown


def _unused(path: Path) -> Path:
    """`path`, or the first of `path`-2, `path`-3, … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
