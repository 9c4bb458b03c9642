import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from research.engine import figures
from research.engine.display import ConfusionMatrix, Scatter
from research.errors import UserError

REPOSITORY = Path(__file__).parents[2]


def open_picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def is_ink(pixels: np.ndarray) -> np.ndarray:
    """Pixels that are neither white nor a light line of the grid."""
    return (pixels < 200).any(axis=-1)


def has_colour(pixels: np.ndarray, colour: str) -> bool:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(pixels.astype(int) - rgb).max(axis=-1) <= 12).any())


def test_every_class_of_a_scatter_has_its_colour():
    points = np.random.default_rng(0).normal(size=(300, 2))
    for num_classes in (3, 10, 15, 60):
        picture = figures.scatter(Scatter(points, np.arange(300) % num_classes, ("z0", "z1")))
        assert picture.dtype == np.uint8
        saturation = picture.max(axis=-1).astype(int) - picture.min(axis=-1)
        hues = {tuple(pixel // 40) for pixel in picture[saturation > 60]}
        assert len(hues) >= min(num_classes, 8), num_classes
    assert is_ink(figures.scatter(Scatter(points))).any(), "without labels there are points too"


def make_rows(steps: range) -> list[dict]:
    rows: list[dict] = []
    for step in steps:
        rows.append(
            {
                "step": step,
                "loss": 2 / (1 + step),
                "learning_rate": 0.1,
                "grad_norm/encoder": 0.1**step,
                "grad_norm/decoder": 1.0,
            }
        )
        if step % 5 == 0:
            rows.append({"step": step, "test/loss": 3 / (1 + step), "test/accuracy": 0.5})
    return rows


def test_learning_curves_group_train_and_evaluations_by_metric():
    panels = figures._panels(make_rows(range(11)))
    assert [(name, list(curves)) for name, curves in panels.items()] == [
        ("loss", ["train", "test"]),
        ("accuracy", ["test"]),
        ("learning_rate", [""]),
        ("grad_norm", ["decoder", "encoder"]),
    ]
    assert panels["loss"]["test"] == [(0, 3.0), (5, 0.5), (10, 3 / 11)]
    once = [*make_rows(range(11)), {"step": 10, "linear/accuracy": 0.9, "linear/std": 1.0}]
    assert set(figures._panels(once)) == set(panels)
    assert set(figures._panels(once)["accuracy"]) == {"test", "linear"}
    players = [{"step": step, "learning_rate/a": 0.1, "learning_rate/b": 0.2} for step in (1, 2)]
    assert {name: list(curves) for name, curves in figures._panels(players).items()} == {
        "learning_rate": ["a", "b"]
    }


def test_learning_curves_are_drawn_and_small(tmp_path):
    path = tmp_path / "new" / "curves.png"
    figures.learning_curves(make_rows(range(200)), path)
    picture = open_picture(path)
    assert has_colour(picture, figures.COLOURS[0]), "train"
    assert has_colour(picture, figures.COLOURS[1]), "test"
    assert path.stat().st_size < 150_000
    border = np.concatenate([picture[:3].reshape(-1, 3), picture[:, -3:].reshape(-1, 3)])
    assert not is_ink(border).any(), "something is cut off"


@pytest.mark.parametrize(
    "rows",
    [
        [{"step": 100, "loss": 2.3, "grad_norm": 0.0}],
        [{"step": s, "loss": math.nan if s > 2 else 1.0, "test/fid": math.inf} for s in range(6)],
        [{"step": s, "loss": [1.0 / (1 + s), math.nan, 3.0]} for s in range(100)],
        [{"step": s, **{f"grad_norm/layer_{i}": 1.0 + i for i in range(40)}} for s in (1, 2)],
    ],
    ids=["one point", "not finite", "trials", "many groups"],
)
def test_learning_curves_of_unusual_runs(tmp_path, rows):
    figures.learning_curves(rows, tmp_path / "curves.png")
    assert is_ink(open_picture(tmp_path / "curves.png")).sum() > 500


def test_the_moving_mean_skips_what_is_not_finite():
    smoothed = figures._moving_mean(np.array([1.0, np.nan, 3.0, 5.0, 7.0]), 3)
    np.testing.assert_allclose(smoothed, [1.0, np.nan, 4.0, 5.0, 6.0])


def test_learning_curves_of_nothing_are_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no metrics"):
        figures.learning_curves([], tmp_path / "curves.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        figures.learning_curves([{"step": 1, "loss": 1.0}], tmp_path / "file" / "curves.png")


def test_confusion_matrix_shows_shares_of_the_true_class(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "render", drawn.append)
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 5]])
    figures.confusion_matrix(ConfusionMatrix(counts, ["cat", "dog", "frog"]))

    axes = drawn[0].axes[0]
    shares = axes.images[0].get_array()
    np.testing.assert_array_equal(shares, [[0.75, 0.25, 0], [0, 0, 0], [0, 0, 1]])
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "frog"]
    texts = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert texts == {((0, 0), "3"), ((1, 0), "1"), ((2, 2), "5")}
    assert axes.get_title() == "accuracy 88.89%"


@pytest.mark.parametrize("num_classes", [2, 20, 120])
def test_confusion_matrix_fits_its_picture(num_classes):
    names = [f"a long name of class {index}" for index in range(num_classes)]
    matrix = ConfusionMatrix(np.eye(num_classes, dtype=int), names)
    picture = figures.confusion_matrix(matrix)
    border = [picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]]
    assert not any(is_ink(part).any() for part in border), "something is cut off"
    assert max(picture.shape) < 1500


def test_importing_loads_no_plotting_library_and_drawing_no_pyplot():
    program = """
import sys
import research.engine.record
assert not {"matplotlib", "PIL", "tensorboardX"} & sys.modules.keys(), "slow to import"
import numpy as np
from research.engine import figures
from research.engine.display import Scatter
figures.scatter(Scatter(np.zeros((3, 2))))
assert "matplotlib.pyplot" not in sys.modules, "pyplot keeps global state"
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
