"""The page: what is on it, that it needs nothing else, and that odd sets of trials make one."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from launch.reports import charts
from launch.reports.page import page
from launch.reports.runs import read_runs
from launch.reports.write import write_report
from tests.launch.run_folders import METRIC, trials, write_failure, write_run


class Tags(HTMLParser):
    """Tags with their attributes, the text of scripts, and all other text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        in_script = bool(self.tags) and self.tags[-1][0] in ("script", "style")
        (self.scripts if in_script else self.texts).append(data)

    @property
    def ids(self):
        return {attributes["id"] for _, attributes in self.tags if "id" in attributes}

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of 12 runs: six configurations of two seeds, one run diverged, one stopped."""
    folder = tmp_path_factory.mktemp("runs")
    for place in range(12):
        configuration, seed = divmod(place, 2)
        settings = {
            "optimizer.learning_rate": 10.0 ** (configuration % 3 - 4),
            "objective.model.channels": [[8, 16], [16, 32]][configuration // 3],
            "seed": seed,
        }
        best = 0.5 + 0.01 * place
        losses = [2.0, 1.0, 0.5 / (place + 1)]
        ends = place not in (4, 7)
        workdir = folder / f"run_{place}"
        write_run(workdir, (0.1, 0.2, best), losses=losses, settings=settings, finished=ends)
        if place == 4:
            write_failure(workdir, step=35)
    path = write_report(read_runs([folder]), folder / "report")
    assert path == folder / "report" / "report.html"
    return path


def test_the_page_has_every_chart_and_table(report):
    found = Tags(report.read_text())
    assert found.ids == {
        *("means_0", "means_1", "curves_0", "curves_1"),
        *("parallel", "importance", "slice_0", "slice_1"),
    }
    headings = [tag for tag, _ in found.tags].count("h2")
    assert headings == 8, found.text
    assert "compared by test/accuracy , higher is better" in found.text
    assert "Best test/accuracy 0.61 trial 11" in found.text
    assert "Best mean over seeds 0.605 ± 0.064 2 seeds" in found.text
    assert "10 complete 1 diverged 1 failed" in found.text
    assert "not finite at step 35: loss = nan" in found.text
    assert "stopped after step 30 of 100" in found.text
    assert "Optuna's fANOVA evaluator" in found.text
    files = {path.name for path in report.parent.iterdir()}
    assert files == {"report.html", "trials.csv", "trials.parquet"}
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert links[:2] == ["trials.csv", "trials.parquet"]
    assert links[2] == "../run_11/" and (report.parent / links[2]).is_dir()


def test_the_page_loads_nothing(report):
    text = report.read_text()
    found = Tags(text)
    for tag, attributes in found.tags:
        assert tag not in ("link", "img", "iframe", "base", "object"), tag
        for name in ("src", "srcset", "action", "data"):
            assert name not in attributes, (tag, attributes)
        assert not re.match(r"(\w+:)?//", attributes.get("href", "")), attributes
    library = max(found.scripts, key=len)
    assert len(library) > 1e6 and text.count(library) == 1
    rest = text.replace(library, "")
    assert rest.count("Plotly.newPlot(") == 8
    assert "//" not in re.sub(r'"https://plot\.ly"', "", rest).replace("://www.w3.org", "")
    assert len(rest) < 4e5
    assert '"showSendToCloud": false' in rest


def test_curves_and_their_bands_hold_the_numbers(report):
    text = report.read_text()
    figure = text[text.index('getElementById("means_0")') :]
    data = json.loads(re.search(r"\[\{.*?\}\](?=,\s*\{\")", figure, re.DOTALL).group())
    lines = [trace for trace in data if "fill" not in trace]
    assert len(lines) == 5, "the best five configurations"
    assert [len(trace["x"]) if isinstance(trace["x"], list) else 3 for trace in lines] == [3] * 5
    bands = [trace for trace in data if "fill" in trace]
    assert len(bands) == 3, "two of them have one seed left"


EVIL = '<script>alert(1)</script>" onmouseover=\'x\' %{x} <a href="https://x.org">'


def test_text_of_configs_is_text_on_the_page(tmp_path):
    rows = [
        {
            "optimizer.name": EVIL if place % 2 else "adam",
            f"odd.{EVIL}": [EVIL, place % 3],
            "seed": place,
            "_value": float(place),
            "_reason": EVIL,
            "_workdir": tmp_path / EVIL.replace("/", "_"),
        }
        for place in range(12)
    ]
    rows.append({"_state": "failed", "_reason": EVIL})
    for place, row in enumerate(rows[:2]):
        row["_workdir"] = write_run(tmp_path / EVIL.replace("/", "_") / str(place))
    found = replace(trials(*rows), title=EVIL, metric=METRIC)
    usual = Tags(
        page(trials(*({"a": r % 5, "b": r, "_value": 1.0 * r} for r in range(12))), tmp_path)
    )
    odd = Tags(page(found, tmp_path))
    assert odd.tags and "parallel" in odd.ids and "importance" in odd.ids
    assert EVIL.split(" ")[0] in odd.text
    for _, attributes in odd.tags:
        assert "onmouseover" not in attributes
        assert "https:" not in attributes.get("href", "")
    scripts = [tag for tag, _ in odd.tags].count("script")
    charts_more = len(odd.ids) - len(usual.ids)
    assert scripts == [tag for tag, _ in usual.tags].count("script") + charts_more
    assert "alert(1)</script>" not in "".join(odd.scripts)


NOTHING = {"_state": "waiting"}
ODD_SETS = {
    "none": [],
    "one": [{"_value": 0.5}],
    "one, of one setting": [{"seed": 0, "_value": 0.5}],
    "nothing finished": [
        {"rate": 0.1, **NOTHING},
        {"rate": 0.2, "_state": "running", "_value": 1.0},
    ],
    "all diverged": [
        {"rate": rate, "_state": "diverged", "_value": math.nan, "_reason": "not finite"}
        for rate in (0.1, 1.0, 10.0)
    ],
    "complete without a number": [
        {"rate": rate, "_value": value}
        for rate, value in ((0.1, math.nan), (1, math.inf), (2, None))
    ],
    "lists": [
        {"channels": [place % 3, 8], "more": {"a": place}, "_value": 0.1 * place}
        for place in range(12)
    ],
    "a constant": [{"a": 3, "b": place, "_value": 1.0 * place} for place in range(12)],
    "None and what is missing": [
        {"clip": None, "_value": 0.1},
        {"clip": 1.0, "_value": 0.2},
        {"_value": 0.3},
    ],
    "equal values": [{"a": place % 2, "b": place, "_value": 2.0} for place in range(12)],
    "seeds only": [{"seed": seed, "_value": 0.9 + 0.01 * seed} for seed in range(10)],
    "far apart": [{"a": place, "b": -place, "_value": 10.0 ** (place - 6)} for place in range(14)],
    "negative": [{"a": place, "b": place % 2, "_value": -1e6 * place} for place in range(12)],
    "many settings": [
        {**{f"s{i}": (place * (i + 3)) % 29 for i in range(25)}, "_value": 1.0 * place}
        for place in range(12)
    ],
}


@pytest.mark.parametrize("name", ODD_SETS)
def test_odd_sets_of_trials_make_a_page(tmp_path, name):
    mode = "min" if name in ("far apart", "negative", "equal values", "one") else "max"
    path = write_report(trials(*ODD_SETS[name], mode=mode), tmp_path)
    found = Tags(path.read_text())
    assert "a sweep" in found.text
    if name in ("none", "one", "nothing finished", "all diverged", "complete without a number"):
        assert not found.ids, "no chart for what has no data"
        assert len(path.read_text()) < 20_000, "and no library for no chart"
    if name == "seeds only":
        assert "Best mean over seeds 0.945 ± 0.022 10 seeds" in found.text
        assert "none varies but the seed" in found.text
    if name == "many settings":
        assert "18 of 25 settings are shown" in found.text
        assert "10 of 25 settings are shown" in found.text


def test_odd_curves_make_a_page(tmp_path):
    for place in range(3):
        settings = {"seed": place}
        values = [(math.nan, 0.5, math.inf), (0.1,), (0.1, 0.2, 0.3)][place]
        losses = [(math.nan,) * 3, (1.0, 1e9, 0.1), (0.0, -1.0, 2.0)][place]
        write_run(tmp_path / str(place), values, losses=losses, settings=settings)
    (tmp_path / "0" / "result.json").unlink()
    write_failure(tmp_path / "0", step=35)
    found = Tags(page(read_runs([tmp_path]), tmp_path))
    assert {"means_0", "means_1", "curves_0", "curves_1"} <= found.ids


def test_colours_go_from_bad_to_good():
    ends = charts.colour_range([0.1, 0.9, 0.91, 0.92, 0.93, 0.94], "max")
    assert ends[0] > 0.8 and ends[1] == 0.94, "one failure does not take the whole scale"
    assert charts.colour_range([1.0, 1.1, 1.2, 1.3, 99.0], "min") == pytest.approx((1.0, 1.6))
    for mode, best, worst in (("max", 1.0, 0.0), ("min", 0.0, 1.0)):
        dark, pale = (charts.colour_of(x, (0.0, 1.0), mode) for x in (best, worst))
        assert (dark, pale) == ("rgb(19,47,92)", "rgb(195,210,234)")
        assert charts.colour_of(2 * worst - best, (0.0, 1.0), mode) == pale
    assert charts.colour_of(3.0, (3.0, 3.0), "max") == "rgb(19,47,92)"


def test_losses_that_span_much_are_logarithmic():
    assert charts.value_axis([100.0, 1.0], "min")["type"] == "log"
    for values, mode in (([100.0, 1.0], "max"), ([2.0, 1.0], "min"), ([9.0, 0.0], "min")):
        assert "type" not in charts.value_axis(values, mode)
