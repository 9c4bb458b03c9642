"""A run's TensorBoard events.

Not tensorboardX's SummaryWriter: on a full disk its thread dies and training waits for it
forever, and a writer opened within the same second overwrites the first one's file.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from research.engine.files import GrowingFile


@final
class Events:
    """Writes event files into `folder`, a new one after every `rewind` or `close`.

    Every method raises UserError where the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._file: GrowingFile | None = None
        self._purge_step: int | None = None

    def scalars(self, step: int, numbers: Mapping[str, float | list[float]]) -> None:
        """Appends numbers by tag; a list has one number a trial."""
        from tensorboardX.proto.summary_pb2 import Summary

        tags: dict[str, float] = {}
        for name, number in numbers.items():
            if isinstance(number, list):
                tags |= {f"{name}/trial_{trial}": one for trial, one in enumerate(number)}
            else:
                tags[name] = number
        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in tags.items()]
        self._append(step, Summary(value=values))

    def image(self, step: int, name: str, png: bytes) -> None:
        """Appends a picture, given as a PNG file's bytes."""
        from tensorboardX.proto.summary_pb2 import Summary

        width, height = struct.unpack(">II", png[16:24])  # where PNG's header has them
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._append(step, Summary(value=[Summary.Value(tag=name, image=image)]))

    def sound(self, step: int, name: str, wav: bytes, sample_rate: int) -> None:
        """Appends a sound of one channel, given as a WAV file's bytes."""
        from tensorboardX.proto.summary_pb2 import Summary

        sound = Summary.Audio(
            sample_rate=sample_rate,
            num_channels=1,
            encoded_audio_string=wav,
            content_type="audio/wav",
        )
        self._append(step, Summary(value=[Summary.Value(tag=name, audio=sound)]))

    def text(self, step: int, name: str, text: str) -> None:
        """Appends a text, which is shown as it is."""
        from tensorboardX.summary import text as summary

        # Indented, TensorBoard's Markdown shows it as it is.
        self._append(step, summary(name, "\n".join("    " + line for line in text.splitlines())))

    def rewind(self, step: int) -> None:
        """Makes TensorBoard forget what came after `step`."""
        self.close()
        self._purge_step = step + 1

    def sync(self) -> None:
        """Makes the events written so far survive a power cut."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, step: int, summary: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        now = time.time()
        events = [Event(wall_time=now, step=step, summary=summary)]
        if self._file is None:
            # TensorBoard reads files in the order of their names.
            count = len(list(self._folder.glob("events.out.tfevents.*")))
            name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{count:04d}"
            self._file = GrowingFile(self._folder / name)
            if self._purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                events.insert(0, Event(wall_time=now, step=self._purge_step, session_log=start))
            events.insert(0, Event(wall_time=now, file_version="brain.Event:2"))
        self._file.append(b"".join(map(_framed, events)))


def _framed(event: Any) -> bytes:
    """A TFRecord: length and data, each followed by its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]
