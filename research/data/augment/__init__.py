"""Pure transforms of batches, jitted with the step: `(rng, batch) -> batch`."""

from research.data.augment.affine import RandomAffine, RandomRotation
from research.data.augment.color import ColorJitter, GaussianBlur, RandomGrayscale
from research.data.augment.elastic import ElasticDeformation
from research.data.augment.geometry import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Resize,
)
from research.data.augment.mix import CutMix, Mixup, RandomChoice
from research.data.augment.pixels import (
    Binarize,
    Cutout,
    GaussianNoise,
    Normalize,
    RandomErasing,
    Solarize,
    ToFloat,
)
from research.data.augment.rand_augment import RandAugment
from research.data.augment.span_corruption import SpanCorruption
from research.data.augment.transform import Transform, apply_transforms

__all__ = [
    "Binarize",
    "CenterCrop",
    "ColorJitter",
    "CutMix",
    "Cutout",
    "ElasticDeformation",
    "GaussianBlur",
    "GaussianNoise",
    "Mixup",
    "Normalize",
    "Pad",
    "RandAugment",
    "RandomAffine",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomGrayscale",
    "RandomResizedCrop",
    "RandomRotation",
    "Resize",
    "Solarize",
    "SpanCorruption",
    "ToFloat",
    "Transform",
    "apply_transforms",
]
