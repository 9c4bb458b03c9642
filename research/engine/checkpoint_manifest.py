"""The manifest of a checkpoint: what was written, by which damage to it is found out."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, TypedDict

import jax

from research.errors import UserError

FORMAT = 1
FILE_NAME = "manifest.json"


class DamageError(Exception):
    """A checkpoint is not what was written; the message says in what."""


class Leaf(TypedDict):
    """An array of the state. `key_impl` is the generator of random keys, None for numbers."""

    shape: list[int]
    dtype: str
    key_impl: str | None


def describe_leaf(array: jax.Array | jax.ShapeDtypeStruct) -> Leaf:
    """A leaf as the manifest has it; the generator is known of arrays only."""
    key_impl = None
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        key_impl = str(jax.random.key_impl(array))
    return {"shape": list(array.shape), "dtype": str(array.dtype), "key_impl": key_impl}


class Fingerprint(TypedDict):
    """What identifies a file's content: its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What is known of a checkpoint beside the numbers: leaves by path, files by name."""

    metric: float | None
    best_mode: Literal["min", "max"]
    leaves: dict[str, Leaf]
    extra: dict[str, Any]
    files: dict[str, Fingerprint]


def write_manifest(checkpoint: Path, manifest: Manifest) -> None:
    """Writes a manifest, which carries its own checksum, through to the disk."""
    content = {"format": FORMAT} | asdict(manifest)
    with (checkpoint / FILE_NAME).open("w") as file:
        json.dump(content | {"sha256": _digest(content)}, file)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        DamageError: it is missing or not what was written.
        UserError: it may not be read, or another version of this code wrote it.
    """
    try:
        content = json.loads((checkpoint / FILE_NAME).read_bytes())
        digest = content.pop("sha256")
    except FileNotFoundError:
        raise DamageError(f"{FILE_NAME} is missing") from None
    except PermissionError as error:
        raise UserError(f"{checkpoint / FILE_NAME}: {error.strerror}") from error
    except OSError as error:
        raise DamageError(f"{FILE_NAME} cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise DamageError(f"{FILE_NAME} cannot be parsed ({error})") from error
    if digest != _digest(content):
        raise DamageError(f"{FILE_NAME} does not hold what was written")
    if content.pop("format") != FORMAT:
        raise UserError(f"{checkpoint} was written by another version of this code")
    return Manifest(**content)


def fingerprints(folder: Path) -> dict[str, Fingerprint]:
    """The fingerprint of every file below `folder` by its path from there.

    Flushes each file to the disk first, so that it outlives a power cut.
    """
    found: dict[str, Fingerprint] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            found[path.relative_to(folder).as_posix()] = _fingerprint(file)
    return found


def check_files(folder: Path, expected: Mapping[str, Fingerprint], names: Iterable[str]) -> None:
    """Compares files below `folder` with what was written.

    Raises:
        DamageError: one of them is missing or differs.
    """
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                found = _fingerprint(file)
        except FileNotFoundError:
            raise DamageError(f"{folder.name}/{name} is missing") from None
        except OSError as error:
            raise DamageError(f"{folder.name}/{name} cannot be read ({error.strerror})") from error
        if found["size"] != expected[name]["size"]:
            sizes = f"{found['size']} bytes instead of {expected[name]['size']}"
            raise DamageError(f"{folder.name}/{name} has {sizes}")
        if found != expected[name]:
            raise DamageError(f"{folder.name}/{name} does not hold the bytes that were written")


def check_structure(
    checkpoint: Path,
    saved: Mapping[str, Leaf],
    expected: Mapping[str, jax.Array | jax.ShapeDtypeStruct],
) -> None:
    """Compares the leaves of a checkpoint with those of the state it is to be restored into.

    Raises:
        UserError: they differ in a path, shape or type.
    """
    differences = []
    for path in dict.fromkeys([*expected, *saved]):
        found = _show(saved[path]) if path in saved else "nothing"
        wanted = _show(describe_leaf(expected[path])) if path in expected else "nothing"
        if found != wanted:
            differences.append(f"\n  {path}: {wanted} expected, {found} saved")
    if differences:
        more = f"\n  and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise UserError(
            f"{checkpoint} was saved with another model or optimizer than this config's; restore "
            f"that config, or train in another folder:{''.join(differences[:5])}{more}"
        )


def _fingerprint(file: BufferedReader) -> Fingerprint:
    size, sha256 = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256")
    return {"size": size, "sha256": sha256.hexdigest()}


def _show(leaf: Leaf) -> str:
    return f"{leaf['dtype']}[{','.join(map(str, leaf['shape']))}]"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
