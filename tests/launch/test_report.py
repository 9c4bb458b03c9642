"""The command, on runs that `research.train` made."""

import csv
from pathlib import Path

import pytest

from launch import report
from research import train
from research.command_line import DONE, MISTAKE
from tests.commands import run_command
from tests.launch.run_folders import METRIC, write_run
from tests.processes import leave_out_pictures
from tests.shared import once, small_data, trained
from tests.shrink import arguments

DIGITS = "vision/lenet_digits.py"
TOGETHER = {
    "parallelism__mode": "vmap",
    "parallelism__trials": "{'seed': (0, 1, 1), 'optimizer.learning_rate': (0.01, 0.01, 0.02)}",
    "duration": "8 steps",
    "evaluations__test__every": "4 steps",
}


@pytest.fixture(scope="module")
def together(shared_dir):
    """The folder of three shrunk trials that ran as one program."""

    def make(workdir):
        with pytest.MonkeyPatch.context() as patch:
            leave_out_pictures(patch)
            flags = arguments(DIGITS, workdir, small_data(shared_dir), **TOGETHER)
            assert train.run(flags) == 0

    return once(shared_dir / "runs" / "report_vmap", make)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_compares_real_runs(shared_dir, together, tmp_path, capsys):
    alone = trained(shared_dir, DIGITS)
    ended = run_command(report.run, [alone, together, f"--output={tmp_path / 'out'}"], capsys)
    assert ended.code == DONE, ended.stderr
    rows = read_csv(tmp_path / "out" / "trials.csv")
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert [row["optimizer.learning_rate"] for row in rows] == ["0.002", "0.01", "0.01", "0.02"]
    assert [row["seed"] for row in rows] == ["0", "0", "1", "1"]
    assert [row["step"] for row in rows] == ["12", "8", "8", "8"]
    assert all(0 <= float(row["value"]) <= 1 and float(row["seconds"]) > 0 for row in rows)
    settings = set(rows[0]) - {"number", "state", "value", "step", "seconds", "reason", "workdir"}
    assert settings == {"optimizer.learning_rate", "seed", "duration"}
    page = (tmp_path / "out" / "report.html").read_text()
    for chart in ("means_0", "means_1", "curves_0", "curves_1", "parallel", "slice_0"):
        assert f'id="{chart}"' in page, chart
    best = max(float(row["value"]) for row in rows)
    lines = ended.stdout.splitlines()
    assert lines[0].endswith("4 complete")
    assert lines[1].split() == ["trial", "state", METRIC, "duration", "learning_rate", "seed"]
    assert f"{best:.4g}" in lines[2]
    assert "Mean test/accuracy over seeds, ± half its 95 % confidence interval" in lines
    assert lines[-1].startswith(f"{tmp_path / 'out' / 'report.html'} shows it all")


def test_writes_into_the_one_folder_and_beside_several(tmp_path, capsys, monkeypatch):
    for seed in range(12):
        write_run(tmp_path / "runs" / f"seed_{seed}", (0.1, 0.01 * seed), settings={"seed": seed})
    ended = run_command(report.run, [tmp_path / "runs", "--metric=test/loss"], capsys)
    assert ended.code == DONE, ended.stderr
    assert (tmp_path / "runs" / "report.html").is_file()
    assert "… and 2 more." in ended.stdout
    assert "lower is better" in (tmp_path / "runs" / "report.html").read_text()
    assert read_csv(tmp_path / "runs" / "trials.csv")[11]["workdir"] == "seed_11"
    # What it wrote is no run: the same command finds the same runs again.
    again = run_command(report.run, [tmp_path / "runs", "--metric=test/loss"], capsys)
    assert again.stdout == ended.stdout

    monkeypatch.chdir(tmp_path)
    both = [Path("runs/seed_3"), Path("runs/seed_4")]
    assert run_command(report.run, both, capsys).code == DONE
    assert [row["workdir"] for row in read_csv(tmp_path / "report" / "trials.csv")] == [
        "../runs/seed_3",
        "../runs/seed_4",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: DIR"),
        (["nowhere"], "nowhere does not exist"),
        (["empty"], "no run in empty or below"),
        (["file"], "file is no folder"),
        (["run", "--metric=test/acuracy", "--mode=max"], "did you mean 'test/accuracy'?"),
        (["run", "--metric=learning_rate"], "--mode min or --mode max"),
        (["run", "--mode=maximum"], "invalid choice: 'maximum'"),
        (["run", "--ouput=x"], "did you mean '--output'?"),
        (["run", "--output=file"], "cannot write file/"),
    ],
)
def test_mistakes_get_one_message(tmp_path, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    ended = run_command(report.run, arguments, capsys)
    assert ended.code == MISTAKE, ended.stdout + ended.stderr
    assert told in ended.stderr and "Traceback" not in ended.stderr
    assert not list(tmp_path.rglob("trials.*")) and not list(tmp_path.rglob("*.tmp"))
