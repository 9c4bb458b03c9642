"""Manifests as text, and the small parts that launchers share."""

import argparse
import shlex
from pathlib import Path, PurePosixPath

import pytest
import yaml

from launch import manifest, mounts, option_values
from launch.run_script import joining_flags, train_script
from research.errors import UserError

WORKDIR = Path("/runs/lenet")


def test_yaml_reads_as_a_person_would_write_it():
    shared = {"b": "1", "a": True}
    value = {"z": [shared, shared], "text": "one\ntwo $x\n", "none": None}
    text = manifest.to_yaml(value, ["how it\nwas made"])
    assert text == (
        "# how it\n# was made\n"
        "z:\n  - b: '1'\n    a: true\n  - b: '1'\n    a: true\n"
        "text: |\n  one\n  two $x\nnone: null\n"
    )
    assert yaml.safe_load(text) == value


def test_command_line_can_be_typed():
    line = manifest.command_line_of("launch.x", ["--a", "b c", "$d"])
    assert shlex.split(line) == ["python", "-m", "launch.x", "--a", "b c", "$d"]


def test_script_keeps_flags_as_they_are():
    flags = ["--config", "a b.py", "--config.x='$y'", "--workdir=/runs/\n1"]
    script = train_script(flags, joining_flags("host", "4", '"$RANK"'))
    assert script.splitlines()[0] == "python -m research.train \\"
    words = shlex.split(script.replace("\\\n", ""))
    joined = ["--coordinator", "host:8482", "--num_processes", "4", "--process_id", "$RANK"]
    assert words == ["python", "-m", "research.train", *flags, *joined]


def test_pairs_and_variables():
    assert option_values.read_pairs("--env", ["A=b=c", "B="]) == {"A": "b=c", "B": ""}
    for texts, said in ((["A"], "write KEY=VALUE"), (["=b"], "write"), (["A=1", "A=2"], "twice")):
        with pytest.raises(UserError, match=said):
            option_values.read_pairs("--env", texts)
    option_values.check_variables("--env", ["A_1", "_b"])
    with pytest.raises(UserError, match="--env 1A"):
        option_values.check_variables("--env", ["1A"])


def test_numbers():
    assert option_values.positive("3") == 3 and option_values.not_negative("0") == 0
    with pytest.raises(argparse.ArgumentTypeError):
        option_values.positive("0")
    with pytest.raises(argparse.ArgumentTypeError):
        option_values.not_negative("-1")


def test_mounts_are_where_the_workdir_is_unless_told_otherwise():
    read = mounts.read_mount("--bucket", "gs://lab/runs", WORKDIR)
    assert (read.source, read.path) == ("gs://lab/runs", PurePosixPath("/runs"))
    read = mounts.read_mount("--bucket", "gs://lab:/data/sets", WORKDIR)
    assert (read.source, read.path) == ("gs://lab", PurePosixPath("/data/sets"))
    assert mounts.read_mount("--volume_claim", "claim:/runs", WORKDIR).source == "claim"
    for text in ("gs://lab:runs", "gs://lab:/", ":/runs", "gs://lab:/a/../b", "gs://lab:"):
        with pytest.raises(UserError, match="--bucket"):
            mounts.read_mount("--bucket", text, WORKDIR)
    with pytest.raises(UserError, match="cannot be mounted at /"):
        mounts.read_mount("--bucket", "gs://lab", Path("/lenet"))


def test_buckets():
    assert mounts.split_bucket("--bucket", "gs://lab", ("gs",)) == ("lab", "")
    assert mounts.split_bucket("--bucket", "s3://lab/a/b/", ("gs", "s3")) == ("lab", "a/b")
    for source in ("lab", "s3://lab", "gs://", "gs://Lab", "gs://lab/a//b", "gs://lab/../a"):
        with pytest.raises(UserError, match=f"--bucket {source}"):
            mounts.split_bucket("--bucket", source, ("gs",))


def test_checkpoints_that_would_be_lost_are_refused():
    runs = mounts.Mount("gs://lab", PurePosixPath("/runs"))
    mounts.check_mounts(WORKDIR, [runs], "--bucket")
    mounts.check_mounts(Path("/runs"), [runs], "--bucket")
    for workdir in ("/run", "/runs2/a", "/runs/../a", "runs/a"):
        with pytest.raises(UserError, match="lost with the machine"):
            mounts.check_mounts(Path(workdir), [runs], "--bucket")
    with pytest.raises(UserError, match="/runs: two volumes"):
        mounts.check_mounts(WORKDIR, [runs, runs], "--bucket")
