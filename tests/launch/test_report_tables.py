"""The tables for other programs."""

import csv
import json
import math
from pathlib import Path

import pyarrow.parquet

from launch.reports.tables import columns_of, relative_to, write_tables
from tests.launch.run_folders import METRIC, trials

ROWS = (
    {"rate": 1e-5, "size": 32, "flag": True, "name": "adam", "mixed": 1, "list": [8, 16]},
    {"rate": 1, "size": 64, "flag": False, "name": 'a,"b', "mixed": "one", "list": (8,)},
    {"rate": None, "size": 2**40, "mixed": None, "list": {"a": [None]}, "never": None},
)
VALUES = (
    {"_value": 0.5, "_step": 7, "_seconds": 1.5},
    {"_value": math.nan, "_state": "diverged", "_reason": "not finite"},
    {"_state": "waiting"},
)


def test_every_setting_has_a_column_of_its_type(tmp_path):
    write_tables(trials(*(row | value for row, value in zip(ROWS, VALUES, strict=True))), tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "trials.parquet")
    assert {
        name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)
    } == {
        "number": "int64",
        "state": "string",
        "value": "double",
        "step": "int64",
        "seconds": "double",
        "rate": "double",
        "size": "int64",
        "flag": "bool",
        "name": "string",
        "mixed": "string",
        "list": "string",
        "never": "string",
        "reason": "string",
        "workdir": "string",
    }
    columns = table.to_pydict()
    assert columns["rate"] == [1e-5, 1.0, None]
    assert columns["size"] == [32, 64, 2**40]
    assert columns["flag"] == [True, False, None]
    assert columns["mixed"] == ["1", "one", None]
    assert [json.loads(text) for text in columns["list"]] == [[8, 16], [8], {"a": [None]}]
    assert columns["never"] == [None] * 3
    assert (columns["value"][0], columns["step"], columns["seconds"][0]) == (
        0.5,
        [7, None, None],
        1.5,
    )
    assert math.isnan(columns["value"][1]) and columns["value"][2] is None
    assert table.schema.metadata[b"metric"] == METRIC.encode()
    assert table.schema.metadata[b"mode"] == b"max"

    with open(tmp_path / "trials.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == table.column_names
    assert [line["rate"] for line in lines] == ["1e-05", "1.0", ""]
    assert [line["name"] for line in lines] == ["adam", 'a,"b', ""]
    assert [line["state"] for line in lines] == ["complete", "diverged", "waiting"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.csv", "trials.parquet"]


def test_no_setting_and_no_value_make_tables_too(tmp_path):
    write_tables(trials({"_state": "failed"}), tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "trials.parquet")
    assert str(table.schema.field("value").type) == "double"
    assert table.num_rows == 1


def test_numbers_too_large_for_a_column_are_texts():
    columns = columns_of(trials({"seed": 2**70}, {"seed": 1}), Path())
    assert columns["seed"] == [str(2**70), "1"]


def test_folders_are_relative_to_where_the_table_is(tmp_path):
    assert relative_to(tmp_path / "runs" / "3", tmp_path / "runs") == "3"
    assert relative_to(tmp_path / "runs" / "3", tmp_path / "report") == "../runs/3"
    assert relative_to(tmp_path, tmp_path) == "."
    assert relative_to(Path("/elsewhere/3"), tmp_path / "report") == "/elsewhere/3"
