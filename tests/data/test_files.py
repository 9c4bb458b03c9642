"""Finding and reading files: what is wrong is said, with the file's full path."""

import gzip
import lzma
from pathlib import Path

import pytest

from research.data.files import find, read_bytes, read_text
from research.errors import UserError

PACK = {".gz": gzip.compress, ".xz": lzma.compress}


def test_missing_file_names_path_hint_and_closest_name(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images.gz").touch()
    with pytest.raises(UserError) as error:
        find(tmp_path, "mnist/train-image.gz")
    for part in (str(tmp_path / "mnist/train-image.gz"), "'train-images.gz'", "--data_dir"):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"there is no .*mnits .*; did you mean 'mnist'\?$"):
        find(tmp_path, "mnits/train-images.gz")


def test_absolute_path_needs_no_data_dir(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert find(Path("/nowhere"), str(tmp_path / "a.txt")) == tmp_path / "a.txt"


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_compressed_files(tmp_path: Path, suffix: str) -> None:
    content = bytes(range(256)) * 50
    packed = PACK[suffix](content)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(packed)
    assert read_bytes(path) == content
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=f"{path} is truncated"):
        read_bytes(path)
    path.write_bytes(b"not packed at all")
    with pytest.raises(UserError, match=f"{path} is not valid"):
        read_bytes(path)
    middle = len(packed) // 2
    path.write_bytes(packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :])
    with pytest.raises(UserError, match=str(path)):
        read_bytes(path)


def test_text_that_is_not_utf8_names_the_line_and_the_byte(tmp_path: Path) -> None:
    for content, message in (
        (b"abc\xff", r"a\.txt, line 1 is not UTF-8 text: byte 3 of the file is 0xff"),
        (b"\xc3\xa9\r\n\n a\xe9b\n\xff", r"a\.txt, line 3 is .* byte 7 of the file is 0xe9"),
    ):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_text(tmp_path / "a.txt")
