"""Writes all that is made of a set of runs to a folder."""

from pathlib import Path

from launch.reports.page import page
from launch.reports.tables import write_tables
from launch.trials import Trials
from research.engine.files import write_atomically

REPORT = "report.html"


def write_report(trials: Trials, folder: Path) -> Path:
    """Writes `trials.csv`, `trials.parquet` and `report.html`; returns the page's path.

    Raises UserError where the folder cannot be written, or metrics of a run are damaged.
    """
    write_tables(trials, folder)
    path = folder / REPORT
    write_atomically(path, page(trials, folder).encode())
    return path
