import os
import shutil

import pytest

from research.engine.files import check_space, write_atomically
from research.errors import UserError


def test_a_crash_before_the_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, b"old")

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            write_atomically(path, b"new, but never whole")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"], "left-overs are reused"


def test_a_disk_without_enough_space_is_a_user_error(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    check_space(tmp_path, free // 2)
    with pytest.raises(UserError, match=r"no space left \([\d.]+ MB free, [\d.]+ MB needed\)"):
        check_space(tmp_path, 2 * free)
