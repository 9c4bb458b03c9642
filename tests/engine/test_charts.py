import numpy as np
import pytest

from research.engine import charts
from research.engine.display import Curve, Curves, Heatmap, Heatmaps
from tests.engine.test_figures import is_ink


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(charts, "render", figures.append)
    return figures


def test_curves_have_a_panel_a_title_and_a_colour_a_label(drawn):
    x = np.arange(3.0)
    past, truth = Curve("past", x - 3, x), Curve("truth", x, np.array([1.0, np.inf, 2.0]))
    charts.curves(Curves({"oil": [past, truth], "load": [truth]}, ("hours", "°C")))

    upper, lower = drawn[0].axes
    assert [axes.get_title("left") for axes in (upper, lower)] == ["oil", "load"]
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", "hours")
    assert [line.get_label() for line in upper.lines] == ["past", "truth"]
    assert upper.lines[1].get_color() == lower.lines[0].get_color()
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), [1.0, np.nan, 2.0])


def test_heatmaps_share_their_colours(drawn):
    maps = [
        Heatmap(np.array([[0.0, 1.0]]), ["der"], ["the", "dog"], "head 0"),
        Heatmap(np.array([[np.nan, 4.0]]), title="head 1"),
    ]
    charts.heatmaps(Heatmaps(maps, ("source", "target"), "attention"))

    first, second, _ = drawn[0].axes
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0.0, 4.0)
    assert [label.get_text() for label in first.get_xticklabels()] == ["the", "dog"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["der"]


@pytest.mark.parametrize("shape", [(2, 3), (11, 200), (90, 90)])
@pytest.mark.parametrize("num_maps", [1, 8])
def test_heatmaps_fit_their_picture(shape, num_maps):
    names = [[f"a long name {index}" for index in range(length)] for length in shape]
    picture = charts.heatmaps(Heatmaps([Heatmap(np.zeros(shape), *names)] * num_maps))
    border = [picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]]
    assert not any(is_ink(part).any() for part in border), "something is cut off"
    assert max(picture.shape) < 2200
