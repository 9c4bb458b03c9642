"""Published weights to our variables and back."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path as FilePath
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from research.engine.objective import Variables
from research.errors import UserError
from research.nn.transformer import Transformer
from research.suggestion import did_you_mean
from research.weights.entries import Entry, Modules, Path
from research.weights.files import read_arrays, write_arrays
from research.weights.inputs import Inputs, model_inputs
from research.weights.mismatch import LOADING, STARTING, Mismatch
from research.weights.naming import NAMINGS
from research.weights.positions import resize_positions as resized
from research.weights.stacking import Flat, stacked, unstacked

_HEADS = ("head", "auxiliary_head")


def load(
    path: str | FilePath,
    model: nn.Module,
    *,
    naming: str | None = None,
    image_shape: Sequence[int] | None = None,
    resize_positions: bool = False,
    drop_head: bool = False,
    seed: int = 0,
) -> Variables:
    """The variables of a model from a file in the names of torchvision, timm or Hugging Face.

    Without `naming`, the one most of whose names the file has. `image_shape` is (height, width,
    channels) of the images to come, by default those of the published weights. With
    `resize_positions`, learned positions of another grid are interpolated; with `drop_head`, a
    classifier that does not fit is initialised by the seed instead. No file says how images are
    normalised: do it as for the published model.

    Raises:
      UserError: for a file that cannot be read, and where file and model do not fit, with every
        entry that differs.
    """
    path = FilePath(path)
    arrays = read_arrays(path)
    inputs = model_inputs(model, arrays, image_shape)
    like = _like(model, inputs)
    heads = {name for name in like if drop_head and name[1].startswith(_HEADS)}
    found = fit(
        arrays, path, model, like, heads, naming, resize_positions=resize_positions, keep=True
    )
    if len(found) < len(like):
        initial = flatten(jax.device_get(jax.jit(lambda: _initial(model, inputs, seed))()))
        found = {**initial, **found}
    return traverse_util.unflatten_dict(found)


def fit(
    arrays: Mapping[str, np.ndarray],
    path: FilePath,
    model: nn.Module,
    like: Flat,
    left: Set[Path],
    naming: str | None,
    *,
    resize_positions: bool,
    keep: bool = False,
) -> Flat:
    """The arrays of a file, `path`, in the places of `like`, of its shapes and types; without those
    in `left`, or, with `keep`, without those of them that do not fit.

    Raises UserError as `load`.
    """
    expected = unstacked(like)
    chosen, entries = _choose(model, expected, naming, arrays)
    known = _names(entries)
    arrays = {NAMINGS[chosen].spelled(name, known): array for name, array in arrays.items()}
    mismatch = Mismatch(path, chosen, LOADING if keep else STARTING)
    found: Flat = {}
    used: set[str] = set()
    free = set(unstacked({name: like[name] for name in left}))
    for entry in entries:
        used.update(entry.names)
        if entry.path in free and not keep:
            continue
        target = expected[entry.path]
        missing = [name for name in entry.names if name not in arrays]
        if missing:
            if entry.path not in free:
                mismatch.missing(entry.path, missing, target.shape)
            continue
        ours = _to_ours(entry, [arrays[name] for name in entry.names])
        if ours is not None and resize_positions and entry.path[-1] == "positions":
            ours = resized(ours, len(target))
        if ours is not None and ours.shape == target.shape:
            found[entry.path] = ours.astype(_dtype(target, model))
        elif entry.path not in free:
            shapes = [arrays[name].shape for name in entry.names]
            mismatch.misshapen(entry, shapes, None if ours is None else ours.shape, target.shape)
    for name in _unexpected(model, arrays, used, chosen, expected):
        mismatch.unexpected(name, arrays[name].shape)
    mismatch.raise_if_any()
    whole = {name: like[name] for name in like if set(unstacked({name: like[name]})) <= set(found)}
    return stacked(found, whole)


def save(
    path: str | FilePath, model: nn.Module, variables: Variables, *, naming: str = "torchvision"
) -> None:
    """Writes variables to a .safetensors or .npz file in published names; what `load` reads back
    bit for bit. What other models have in collections of their own, such as the teacher of a
    distillation, is left out.

    Raises:
      UserError: for a model that has no such names, and where the file cannot be written.
    """
    own = {path: x for path, x in flatten(jax.device_get(variables)).items() if is_own(path)}
    flat = unstacked(own)
    _, entries = _choose(model, flat, naming, {})
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        theirs = entry.layout.to_theirs(flat[entry.path])
        arrays.update(zip(entry.names, theirs, strict=True))
    write_arrays(FilePath(path), arrays)


def _choose(
    model: nn.Module, expected: Flat, naming: str | None, arrays: Mapping[str, Any]
) -> tuple[str, list[Entry]]:
    """The naming, and its entries for all of our arrays."""
    if naming is not None and naming not in NAMINGS:
        raise UserError(
            f"naming {naming!r}: there is none{did_you_mean(naming, NAMINGS)}; they are "
            f"{', '.join(NAMINGS)}"
        )
    modules, kind = Modules(list(expected)), type(model).__name__
    fitting: dict[str, list[Entry]] = {}
    for name in NAMINGS if naming is None else (naming,):
        entries = NAMINGS[name].entries(model, modules)
        if entries is not None:
            fitting[name] = [entry for entry in entries if entry.path in expected]
    if not fitting:
        raise UserError(f"{kind}: has no names in {naming or ', '.join(NAMINGS)}")

    def num_known(name: str) -> int:
        known = _names(fitting[name])
        return len(known & {NAMINGS[name].spelled(array, known) for array in arrays})

    chosen = max(fitting, key=num_known)
    nameless = set(expected) - {entry.path for entry in fitting[chosen]}
    if nameless:
        listed = ", ".join(sorted("/".join(path) for path in nameless))
        raise UserError(
            f"{kind}: with these settings it has parameters that {chosen} has no names for: "
            f"{listed}"
        )
    return chosen, fitting[chosen]


def _names(entries: Sequence[Entry]) -> set[str]:
    return {name for entry in entries for name in entry.names}


def _unexpected(
    model: nn.Module, arrays: Mapping[str, Any], used: set[str], naming: str, expected: Flat
) -> list[str]:
    """Names in a file that mean nothing to the model, without those that may be left out."""
    besides = "|".join((r".*num_batches_tracked", *NAMINGS[naming].besides))
    used = used | {
        alias
        for alias, name in NAMINGS[naming].aliases
        if alias in arrays and name in used and np.array_equal(arrays[alias], arrays[name])
    }
    if getattr(model, "num_classes", 0) is None:
        # A model without its classifier leaves that of the file aside.
        modules = Modules([*expected, ("params", "head", "kernel")])
        every = NAMINGS[naming].entries(model, modules) or ()
        used = used | {name for entry in every if entry.path[1] == "head" for name in entry.names}
    return [name for name in arrays if name not in used and not re.fullmatch(besides, name)]


def _to_ours(entry: Entry, arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    """Our array; None where theirs have not even as many axes."""
    try:
        return entry.layout.to_ours(arrays)
    except (ValueError, IndexError):
        return None


def _dtype(target: np.ndarray, model: nn.Module) -> np.dtype:
    """Statistics are float32 also beside parameters of bfloat16, but not beside those of
    float64."""
    param_dtype = jnp.dtype(getattr(model, "param_dtype", "float32"))
    return np.dtype(np.float64) if param_dtype == np.float64 else target.dtype


def _like(model: nn.Module, inputs: Inputs) -> Flat:
    """Arrays of the shapes and types of the model's variables, which take no memory."""
    shapes = jax.eval_shape(lambda: _initial(model, inputs, 0))
    return {
        path: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
        for path, leaf in traverse_util.flatten_dict(shapes).items()
    }


def _initial(model: nn.Module, inputs: Inputs, seed: int) -> Variables:
    zeros = [jnp.zeros(x.shape, x.dtype) for x in inputs]
    method: Callable[..., Any] | None = None
    if getattr(model, "auxiliary", False):
        method = getattr(type(model), "with_auxiliary")  # noqa: B009
    if isinstance(model, Transformer) and model.cross_attention:
        method = _decode
    return model.init(jax.random.key(seed), *zeros, method=method)


def _decode(decoder: Transformer, x: Any, memory: Any) -> Any:
    return decoder(x, memory=memory)


def is_own(path: Path) -> bool:
    """Whether a variable is the model's, and not of one that a collection holds with its params."""
    return path[1:2] != ("params",)


def flatten(variables: Variables) -> Flat:
    """Variables by path, on the host."""
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(variables).items()}
