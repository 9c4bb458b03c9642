"""A run's folder: its config, versions, metrics, TensorBoard events, pictures, sounds and result.

`metrics.jsonl` is the truth and holds nothing but what config and seed determine, so that two
equal runs write equal bytes; what the clock says goes to `timing.jsonl`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, final

import numpy as np

from research.engine.display import Display, Displays, Music, Sound, Text
from research.engine.draw import save_displays
from research.engine.environment import environment
from research.engine.files import (
    GrowingFile,
    encode_json,
    read_json,
    read_rows,
    write_atomically,
    write_json,
)
from research.engine.tensorboard import Events

METRICS, TIMING, RESULT = "metrics.jsonl", "timing.jsonl", "result.json"
_FOLDERS = {Text: "texts", Music: "sounds", Sound: "sounds"}


@final
class Record:
    """Writes a run's folder; of several processes only the main one has it enabled.

    Every method raises UserError where the folder cannot be written, and leaves nothing half
    written behind: whole files are replaced atomically, a line that does not fit is taken back.
    """

    def __init__(self, workdir: Path, *, enabled: bool = True, tensorboard: bool = True):
        self._workdir = Path(workdir)
        self._enabled = enabled
        self._metrics = GrowingFile(self._workdir / METRICS)
        self._timing = GrowingFile(self._workdir / TIMING)
        self._events = Events(self._workdir / "tensorboard") if tensorboard else None

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
        self._append_row(self._metrics, step, values, tag_prefix="")

    def timing(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line to `timing.jsonl`: numbers that differ between two equal runs."""
        self._append_row(self._timing, step, values, tag_prefix="timing/")

    def displays(self, step: int, displays: Displays) -> None:
        """Saves pictures to `images/`, texts to `texts/`, music and sound to `sounds/`, named with
        their step."""
        if not self._enabled:
            return
        for name, display in displays.items():
            folder = self._workdir / _FOLDERS.get(type(display), "images")
            (path,) = save_displays(folder, {name: display}, f"_{step:08d}")
            if self._events is not None:
                _add(self._events, step, name, display, path.read_bytes())

    def result(self, values: Mapping[str, Any]) -> None:
        """Writes `result.json`: the numbers that the run ends with."""
        if self._enabled:
            write_json(self._workdir / RESULT, values)

    def reopen(self) -> None:
        """Removes the `result.json` of a finished run, for it goes on."""
        if self._enabled:
            (self._workdir / RESULT).unlink(missing_ok=True)

    def rewind(self, step: int) -> None:
        """Forgets the lines after `step` (-1: all of them) and a half-written last one, for a
        run that goes on from its checkpoint of that step."""
        if not self._enabled:
            return
        self.close()
        if self._events is not None:
            self._events.rewind(step)
        for path in (self._workdir / METRICS, self._workdir / TIMING):
            if path.exists():
                kept = [line for row, line in read_rows(path) if row["step"] <= step]
                write_atomically(path, b"".join(kept))

    def sync(self) -> None:
        """Makes the lines written so far survive a power cut. Called before a checkpoint is
        saved, it keeps checkpoints from being ahead of their metrics."""
        for file in self._files():
            file.sync()

    def close(self) -> None:
        """Closes all files; whatever is written later opens them again."""
        for file in self._files():
            file.close()

    def _files(self) -> list[GrowingFile | Events]:
        return [self._metrics, self._timing, *([self._events] if self._events else [])]

    def _append_row(
        self, file: GrowingFile, step: int, values: Mapping[str, Any], *, tag_prefix: str
    ) -> None:
        if not self._enabled:
            return
        if "step" in values:
            raise ValueError("a metric must not be called 'step': it is every line's first field")
        numbers = {name: np.asarray(values[name], np.float64).tolist() for name in sorted(values)}
        file.append(encode_json({"step": int(step), **numbers}).encode() + b"\n")
        if self._events is not None:
            self._events.scalars(step, {tag_prefix + name: x for name, x in numbers.items()})


def _add(events: Events, step: int, name: str, display: Display, content: bytes) -> None:
    """Shows a saved display in TensorBoard, which plays no MIDI."""
    match display:
        case Text():
            events.text(step, name, content.decode())
        case Sound():
            events.sound(step, name, content, display.sample_rate)
        case Music():
            pass
        case _:
            events.image(step, name, content)


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, also while the run is writing it.

    Raises UserError where there is none or a line but the last is damaged.
    """
    return [row for row, _ in read_rows(Path(workdir) / METRICS)]
