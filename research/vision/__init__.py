"""Image models and objectives."""

from research.vision.airbench import AirbenchNet
from research.vision.alexnet import AlexNet
from research.vision.cifar_resnet import CifarResNet, WideResNet
from research.vision.classification import Classification
from research.vision.convnet import ConvNet
from research.vision.convnext import ConvNeXt
from research.vision.densenet import DenseNet
from research.vision.distillation import Distillation
from research.vision.efficientnet import EfficientNet
from research.vision.googlenet import GoogLeNet
from research.vision.inception import InceptionV3
from research.vision.lenet import LeNet
from research.vision.lenet_1998 import LeNet1998
from research.vision.mixer import Mixer
from research.vision.mlp import MLP
from research.vision.mobilenet import MobileNetV1, MobileNetV2
from research.vision.mobilenet_v3 import MobileNetV3
from research.vision.report import ClassificationReport
from research.vision.resnet import ResNet
from research.vision.segmentation import Segmentation
from research.vision.segmentation_report import SegmentationReport
from research.vision.unet import UNet
from research.vision.vgg import VGG
from research.vision.vit import ViT
from research.vision.whitening import Whitening

__all__ = [
    "MLP",
    "VGG",
    "AirbenchNet",
    "AlexNet",
    "CifarResNet",
    "Classification",
    "ClassificationReport",
    "ConvNeXt",
    "ConvNet",
    "DenseNet",
    "Distillation",
    "EfficientNet",
    "GoogLeNet",
    "InceptionV3",
    "LeNet",
    "LeNet1998",
    "Mixer",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3",
    "ResNet",
    "Segmentation",
    "SegmentationReport",
    "UNet",
    "ViT",
    "Whitening",
    "WideResNet",
]
