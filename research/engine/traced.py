"""Mistakes that show when shapes are traced, told by the setting they are of."""

import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from flax.errors import ScopeParamShapeError

from research.engine.component import Component
from research.errors import UserError


@contextmanager
def told_by_setting(
    objective: Component, data: str, transforms: Sequence[Any], batch: Any
) -> Iterator[None]:
    """Turns what a transform or a model of ours refuses inside into a UserError.

    `data` is "data" or the path of an evaluation, `batch` what its source gives, and `transforms`
    what is then done to it. Any other error is for whoever wrote the code that raised it.
    """
    try:
        yield
    except (ValueError, ScopeParamShapeError) as error:
        frames = _frames(error)
        unfit = isinstance(error, ScopeParamShapeError) and data != "data"
        if not unfit and not _is_ours(frames):
            raise
        for place, transform in enumerate(transforms):
            try:
                batch = jax.eval_shape(lambda x, one=transform: one(jax.random.key(0), x), batch)
            except ValueError as refusal:
                raise UserError(f"{data}.transforms.{place}: {refusal}") from error
        examples = ", ".join(f"{name} {x.shape[1:]} {x.dtype}" for name, x in batch.items())
        seen = f"after its transforms, an example of {data} has {examples}"
        if unfit:
            raise UserError(f"{data}: {_misfit(error)}; {seen}") from error
        models = _models(objective, "objective")
        kinds = [type(frame.f_locals.get("self")) for frame in frames]
        where = [models[kind] for kind in kinds if kind in models] or ["objective"]
        raise UserError(f"{where[-1]}: {error}; {seen}") from error


@contextmanager
def told_by_path(path: str) -> Iterator[None]:
    """Puts the path of a setting before what is refused inside, by what was built from it."""
    try:
        yield
    except ScopeParamShapeError as error:
        raise UserError(f"{path}: {_misfit(error)}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except ValueError as error:
        if not _is_ours(_frames(error)):
            raise
        raise UserError(f"{path}: {error}") from error


def _frames(error: Exception) -> list[types.FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _is_ours(frames: Sequence[types.FrameType]) -> bool:
    return frames[-1].f_globals["__name__"].startswith("research.")


def _misfit(error: Exception) -> str:
    reason = str(error).partition(" (https://")[0]
    return f"its examples do not fit the parameters: {reason}"


def _models(value: Any, path: str) -> dict[Any, str]:
    """The paths and names of components, by what constructs them."""
    items: Any = ()
    found: dict[Any, str] = {}
    if isinstance(value, Component):
        found, value = {value.constructor: f"{path}: {value.path}"}, value.arguments
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple):
        items = enumerate(value)
    for key, item in items:
        found |= _models(item, f"{path}.{key}")
    return found
