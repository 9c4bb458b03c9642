"""Published weights, from and to our variables."""

from research.weights.convert import load, save
from research.weights.pretrained import Pretrained

__all__ = ["Pretrained", "load", "save"]
