"""Files of named arrays: safetensors, npz, and PyTorch's own where torch is installed."""

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from research.engine.files import write_atomically
from research.errors import UserError

# Those of safetensors; its own reader for NumPy knows no bfloat16.
_DTYPES: Mapping[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}
_TORCH = (".pth", ".pt", ".bin", ".th")
# Of arrays in several files, as Hugging Face writes large models.
_INDEX = ".index.json"
# What training scripts save a state dict under.
_AROUND = ("state_dict", "model_state_dict", "model")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name, or of all files that an index such as
    model.safetensors.index.json lists. Nothing that is pickled is executed, and what is in
    .safetensors is read from the disk when it is used.

    Raises:
      UserError: a file that is not there, of another kind, or damaged, and an index some of whose
        files or arrays are not there.
    """
    suffix = _INDEX if path.name.lower().endswith(_INDEX) else path.suffix.lower()
    if path.is_dir():
        raise UserError(f"{path}: a folder; name the file in it, or its {_INDEX}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if suffix not in (".safetensors", ".npz", *_TORCH, _INDEX):
        listed = ", ".join((*_TORCH, _INDEX))
        raise UserError(f"{path}: weights are in .safetensors, .npz, {listed}")
    try:
        if suffix == _INDEX:
            return _read_index(path)
        if suffix == ".safetensors":
            return _read_safetensors(path)
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        return _read_torch(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (
        safetensors.SafetensorError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        RuntimeError,
        ValueError,
    ) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"{path}: damaged, or no {suffix} file of arrays: {first}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name, all or nothing, as .safetensors or .npz.

    Raises:
      UserError: for another suffix, and where the file cannot be written.
    """
    match path.suffix.lower():
        case ".safetensors":
            whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            # "pt" is what PyTorch's readers ask for.
            data = safetensors.numpy.save(whole, metadata={"format": "pt"})
        case ".npz":
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **dict(arrays))
            data = buffer.getvalue()
        case _:
            raise UserError(f"{path}: write weights as .safetensors or .npz")
    write_atomically(path, data)


def _read_index(path: Path) -> dict[str, np.ndarray]:
    content: Any = json.loads(path.read_text())
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(x, str) for x in places.values()):
        raise ValueError("has no weight_map, which says in which file each array is")
    files = sorted(set(places.values()))
    absent = [file for file in files if not (path.parent / file).is_file()]
    if absent:
        listed = ", ".join(absent)
        raise UserError(f"{path}: {len(absent)} of its {len(files)} files not beside it: {listed}")
    arrays = {}
    for file in files:
        found = read_arrays(path.parent / file)
        for name in (name for name, place in places.items() if place == file):
            if name not in found:
                raise UserError(
                    f"{path.parent / file}: has no {name}, which {path.name} says is there"
                )
            arrays[name] = found[name]
    return arrays


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    with safetensors.safe_open(path, "numpy"):  # refuses what is damaged
        data = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)
    arrays = {}
    for name, tensor in header.items():
        if tensor["dtype"] not in _DTYPES:
            raise ValueError(f"{name} has the unknown type {tensor['dtype']}")
        begin, end = (start + offset for offset in tensor["data_offsets"])
        arrays[name] = data[begin:end].view(_DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    return arrays


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: only torch reads this format; pip install torch, or convert it to "
            ".safetensors where torch is installed"
        ) from None
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in _AROUND:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"holds {type(content).__name__}, not parameters by name")
    tensors = {name: x for name, x in content.items() if isinstance(x, torch.Tensor)}
    # DistributedDataParallel puts this before all.
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    return {name.removeprefix(prefix): _as_array(x, torch) for name, x in tensors.items()}


def _as_array(tensor: Any, torch: Any) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:  # NumPy itself has none
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
