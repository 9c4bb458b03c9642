"""Results as people read them, and what of them stands in this repository."""

import dataclasses

import pytest

from launch.reproduction.markdown import BEGIN, END, put_in_readme, table, to_markdown
from launch.reproduction.results import Result, SeedResult, read_results
from launch.reproduction.target import read_target
from research.engine.experiment import Reference
from research.errors import UserError
from tests.shrink import EXPERIMENTS

ROOT = EXPERIMENTS.parent
SIZES = Result(
    name="vision/lenet_mnist",
    config="experiments/vision/lenet_mnist.py",
    reference=Reference("LeCun | 1998", "test/accuracy", 0.9905, 0.001, "max"),
    fingerprint="f",
    device="cpu",
    devices="1",
    processor="Abacus 3000",
    cores="2",
    versions={"python": "3.12.1", "jax": "0.11.0"},
    revision="0123456789ab",
    date="1998-11-01",
    commands=("python -m research.train --config.seed=0", "python -m … --config.seed=1"),
    # Mean 0.9936; standard deviation 0.00072111; times 4.302653 / sqrt(3): 0.00179.
    seeds=(
        SeedResult(0, "finished", 0.9944, total_steps=7035, seconds=150.0),
        SeedResult(1, "finished", 0.9934, total_steps=7035, seconds=170.0),
        SeedResult(2, "finished", 0.9930, total_steps=7035),
    ),
)
DIVERGED = dataclasses.replace(
    SIZES,
    name="sequence/gpt:gpu",
    config="experiments/sequence/gpt.py:gpu",
    reference=Reference("nanoGPT", "validation/loss", 1.4697, 0.0, "min"),
    device="H100",
    devices="2",
    revision="",
    seeds=(
        SeedResult(0, "finished", 1.5),
        SeedResult(1, "diverged", step=7, total_steps=9, seconds=3.0),
        SeedResult(2, "unfinished", step=4, total_steps=9, reason="budget"),
    ),
)
WAITING = dataclasses.replace(
    SIZES,
    name="vision/b",
    config="b.py",
    versions={},
    seeds=(SeedResult(0, "waiting", reason="budget"),),
)
# fmt: off
TABLE = """\
| experiment | reference | to reach | ours (seeds) | time a seed | on | verdict |
| --- | --- | --- | --- | --- | --- | --- |
| [sequence/gpt:gpu](experiments/sequence/gpt.py) | nanoGPT | validation/loss ≤ 1.4697 | 1.5 (1) | – | 2 × H100 | short by 0.0303; 1 of 3 seeds, 1 diverged, 1 not finished |
| [vision/b](b.py) | LeCun \\| 1998 | test/accuracy ≥ 0.9905 | – | – | – | not run: budget |
| [vision/lenet_mnist](experiments/vision/lenet_mnist.py) | LeCun \\| 1998 | test/accuracy ≥ 0.9905 | 0.9936 ± 0.0018 (3) | 2:40 min | CPU, 2 cores | reproduced |
"""  # noqa: E501
SECTION = """
## [vision/lenet_mnist](experiments/vision/lenet_mnist.py) on CPU, 2 cores

LeCun | 1998: test/accuracy ≥ 0.9905, tolerance 0.001. Ours: 0.9936 ± 0.0018 (3); **reproduced**.

| seed | test/accuracy | time | state |
| --- | --- | --- | --- |
| 0 | 0.9944 | 2:30 min | finished |
| 1 | 0.9934 | 2:50 min | finished |
| 2 | 0.993 | – | finished |

```sh
python -m research.train --config.seed=0
python -m … --config.seed=1
```

- Hardware: 2 cores of Abacus 3000
- Versions: python 3.12.1, jax 0.11.0
- Code: 0123456789ab; 1998-11-01
"""
# fmt: on


def test_table_and_sections():
    page = to_markdown([DIVERGED, WAITING, SIZES])
    assert table([DIVERGED, WAITING, SIZES]) == TABLE
    assert TABLE in page
    assert page.endswith(SECTION)
    assert "| 1 | – | 3 s | diverged at step 7 |\n" in page
    assert "| 2 | – | – | not finished, step 4 of 9: budget |\n" in page
    assert "- Hardware: 2 × H100, 2 cores of Abacus 3000\n" in page
    assert "- Code: of no git revision; 1998-11-01\n" in page
    alone = to_markdown([dataclasses.replace(SIZES, cores="1")])
    assert " on CPU, 1 core\n" in alone
    assert "- Hardware: 1 core of Abacus 3000\n" in alone
    assert "## [vision/b](b.py)\n" in page, "it was run on nothing"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((102.0, 104.0), "103 ± 13 (2)"),
        ((0.5, 0.5), "0.5 ± 0 (2)"),
        ((0.123456,), "0.1235 (1)"),
        ((123456.7,), "123457 (1)"),
        ((1e-7, 1.1e-7), "0.000000105 ± 0.000000064 (2)"),
    ],
)
def test_numbers_have_the_digits_that_are_sure(values, shown):
    seeds = tuple(SeedResult(n, "finished", value) for n, value in enumerate(values))
    assert f"| {shown} |" in table([dataclasses.replace(SIZES, seeds=seeds)])


def test_readme_gets_the_table_of_what_is_measured():
    readme = f"# Title\n\n{BEGIN}\nold\n{END}\n\nMore.\n"
    made = put_in_readme(readme, [SIZES])
    assert made == f"# Title\n\n{BEGIN}\n\n{table([SIZES])}\n{END}\n\nMore.\n"
    assert put_in_readme(made, [SIZES]) == made
    more = put_in_readme(readme, [WAITING, SIZES])
    assert more == made.replace(f"\n{END}", f"\nNot measured yet: 1 more, in RESULTS.md.\n\n{END}")


@pytest.mark.parametrize("readme", ["", BEGIN, END, f"{BEGIN}{END}{END}", f"{END}{BEGIN}"])
def test_readme_without_its_markers_is_refused(readme):
    with pytest.raises(UserError, match=r"README.md has <!-- /?results -->"):
        put_in_readme(readme, [SIZES])


def test_what_this_repository_shows_is_what_was_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    results, readme = read_results(ROOT / "results.json"), (ROOT / "README.md").read_text()
    page = ROOT / "RESULTS.md"
    mend = "call `python -m launch.reproduce --readme`"
    assert page.exists() == (BEGIN in readme) == bool(results), f"they go together: {mend}"
    if results:
        assert page.read_text() == to_markdown(results), mend
        assert readme == put_in_readme(readme, results), mend
    for result in results:
        target = read_target(result.config)
        now = (target.name, target.fingerprint, target.experiment.reference)
        assert now == (result.name, result.fingerprint, result.reference), (
            f"{result.config} has changed since: call `python -m launch.reproduce {result.config}`"
        )
