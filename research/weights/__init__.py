"""Published weights, from and to our variables."""

from research.weights.convert import load, save

__all__ = ["load", "save"]
