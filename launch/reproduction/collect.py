"""From the folders of runs to results."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launch.reproduction.machine import Machine
from launch.reproduction.plan import Run, state_of
from launch.reproduction.results import Result, SeedResult
from launch.reproduction.running import SIDECAR, progress_of
from launch.reproduction.target import Target
from research.engine.environment import PACKAGES
from research.engine.files import read_json
from research.engine.record import RESULT


@dataclass(frozen=True)
class _Found:
    """What a run left, and on what it ran; without an environment it has not begun."""

    run: Run
    seeds: tuple[SeedResult, ...]
    environment: Mapping[str, Any]
    sidecar: Mapping[str, Any]


def collect(
    targets: Sequence[Target],
    runs: Sequence[Run],
    reasons: Mapping[Path, str],
    machine: Machine,
    seeds: int,
) -> tuple[Result, ...]:
    """A result for every target and kind of device that its seeds ran on; seeds that have not
    begun count for this machine's kind. `reasons` says by folder why a run is not finished."""
    results = []
    for target in targets:
        found: dict[str, list[_Found]] = {}
        for run in runs:
            if run.target.name == target.name and set(run.seeds) <= set(range(seeds)):
                each = _look(run, reasons.get(run.folder, ""))
                device = each.environment.get("device_kind", machine.device_kind)
                found.setdefault(device, []).append(each)
        results += [_result(target, device, each, machine) for device, each in found.items()]
    return tuple(results)


def _look(run: Run, reason: str) -> _Found:
    environment, sidecar = _read(run.folder, "environment.json"), _read(run.folder, SIDECAR)
    seconds = sidecar["seconds"] / len(run.seeds) if sidecar else None
    step, total = progress_of(run.folder)
    state = state_of(run.folder)
    seeds = []
    for place, seed in enumerate(run.seeds):
        if state == "finished":
            value, reason = _value(run, place)
            seeds.append(
                SeedResult(seed, "finished", value, None, total, seconds=seconds, reason=reason)
            )
        elif state == "diverged":
            where = _read(run.folder, "failure/report.json")["step"]
            seeds.append(SeedResult(seed, "diverged", None, where, total, seconds))
        elif state == "begun":
            seeds.append(SeedResult(seed, "unfinished", None, step, total, reason=reason))
        else:
            seeds.append(SeedResult(seed, "waiting", reason=reason))
    return _Found(run, tuple(seeds), environment, sidecar)


def _value(run: Run, place: int) -> tuple[float | None, str]:
    """The reference's metric of one of a run's seeds, or why there is none."""
    reference = run.target.experiment.reference
    assert reference is not None
    metrics = read_json(run.folder / RESULT)["metrics"]
    if reference.metric not in metrics:
        return None, f"{RESULT} has no {reference.metric}"
    value = metrics[reference.metric]
    number = float(value[place] if isinstance(value, list) else value)
    if not math.isfinite(number):
        return None, f"{reference.metric} is {number}"
    return number, ""


def _result(target: Target, device: str, found: Sequence[_Found], machine: Machine) -> Result:
    reference = target.experiment.reference
    assert reference is not None
    begun = [each for each in found if each.environment]
    environments = [each.environment for each in begun]
    # A run that went on may have done so with other code.
    starts = [start for e in environments for start in (*e.get("earlier", ()), e)]
    sidecars = [each.sidecar for each in begun if each.sidecar]
    return Result(
        name=target.name,
        config=target.location,
        reference=reference,
        fingerprint=target.fingerprint,
        device=device,
        devices=_joined(e["device_count"] for e in environments) or str(machine.device_count),
        processor=_joined(s["processor"] for s in sidecars) or ("" if begun else machine.processor),
        cores=_joined(s["cores"] for s in sidecars) or ("" if begun else str(machine.cores)),
        versions={
            name: _joined(e[name] for e in environments if name in e)
            for name in ("python", *PACKAGES)
            if environments
        },
        revision=_joined(_revision(start["git"]) for start in starts if start.get("git")),
        date=max((e["started"] for e in environments), default=_now())[:10],
        commands=tuple(each.run.command for each in found),
        seeds=tuple(sorted((s for each in found for s in each.seeds), key=lambda s: s.seed)),
    )


def _revision(git: Mapping[str, Any]) -> str:
    return git["revision"][:12] + (" with changes" if git["dirty"] else "")


def _joined(values: Iterable[Any]) -> str:
    """What they all are, or each of what they are."""
    return " and ".join(dict.fromkeys(map(str, values)))


def _read(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name) if (folder / name).is_file() else {}


def _now() -> str:
    return datetime.now(UTC).isoformat()
