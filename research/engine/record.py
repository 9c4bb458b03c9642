"""A run's folder: its config, versions, metrics, TensorBoard events, pictures and result.

`metrics.jsonl` is the truth and holds nothing but what config and seed determine, so that two
equal runs write equal bytes; what the clock says goes to `timing.jsonl`.
"""

import errno
import fcntl
import json
import math
import os
import re
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, final

import jax
import numpy as np
from jaxtyping import UInt8

from research.engine import figures
from research.engine.display import Displays, Text
from research.engine.errors import UserError

METRICS, TIMING, RESULT = "metrics.jsonl", "timing.jsonl", "result.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@final
class Record:
    """Writes a run's folder; of several processes only the main one has it enabled.

    Every method raises UserError where the folder cannot be written, and leaves nothing half
    written behind: whole files are replaced atomically, a line that does not fit is taken back.
    """

    def __init__(self, workdir: Path, *, enabled: bool = True, tensorboard: bool = True):
        self._workdir = Path(workdir)
        self._enabled = enabled
        self._tensorboard = tensorboard
        self._descriptors: dict[str, int] = {}
        self._events_file = ""
        self._purge_step: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def config(self, config: Mapping[str, Any]) -> None:
        """Writes the resolved config to `config.json`."""
        if self._enabled:
            write_json(self._workdir / "config.json", config)

    def environment(self, data_dir: Path | str) -> None:
        """Writes what the run runs on to `environment.json`, and in it, as `earlier`, what it
        ran on before it was resumed."""
        if not self._enabled:
            return
        path = self._workdir / "environment.json"
        before = read_json(path) if path.exists() else None
        earlier = [*before.pop("earlier", []), before] if before else []
        write_json(path, {**environment(data_dir), "earlier": earlier})

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line to `metrics.jsonl`: floats, or arrays with one entry a trial."""
        self._append_row(METRICS, step, values, tag_prefix="")

    def timing(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line to `timing.jsonl`: numbers that differ between two equal runs."""
        self._append_row(TIMING, step, values, tag_prefix="timing/")

    def displays(self, step: int, displays: Displays) -> None:
        """Saves pictures to `images/` and texts to `texts/`, named with their step."""
        if not self._enabled:
            return
        for name, display in displays.items():
            stem = f"{re.sub(r'[^\w.-]', '_', name)}_{step:08d}"
            if isinstance(display, Text):
                text = "\n\n".join(display.texts).encode("utf-8", "backslashreplace")
                write_atomically(self._workdir / "texts" / f"{stem}.txt", text + b"\n")
                self._append_event(step, _text_summary, name, text.decode())
            else:
                pixels = figures.draw(display)
                png = figures.encode_png(pixels)
                write_atomically(self._workdir / "images" / f"{stem}.png", png)
                self._append_event(step, _image_summary, name, pixels, png)

    def result(self, values: Mapping[str, Any]) -> None:
        """Writes `result.json`: the numbers that the run ends with."""
        if self._enabled:
            write_json(self._workdir / RESULT, values)

    def rewind(self, step: int) -> None:
        """Forgets the lines after `step` (-1: all of them) and a half-written last one, for a
        run that goes on from its checkpoint of that step."""
        if not self._enabled:
            return
        self.close()
        self._purge_step = step + 1
        for path in (self._workdir / METRICS, self._workdir / TIMING):
            if path.exists():
                kept = [line for row, line in _rows(path) if row["step"] <= step]
                write_atomically(path, b"".join(kept))

    def sync(self) -> None:
        """Makes the lines written so far survive a power cut. Called before a checkpoint is
        saved, it keeps checkpoints from being ahead of their metrics."""
        for name, descriptor in self._descriptors.items():
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise _cannot_write(self._workdir / name, error) from error

    def close(self) -> None:
        """Closes all files; whatever is written later opens them again."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
        self._events_file = ""

    def _append_row(
        self, file: str, step: int, values: Mapping[str, Any], *, tag_prefix: str
    ) -> None:
        if not self._enabled:
            return
        if "step" in values:
            raise ValueError("a metric must not be called 'step': it is every line's first field")
        numbers = {name: np.asarray(values[name], np.float64).tolist() for name in sorted(values)}
        self._append(file, _json({"step": int(step), **numbers}).encode() + b"\n")
        self._append_event(step, _scalars_summary, tag_prefix, numbers)

    def _append(self, name: str, data: bytes) -> None:
        path = self._workdir / name
        try:
            if name not in self._descriptors:
                path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._descriptors[name] = os.open(path, flags, 0o644)
            _write_all(self._descriptors[name], data)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def _append_event(self, step: int, summary: Callable[..., Any], *arguments: Any) -> None:
        # Not tensorboardX's SummaryWriter: on a full disk its thread dies and training waits for
        # it forever, and a writer opened within the same second overwrites the first one's file.
        if not self._tensorboard:
            return
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        now = time.time()
        events = [Event(wall_time=now, step=step, summary=summary(*arguments))]
        if not self._events_file:
            # TensorBoard reads files in the order of their names.
            count = len(list((self._workdir / "tensorboard").glob("events.out.tfevents.*")))
            name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{count:04d}"
            self._events_file = f"tensorboard/{name}"
            if self._purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                events.insert(0, Event(wall_time=now, step=self._purge_step, session_log=start))
            events.insert(0, Event(wall_time=now, file_version="brain.Event:2"))
        self._append(self._events_file, b"".join(map(_framed, events)))


@final
class WorkdirLock:
    """Keeps every other process out of a run's folder while entered.

    The kernel releases it when the process ends, however it ends. Raises UserError naming the
    holder where there is one.
    """

    def __init__(self, workdir: Path):
        self._path = Path(workdir) / ".lock"
        self._descriptor: int | None = None
        # A forked data worker shares the lock and would keep it when this process is killed.
        os.register_at_fork(after_in_child=self._close)

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            self._lock(self._descriptor)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": _now()}
            os.ftruncate(self._descriptor, 0)
            _write_all(self._descriptor, _json(holder).encode())
        except OSError as error:
            self._close()
            raise _cannot_write(self._path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                holder = json.loads(os.pread(descriptor, 4096, 0))
                who = f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
            except (ValueError, KeyError, TypeError):
                who = "another process"
            self._close()
            raise UserError(
                f"{self._path.parent} is in use by {who}. Wait for it, end it, or choose another "
                "--workdir."
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            warnings.warn(
                f"{self._path.parent}: its file system has no locks; make sure that no other run "
                "uses this folder",
                stacklevel=3,
            )

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, also while the run is writing it.

    Raises UserError where there is none or a line but the last is damaged.
    """
    return [row for row, _ in _rows(Path(workdir) / METRICS)]


def read_timing(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `timing.jsonl`, as `read_metrics` reads its own."""
    return [row for row, _ in _rows(Path(workdir) / TIMING)]


def read_result(workdir: Path) -> dict[str, Any]:
    """What the run ended with. Raises UserError where it has not."""
    return read_json(Path(workdir) / RESULT)


def environment(data_dir: Path | str) -> dict[str, Any]:
    """What this process runs on: versions, devices, code and command line."""
    devices = jax.devices()
    return {
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "hostname": socket.gethostname(),
        "git": git_revision(Path(__file__).parent),
        "command": sys.argv,
        "started": _now(),
        "data_dir": str(data_dir),
    }


def git_revision(folder: Path) -> dict[str, Any] | None:
    """The commit checked out in `folder` and whether files differ from it (new ones included);
    None outside a repository or without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30, text=True)
        return done.stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces the file by `data`, or leaves it as it was; raises UserError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise _cannot_write(path, error) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file atomically; NaN and infinities become strings. Raises UserError."""
    write_atomically(path, _json(value, indent=2).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """A file that `write_json` wrote. Raises UserError where it is missing or damaged."""
    try:
        return _with_floats(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: is {path.parent} the folder of a run?") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Rows and their bytes; a last line that is not whole is left out."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: is {path.parent} the folder of a run?") from None
    for number, line in enumerate(lines, 1):
        try:
            row = _with_floats(json.loads(line))
            row["step"], whole = int(row["step"]), line.endswith(b"\n")
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            yield row, line
        elif number < len(lines):
            raise UserError(f"{path}, line {number} is damaged: remove it to go on")


def _write_all(descriptor: int, data: bytes) -> None:
    """Appends all of `data` or nothing."""
    size = os.fstat(descriptor).st_size
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def _cannot_write(path: Path, error: OSError) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        fix = "Free some space there"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        fix = "Make the folder writable"
    else:
        fix = "Check the folder"
    return UserError(
        f"cannot write {path}: {error.strerror}. {fix}, or choose another --workdir; a run that "
        "has checkpoints goes on from the last one."
    )


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_strict(value), indent=indent, allow_nan=False)


def _strict(value: Any) -> Any:
    """Plain JSON values: NaN, Infinity and -Infinity as strings, for JSON has no such numbers."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _strict(np.asarray(value).tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _with_floats(value: Any) -> Any:
    """The inverse of `_strict` for its strings."""
    if isinstance(value, dict):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _framed(event: Any) -> bytes:
    """A TFRecord: length and data, each followed by its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]


def _scalars_summary(prefix: str, numbers: Mapping[str, float | list[float]]) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    values = []
    for name, number in numbers.items():
        if isinstance(number, list):
            tags = {f"{prefix}{name}/trial_{trial}": one for trial, one in enumerate(number)}
        else:
            tags = {prefix + name: number}
        values += [Summary.Value(tag=tag, simple_value=one) for tag, one in tags.items()]
    return Summary(value=values)


def _image_summary(name: str, pixels: UInt8[np.ndarray, "height width 3"], png: bytes) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    height, width, channels = pixels.shape
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=name, image=image)])


def _text_summary(name: str, text: str) -> Any:
    from tensorboardX.summary import text as summary

    # Indented, TensorBoard's Markdown shows it as it is.
    return summary(name, "\n".join("    " + line for line in text.splitlines()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
