"""Results as Markdown: RESULTS.md, and the table in README.md."""

import math
from collections.abc import Sequence

from launch.reproduction.results import Result, SeedResult, verdict
from launch.reproduction.running import clock
from research.errors import UserError

BEGIN, END = "<!-- results -->", "<!-- /results -->"

_HEAD = """# Results

Written by `python -m launch.reproduce` from `results.json`; what is changed by hand is lost.

Ours is the mean over finished seeds ± half of its 95 % confidence interval by Student's t; one seed
has no interval. The mean is held against the reference: *reproduced* where it is at least as good,
*within tolerance* where it is worse by no more than the tolerance that the config states, *short
by* what it is worse by otherwise.
"""


def to_markdown(results: Sequence[Result]) -> str:
    """RESULTS.md: the table, and how every number came about."""
    return "\n".join([_HEAD, table(results), *map(_section, results)])


def table(results: Sequence[Result]) -> str:
    """The table that RESULTS.md shows, and README.md of what has been measured."""
    head = ("experiment", "reference", "to reach", "ours (seeds)", "time a seed", "on", "verdict")
    rows = [
        (
            _link(result),
            result.reference.paper,
            _to_reach(result),
            ours(result),
            "–" if result.seconds is None else clock(result.seconds),
            _device(result) if result.ran else "–",
            verdict(result),
        )
        for result in results
    ]
    return _table(head, rows)


def put_in_readme(readme: str, results: Sequence[Result]) -> str:
    """A README with the table of what has been measured between its two markers.

    Raises UserError where a marker is missing or there twice.
    """
    for marker in (BEGIN, END):
        if readme.count(marker) != 1:
            raise UserError(
                f"README.md has {marker} {readme.count(marker)} times: the table goes between one "
                f"{BEGIN} and one {END}, each on a line of its own"
            )
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise UserError(f"README.md has {END} before {BEGIN}: swap them")
    measured = [result for result in results if result.values]
    shown = table(measured)
    if others := len(results) - len(measured):
        shown += f"\nNot measured yet: {others} more, in RESULTS.md.\n"
    return f"{before}{BEGIN}\n\n{shown}\n{END}{after}"


def _section(result: Result) -> str:
    reference = result.reference
    tolerance = f", tolerance {reference.tolerance:g}" if reference.tolerance else ""
    begun = any(seed.state != "waiting" for seed in result.seeds)
    place = f" on {_device(result)}" if begun else ""
    mean = f"{ours(result)}; " if result.values else ""
    lines = [
        f"## {_link(result)}{place}",
        "",
        f"{reference.paper}: {_to_reach(result)}{tolerance}. Ours: {mean}**{verdict(result)}**.",
        "",
    ]
    if begun:
        rows = [_seed_row(seed) for seed in result.seeds]
        lines += [_table(("seed", reference.metric, "time", "state"), rows)]
    lines += ["```sh", *result.commands, "```", ""]
    if result.versions:
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        lines += [
            f"- Hardware: {_hardware(result)}",
            f"- Versions: {versions}",
            f"- Code: {result.revision or 'of no git revision'}; {result.date}",
            "",
        ]
    return "\n".join(lines)


def _seed_row(seed: SeedResult) -> tuple[str, ...]:
    value = "–" if seed.value is None else _number(seed.value)
    seconds = "–" if seed.seconds is None else clock(seed.seconds)
    words = {"finished": "finished", "unfinished": "not finished", "waiting": "not run"}
    at = f"diverged at step {seed.step}" if seed.state == "diverged" else words[seed.state]
    if seed.state == "unfinished":
        at += f", step {seed.step} of {seed.total_steps}"
    return (str(seed.seed), value, seconds, f"{at}: {seed.reason}" if seed.reason else at)


def _link(result: Result) -> str:
    return f"[{result.name}]({result.config.partition('.py:')[0].removesuffix('.py')}.py)"


def _to_reach(result: Result) -> str:
    sign = "≥" if result.reference.mode == "max" else "≤"
    return f"{result.reference.metric} {sign} {result.reference.value:g}"


def ours(result: Result) -> str:
    """ "0.9936 ± 0.0018 (3)", with as many digits as the interval leaves sure, and one more."""
    mean, half_width = result.mean_and_interval
    if mean is None:
        return "–"
    count = f"({len(result.values)})"
    if not half_width:
        return f"{_number(mean)} {count}" if half_width is None else f"{_number(mean)} ± 0 {count}"
    decimals = min(9, max(0, 1 - math.floor(math.log10(half_width))))
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f} {count}"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _device(result: Result) -> str:
    if result.device == "cpu":
        return f"CPU, {_cores(result)}" if result.cores else "CPU"
    return result.device if result.devices == "1" else f"{result.devices} × {result.device}"


def _hardware(result: Result) -> str:
    cpu = f"{_cores(result)} of {result.processor}" if result.processor else "a CPU not noted"
    return cpu if result.device == "cpu" else f"{_device(result)}, {cpu}"


def _cores(result: Result) -> str:
    return f"{result.cores} core{'' if result.cores == '1' else 's'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)
