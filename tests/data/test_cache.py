"""The cache of decoded arrays: decoded once, and never read when it is not whole."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from research.data.cache import STALE_SECONDS, decode_once

ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)


class Decoder:
    """Decodes ROWS in pieces of two rows and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Iterator[Mapping[str, np.ndarray]]:
        self.calls += 1
        for start in range(0, len(ROWS), 2):
            piece = ROWS[start : start + 2]
            yield {"x": piece, "label": piece[:, 0].astype(np.int32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("content")
    return path


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "decoded").iterdir())


def check(arrays: Mapping[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(arrays["x"], ROWS)
    np.testing.assert_array_equal(arrays["label"], ROWS[:, 0])
    assert arrays["x"].dtype == np.float32
    assert arrays["label"].dtype == np.int32


def test_decodes_once_and_maps_the_files(file: Path, cache: Path) -> None:
    decode = Decoder()
    for _ in range(3):
        arrays = decode_once([file], "settings", decode)
        check(arrays)
        assert isinstance(arrays["x"].base, np.memmap), "the array was copied into memory"
    assert decode.calls == 1
    assert len(entries(cache)) == 1


def test_other_settings_or_a_changed_file_are_other_entries(file: Path) -> None:
    decode = Decoder()
    decode_once([file], "a", decode)
    decode_once([file], "b", decode)
    assert decode.calls == 2
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    decode_once([file], "a", decode)
    assert decode.calls == 3


@pytest.mark.parametrize("damage", ["truncate", "remove array", "remove manifest", "bad manifest"])
def test_entry_that_is_not_whole_is_made_anew(file: Path, cache: Path, damage: str) -> None:
    decode = Decoder()
    decode_once([file], "settings", decode)
    (entry,) = entries(cache)
    match damage:
        case "truncate":
            os.truncate(entry / "x.npy", (entry / "x.npy").stat().st_size - 1)
        case "remove array":
            (entry / "label.npy").unlink()
        case "remove manifest":
            (entry / "manifest.json").unlink()
        case "bad manifest":
            (entry / "manifest.json").write_text("[")
    check(decode_once([file], "settings", decode))
    assert decode.calls == 2, "a damaged entry was used"
    check(decode_once([file], "settings", decode))
    assert decode.calls == 2, "the entry was not mended"
    assert entries(cache) == [entry], "something was left behind"


def test_failed_decoding_leaves_nothing(file: Path, cache: Path) -> None:
    def fail() -> Iterator[Mapping[str, np.ndarray]]:
        yield {"x": ROWS}
        raise ValueError("corrupt")

    with pytest.raises(ValueError, match="corrupt"):
        decode_once([file], "settings", fail)
    assert entries(cache) == []


def test_pieces_that_differ_are_refused(file: Path) -> None:
    def differ() -> Iterator[Mapping[str, np.ndarray]]:
        yield {"x": ROWS}
        yield {"x": ROWS.astype(np.float64)}

    with pytest.raises(ValueError, match="Pieces of 'x' differ"):
        decode_once([file], "settings", differ)


def test_two_at_once_both_succeed(file: Path, cache: Path) -> None:
    def slow() -> Iterator[Mapping[str, np.ndarray]]:
        for piece in Decoder()():
            time.sleep(0.02)
            yield piece

    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(decode_once, [file], "settings", slow) for _ in range(4)]
    for result in results:
        check(result.result())
    assert len(entries(cache)) == 1


def test_without_a_place_to_write_decodes_into_memory_and_warns(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Below a plain file no folder can be made, not even by root.
    monkeypatch.setenv("RESEARCH_CACHE_DIR", str(file / "cache"))
    with caplog.at_level(logging.WARNING):
        check(decode_once([file], "settings", Decoder()))
    assert "RESEARCH_CACHE_DIR" in caplog.text


def test_full_disk_decodes_into_memory_and_warns(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("research.data.cache.os.fsync", no_space)
    with caplog.at_level(logging.WARNING):
        check(decode_once([file], "settings", Decoder()))
    assert "No space left" in caplog.text
    assert entries(cache) == []


def test_leftovers_of_killed_processes_go_when_old(file: Path, cache: Path) -> None:
    decode_once([file], "settings", Decoder())
    (entry,) = entries(cache)
    (entry / "manifest.json").unlink()
    old, young = (entry.with_name(f"{entry.name}.partial-{name}") for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir()
        (folder / "x.npy").touch()
    before = time.time() - STALE_SECONDS - 60
    os.utime(old / "x.npy", (before, before))
    os.utime(old, (before, before))
    decode_once([file], "settings", Decoder())
    assert entries(cache) == [entry, young]
