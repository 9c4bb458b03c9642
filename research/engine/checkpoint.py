"""Checkpoints: written in the background, whole or not at all, verified before they are used.

A checkpoint is a folder named after its step. orbax writes the arrays into `state/`; when all
are there, and before orbax gives its temporary folder the final name, `manifest.json` is added:
the SHA-256 of every file, the shape and type of every array, and what else the run needs.
"""

import errno
import functools
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from research.engine.checkpoint_arrays import named_leaves, orbax, read_state, stored_arrays
from research.engine.checkpoint_folder import (
    TEMPORARY,
    best_first,
    clean_up,
    delete_checkpoint,
    list_steps,
    set_aside_damaged,
)
from research.engine.checkpoint_manifest import (
    DamageError,
    Manifest,
    check_files,
    check_structure,
    describe_leaf,
    fingerprints,
    read_manifest,
    write_manifest,
)
from research.errors import UserError, WriteError

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Restored",
    "clean_up",
    "list_steps",
    "log_damage",
    "restore",
    "set_aside_damaged",
]

logger = logging.getLogger(__name__)


class CheckpointError(WriteError):
    """A checkpoint could not be written, or no undamaged one be found."""


@dataclass(frozen=True)
class Restored[State]:
    """What a checkpoint held; `extra` is the dictionary it was saved with."""

    step: int
    state: State
    extra: dict[str, Any]


class Checkpoints:
    """Writes the checkpoints of one run into `folder`, in the background.

    Keeps the `keep_latest` newest, and the `keep_best` of the smallest (`best_mode="min"`) or
    largest metric. An older one is deleted only after a newer one is whole on the disk. Over
    several processes all of them make the same calls, and share the folder.
    """

    def __init__(
        self,
        folder: Path,
        keep_latest: int = 1,
        keep_best: int = 0,
        best_mode: Literal["min", "max"] = "min",
    ):
        if keep_latest < 1 or keep_best < 0 or best_mode not in ("min", "max"):
            raise UserError(
                "checkpoints need keep_latest >= 1, keep_best >= 0 and best_mode 'min' or 'max', "
                f"not {keep_latest}, {keep_best} and {best_mode!r}"
            )
        self._folder = folder.absolute()
        self._keep_latest = keep_latest
        self._keep_best = keep_best
        self._best_mode = best_mode
        self._writing: tuple[int, Manifest] | None = None

    @functools.cached_property
    def _checkpointer(self) -> Any:
        # Made by the first save: orbax takes a second to import, which no first step waits for.
        ocp = orbax()
        # Weights hardly compress: uncompressed, 120 MB were written in 1.0 s instead of 1.5.
        handler = ocp.PyTreeCheckpointHandler(use_compression=False)
        return ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(state=handler),
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal),
        )

    def save(
        self, step: int, state: Any, extra: Mapping[str, Any], metric: float | None = None
    ) -> None:
        """Copies a pytree of jax arrays to the host, returns, and goes on writing.

        Waits for the save before. Once this returns, `state` may be donated or deleted. `extra`
        is kept as JSON keeps it (tuples become lists); over several processes, process 0's is.

        Raises:
            CheckpointError: this save or the one before failed.
            UserError: there is a checkpoint of this step.
        """
        self.wait()
        checkpoint = self._folder / str(step)
        if checkpoint.exists():
            raise UserError(f"{checkpoint} exists: resume that run, or write to another folder")
        leaves = named_leaves(state)
        for path, leaf in leaves.items():
            if not isinstance(leaf, jax.Array):
                raise TypeError(f"{path} is a {type(leaf).__name__}; state must be jax arrays")
        manifest = Manifest(
            metric=None if metric is None or math.isnan(metric) else float(metric),
            best_mode=self._best_mode,
            leaves={path: describe_leaf(leaf) for path, leaf in leaves.items()},
            extra=json.loads(json.dumps(extra)),
            files={},
        )
        arrays = stored_arrays(leaves)
        args = orbax().args
        self._writing = step, manifest
        try:
            self._checkpointer.save(checkpoint, args=args.Composite(state=args.PyTreeSave(arrays)))
        except Exception as error:
            failure = self._failure(error)
            if isinstance(error, OSError):
                raise failure from error
            raise

    def wait(self) -> None:
        """Waits until the last save is whole on the disk, then deletes what it replaces.

        Raises:
            CheckpointError: that save failed.
        """
        if self._writing is None:
            return
        try:
            self._checkpointer.wait_until_finished()
        except Exception as error:
            raise self._failure(error) from error
        step, _ = self._writing
        self._writing = None
        if jax.process_index() == 0:
            self._delete_replaced(step)

    def close(self) -> None:
        """Waits as `wait` does and ends the background threads."""
        try:
            self.wait()
        finally:
            if "_checkpointer" in self.__dict__:
                self._checkpointer.close()

    def _seal(self) -> None:
        """Adds the manifest. orbax calls this on process 0, after the last write of every process
        and before the temporary folder gets its final name."""
        assert self._writing is not None
        step, manifest = self._writing
        temporary = self._folder / f"{step}{TEMPORARY}"
        write_manifest(temporary, replace(manifest, files=fingerprints(temporary / "state")))

    def _failure(self, error: Exception) -> CheckpointError:
        """The error to raise for a save that failed; removes what there is of it."""
        assert self._writing is not None
        step, _ = self._writing
        self._writing = None
        if jax.process_index() == 0:
            shutil.rmtree(self._folder / f"{step}{TEMPORARY}", ignore_errors=True)
        reason = str(error)
        if any(os.strerror(code) in reason for code in (errno.ENOSPC, errno.EDQUOT)):
            reason = "no space left; free some and start the same command again to resume"
        earlier = ", ".join(map(str, list_steps(self._folder))) or "none"
        return CheckpointError(
            f"{self._folder}: checkpoint of step {step} was not written: {reason}. "
            f"Earlier checkpoints are untouched: {earlier}"
        )

    def _delete_replaced(self, saved: int) -> None:
        steps = list_steps(self._folder)
        best, _ = best_first(self._folder, steps) if self._keep_best else ([], [])
        kept = {saved, *steps[: self._keep_latest], *best[: self._keep_best]}
        for step in set(steps) - kept:
            delete_checkpoint(self._folder, step)


def log_damage(step: int, reason: str) -> None:
    """Warns that a checkpoint is passed over."""
    logger.warning("the checkpoint of step %d is damaged and passed over: %s", step, reason)


def restore[State](
    folder: Path,
    abstract_state: State,
    step: int | Literal["latest", "best"] = "latest",
    on_damage: Callable[[int, str], None] = log_damage,
) -> Restored[State]:
    """The newest, the best, or a given checkpoint, verified.

    `abstract_state` has the structure, shapes, types and (where given) shardings that come back:
    a pytree of `jax.ShapeDtypeStruct` or arrays. The checkpoint may have been written with other
    shardings or another number of devices. A damaged checkpoint is reported to `on_damage`, left
    as it is, and the next newest (next best) is taken; a given step has no such substitute.

    Raises:
        CheckpointError: every checkpoint that qualifies is damaged.
        UserError: none qualifies, or its arrays are not those of `abstract_state`.
    """
    folder = folder.absolute()
    damaged: dict[int, str] = {}
    while (candidate := _candidate(folder, step, damaged)) is not None:
        checkpoint = folder / str(candidate)
        defect = None
        try:
            manifest = read_manifest(checkpoint)
            check_structure(checkpoint, manifest.leaves, named_leaves(abstract_state))
            # The processes share the work of reading every file, and then the verdict.
            names = sorted(manifest.files)[jax.process_index() :: jax.process_count()]
            check_files(checkpoint / "state", manifest.files, names)
        except DamageError as error:
            defect = str(error)
        if (defect := _agree(defect)) is not None:
            if not _deleted_meanwhile(checkpoint):
                damaged[candidate] = defect
                on_damage(candidate, defect)
            continue
        try:
            state = read_state(checkpoint / "state", manifest.leaves, abstract_state)
        except Exception:
            if not _deleted_meanwhile(checkpoint):
                raise
            continue
        return Restored(candidate, state, manifest.extra)
    if damaged:
        defects = "".join(f"\n  step {number}: {defect}" for number, defect in damaged.items())
        raise CheckpointError(
            f"{folder} has no undamaged checkpoint to restore; nothing was deleted. Put one back "
            f"from a copy, or begin again in another --workdir:{defects}"
        )
    available = ", ".join(map(str, list_steps(folder))) or "none"
    wanted = "checkpoint with a metric" if step == "best" else f"checkpoint ({step})"
    raise UserError(f"{folder} has no {wanted}; steps there: {available}")


def _candidate(
    folder: Path, step: int | Literal["latest", "best"], damaged: Collection[int]
) -> int | None:
    """The checkpoint to try next, the same on all processes."""
    steps = [number for number in list_steps(folder) if number not in damaged]
    if step == "best":
        best, unknown = best_first(folder, steps)
        steps = unknown + best  # those unknown may be the best: their damage has to be told
    elif step != "latest":
        steps = [number for number in steps if number == step]
    chosen = steps[0] if steps else -1
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
    return chosen if chosen >= 0 else None


def _deleted_meanwhile(checkpoint: Path) -> bool:
    """Whether a training run has replaced it while this process, evaluating, read it."""
    return jax.process_count() == 1 and not checkpoint.exists()


def _agree(defect: str | None) -> str | None:
    """A defect that any process found, on all of them."""
    if jax.process_count() == 1:
        return defect
    from jax.experimental import multihost_utils

    found = multihost_utils.process_allgather(np.asarray(defect is not None))
    if defect is None and found.any():
        return f"process {int(found.argmax())} found damage and says which"
    return defect
