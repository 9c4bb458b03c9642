"""Files of named arrays: safetensors, npz, and PyTorch's own where torch is installed."""

import io
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
_TORCH = (".pth", ".pt", ".bin")
# What training scripts save a state dict under.
_AROUND = ("state_dict", "model_state_dict", "model")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name. Nothing that is pickled is executed.

    Raises:
      UserError: a file that is not there, of another kind, or damaged.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if suffix not in (".safetensors", ".npz", *_TORCH):
        raise UserError(f"{path}: weights are in .safetensors, .npz, {', '.join(_TORCH)}")
    try:
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


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in safetensors.deserialize(path.read_bytes()):
        if tensor["dtype"] not in _DTYPES:
            raise ValueError(f"{name} has the unknown type {tensor['dtype']}")
        flat = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"])
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
