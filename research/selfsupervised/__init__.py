"""Self-supervised objectives and how their features are measured."""

from research.selfsupervised.byol import BYOL
from research.selfsupervised.linear_probe import LinearProbe
from research.selfsupervised.projection import ProjectionMLP
from research.selfsupervised.rotation import RotationPrediction

__all__ = ["BYOL", "LinearProbe", "ProjectionMLP", "RotationPrediction"]
