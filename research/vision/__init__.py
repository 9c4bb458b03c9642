"""Image models and objectives."""

from research.vision.classification import Classification
from research.vision.convnet import ConvNet
from research.vision.lenet import LeNet

__all__ = ["Classification", "ConvNet", "LeNet"]
