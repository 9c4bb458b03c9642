"""The trials as a table for other programs: `trials.csv` and `trials.parquet`, a row a trial."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.reports.values import setting_paths
from launch.trials import Trials
from research.engine.config import to_plain
from research.engine.files import encode_json, write_atomically

CSV, PARQUET = "trials.csv", "trials.parquet"


def write_tables(trials: Trials, folder: Path) -> None:
    """Writes both files; raises UserError where the folder cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet

    columns = columns_of(trials, folder)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomically(folder / CSV, text.getvalue().encode())

    table = pa.table(
        {name: pa.array(values, _type_of(name, values)) for name, values in columns.items()}
    ).replace_schema_metadata({"title": trials.title, "metric": trials.metric, "mode": trials.mode})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    write_atomically(folder / PARQUET, sink.getvalue())


def columns_of(trials: Trials, folder: Path) -> dict[str, list[Any]]:
    """Every column's values, one a trial: numbers, booleans, texts and None.

    A setting has a column of its own. Lists and mappings are JSON; where values are of several
    types, all are texts. Folders are relative to `folder` where they lie in it or beside it.
    """
    rows = trials.trials
    settings = {
        path: _of_one_type([to_plain(trial.settings.get(path)) for trial in rows])
        for path in setting_paths(rows)
    }
    return {
        "number": [trial.number for trial in rows],
        "state": [trial.state for trial in rows],
        "value": [trial.value for trial in rows],
        "step": [trial.step for trial in rows],
        "seconds": [trial.seconds for trial in rows],
        **settings,
        "reason": [trial.reason for trial in rows],
        "workdir": [relative_to(trial.workdir, folder) for trial in rows],
    }


def relative_to(path: Path, folder: Path) -> str:
    """A path as seen from a folder, where it lies in or beside it, else in full."""
    path, folder = path.resolve(), folder.resolve()
    if path.is_relative_to(folder.parent):
        return path.relative_to(folder, walk_up=True).as_posix()
    return path.as_posix()


def _of_one_type(values: Sequence[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {str}:
        return list(values)
    if kinds <= {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return list(values)
    if float in kinds and kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [
        value if value is None or isinstance(value, str) else encode_json(value) for value in values
    ]


def _type_of(name: str, values: Sequence[Any]) -> Any:
    """A column's type, also where all of its values are None."""
    import pyarrow as pa

    known = {"number": pa.int64(), "step": pa.int64(), "value": pa.float64()}
    known |= {"seconds": pa.float64(), "state": pa.string(), "reason": pa.string()}
    if name in known:
        return known[name]
    if all(value is None for value in values):
        return pa.string()
    return None  # as pyarrow finds it
