"""`results.json`: what was measured of each config, where and how, beside its reference."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launch.reports.seeds import summarize
from research.engine.checks import check, setting
from research.engine.experiment import Reference
from research.engine.files import read_json, write_json
from research.errors import UserError


@dataclass(frozen=True)
class SeedResult:
    """One seed of a config."""

    seed: int = setting("The seed.")
    state: Literal["finished", "diverged", "unfinished", "waiting"] = setting("How far it is.")
    value: float | None = setting("finished: the reference's metric at the end.", None)
    step: int | None = setting("diverged: where; unfinished: what it goes on from.", None)
    total_steps: int | None = setting("Steps of the whole run.", None)
    seconds: float | None = setting("Of the process, or its share of several seeds' one.", None)
    reason: str = setting("Why there is no value.", "")


@dataclass(frozen=True)
class Result:
    """What is known of a config on one kind of device."""

    name: str = setting("family/config[:variant].")
    config: str = setting("The file, FILE.py[:VARIANT].")
    reference: Reference = setting("The number to reach.")
    fingerprint: str = setting("Of the file's settings, without the reference.")
    device: str = setting("The device's kind.")
    devices: str = setting("How many of them there were.")
    processor: str = setting("The CPU.")
    cores: str = setting("Its cores that could be used.")
    versions: Mapping[str, str] = setting("Of Python and packages.")
    revision: str = setting("The git revision of the code.")
    date: str = setting("When the newest of its runs was started, or was to be.")
    commands: tuple[str, ...] = setting("The command of each run.")
    seeds: tuple[SeedResult, ...] = setting("Every seed that was asked for.")

    @property
    def values(self) -> list[float]:
        """The metric of every finished seed."""
        return [seed.value for seed in self.seeds if seed.value is not None]

    @property
    def mean_and_interval(self) -> tuple[float | None, float | None]:
        """The mean over the finished seeds, and half of its 95 % interval from two seeds on."""
        summary = summarize(self.values)
        return (summary.mean, summary.half_width) if summary else (None, None)

    @property
    def seconds(self) -> float | None:
        """The mean time of a finished seed, where it is known."""
        known = [s.seconds for s in self.seeds if s.value is not None and s.seconds is not None]
        return sum(known) / len(known) if known else None

    @property
    def ran(self) -> bool:
        """Whether any seed came to an end, be it a bad one."""
        return any(seed.state in ("finished", "diverged") for seed in self.seeds)


def verdict(result: Result) -> str:
    """What the finished seeds say of the reference.

    "reproduced": their mean is at least as good as the reference's value. "within tolerance": it
    is worse, by no more than the reference's tolerance. "short by 0.0123": it is worse by that.
    "not run", "not finished" and "diverged" where no seed is finished, and why. Seeds that were
    asked for and are not in the mean are counted behind a semicolon.
    """
    mean, _ = result.mean_and_interval
    if mean is None:
        return _without_a_number(result.seeds)
    reference = result.reference
    gap = (reference.value - mean) * (1 if reference.mode == "max" else -1)
    if gap <= 0:
        judged = "reproduced"
    else:
        judged = "within tolerance" if gap <= reference.tolerance else f"short by {gap:.3g}"
    missing = len(result.seeds) - len(result.values)
    if not missing:
        return judged
    return f"{judged}; {len(result.values)} of {len(result.seeds)} seeds, {_missing(result.seeds)}"


def read_results(file: Path) -> tuple[Result, ...]:
    """The results of an earlier `write_results`, none where there is no file.

    Raises UserError where the file holds something else.
    """
    if not file.is_file():
        return ()
    plain = read_json(file)
    try:
        if not isinstance(plain.get("results"), list):
            raise UserError("results: missing, or no list")
        stored = [
            {key: value for key, value in entry.items() if key != "summary"}
            for entry in plain["results"]
        ]
        return check(stored, tuple[Result, ...], "results")
    except (UserError, AttributeError) as error:
        raise UserError(f"{file} is no file of results ({error}): move it away") from None


def write_results(file: Path, results: Sequence[Result]) -> None:
    """Writes them, each with what follows from it as `summary`. Raises UserError."""
    write_json(file, {"results": [_to_plain(result) for result in results]})


def merge(earlier: Sequence[Result], new: Sequence[Result]) -> tuple[Result, ...]:
    """Earlier results with new ones beside or in place of them, by config and kind of device.

    An earlier result stays where the config's settings are as they were and fewer seeds have
    come to an end now; it is held against today's reference. One without a number goes where
    the config has a number on another device.
    """
    merged = {(result.name, result.device): result for result in earlier}
    for result in new:
        key = (result.name, result.device)
        before = merged.get(key)
        if before and before.fingerprint == result.fingerprint and _ended(before) > _ended(result):
            result = dataclasses.replace(before, reference=result.reference)
        merged[key] = result
    # What other devices measured was measured with today's settings, or is of no use.
    today = {result.name: result for result in new}
    kept = []
    for result in merged.values():
        now = today.get(result.name)
        if now and result.fingerprint != now.fingerprint:
            continue
        kept.append(dataclasses.replace(result, reference=now.reference) if now else result)
    run = {result.name for result in kept if result.ran}
    shown = [result for result in kept if result.ran or result.name not in run]
    return tuple(sorted(shown, key=lambda result: (result.name, result.device)))


def _ended(result: Result) -> int:
    return sum(seed.state in ("finished", "diverged") for seed in result.seeds)


def _to_plain(result: Result) -> dict[str, Any]:
    mean, half_width = result.mean_and_interval
    summary = {
        "mean": mean,
        "interval_95": half_width,
        "num_seeds": len(result.values),
        "seconds_per_seed": result.seconds,
        "verdict": verdict(result),
    }
    return {**dataclasses.asdict(result), "summary": summary}


def _without_a_number(seeds: Sequence[SeedResult]) -> str:
    diverged = [seed for seed in seeds if seed.state == "diverged"]
    if diverged:
        others = "" if len(diverged) == len(seeds) else f"; {_missing(seeds)}"
        return f"diverged, {len(diverged)} of {len(seeds)} seeds{others}"
    for seed in seeds:
        if seed.state == "finished":
            return f"no number: {seed.reason}"
        if seed.state == "unfinished":
            step = f"; step {seed.step} of {seed.total_steps}" if seed.total_steps else ""
            return f"not finished: {seed.reason}{step}; the same command goes on"
    reasons = list(dict.fromkeys(seed.reason for seed in seeds))
    return f"not run: {'; '.join(reasons)}"


def _missing(seeds: Sequence[SeedResult]) -> str:
    words = {"diverged": "diverged", "unfinished": "not finished", "waiting": "not run"}
    counts = {word: sum(s.state == state for s in seeds) for state, word in words.items()}
    unusable = sum(s.state == "finished" and s.value is None for s in seeds)
    counts["without a number"] = unusable
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
