"""Sweeps of the smallest objective, made and worked on inside a test's process."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch import sweep_worker
from launch.sweep import make_parser
from launch.sweeps.preflight import check_with_data, plan
from launch.sweeps.specification import taken_up, write_specification
from launch.sweeps.study import Study

CONFIG = Path(__file__).with_name("quadratic_config.py")


def make_study(folder: Path, *options: str, config: Path = CONFIG) -> Study:
    """A sweep in a folder, before its first trial."""
    arguments = [f"--config={config}", f"--sweepdir={folder}", *options]
    specification = plan(make_parser().parse_args(arguments), [])
    specification = taken_up(check_with_data(specification), folder)
    study = Study(folder, specification)
    write_specification(specification, folder)
    study.add_known()
    return study


def write_config(folder: Path, **changed: Any) -> Path:
    """The config of these tests with other entries of `get_sweep()`."""
    file = folder / "config.py"
    file.write_text(
        "from tests.launch import quadratic_config\n"
        "get_config = quadratic_config.get_config\n"
        f"def get_sweep():\n    return quadratic_config.get_sweep() | {changed!r}\n"
    )
    return file


def work(study: Study, trials_per_program: int = 1) -> int:
    """Works as `launch.sweep_worker` does; returns its exit code."""
    return sweep_worker.work(study, trials_per_program)


def rows_of(workdir: Path) -> list[Mapping[str, Any]]:
    """The lines of a trial's metrics."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def release_locks(folder: Path) -> None:
    """Lets go of trials as the kernel does when a worker is gone."""
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(str(folder)) and target.endswith("/.lock"):
            os.close(int(name))
