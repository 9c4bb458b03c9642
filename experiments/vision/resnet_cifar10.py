"""Residual networks on CIFAR-10 (He, Zhang, Ren, Sun 2016), and others beside them on a CPU.

`20`, `32`, `44`, `56` and `110` are the networks of table 6 as the paper trains them: 64,000 steps
of 128 images, padded by 4 pixels, cropped and mirrored. The paper's test errors are 8.75, 7.51,
7.17, 6.97 and 6.43 % (the best of five runs; 6.61 ± 0.16 on average). They want a GPU.

`small` trains the first of them on a fifth of the training images, 10,000, in steps of 32 for as
long as two cores take about 15 minutes; `small_vgg`, `small_mobilenet` and `small_vit` train VGG-11
with batch norm, MobileNetV2 and ViT-Ti with patches of 4×4 on the same images for the same time:
lengths are by the seconds a step took in a short run of each.

    python -m research.train --config experiments/vision/resnet_cifar10.py:20 \\
        --workdir runs/resnet20
    python -m research.train --config experiments/vision/resnet_cifar10.py --workdir runs/small

Measured once, seed 0: `small` 0.725, `small_vgg` 0.646, `small_mobilenet` 0.434, `small_vit` 0.309,
short of what a linear classifier of the pixels reaches (0.397); 13 to 22 minutes each on 2 CPU
cores beside other work. The deep ones have not been run. Data: `cifar10/`.
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = ("small", "small_vgg", "small_mobilenet", "small_vit", "20", "32", "44", "56", "110")
NEEDS_ACCELERATOR = ("20", "32", "44", "56", "110")
ERRORS = {"20": 8.75, "32": 7.51, "44": 7.17, "56": 6.97, "110": 6.61}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PARTS = (1, 2, 3, 4, 5)

# Model, length and optimizer of each variant for a CPU.
SMALL: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "small": (
        {"name": "vision.CifarResNet"},
        "12 epochs",
        {"name": "nesterov", "learning_rate": 0.03, "weight_decay": 5e-4},
    ),
    "small_vgg": (
        {
            "name": "vision.VGG",
            "depth": 11,
            "num_classes": 10,
            "batch_norm": True,
            "hidden": (),
            "pooled_size": 1,
        },
        "4.3 epochs",
        {"name": "nesterov", "learning_rate": 0.02, "weight_decay": 5e-4},
    ),
    "small_mobilenet": (
        {"name": "vision.MobileNetV2", "num_classes": 10, "stem": "small"},
        "1.6 epochs",
        {"name": "nesterov", "learning_rate": 0.03, "weight_decay": 5e-4},
    ),
    "small_vit": (
        {"name": "vision.ViT", "num_classes": 10, "variant": "tiny", "patch_size": 4},
        "2.3 epochs",
        {"name": "adamw", "learning_rate": 5e-4, "weight_decay": 0.05},
    ),
}


def get_config(variant: str = "small") -> ConfigDict:
    """The experiment; `variant` is a depth, or one of those for a CPU."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    pixels = [
        {"name": "data.augment.ToFloat"},
        {"name": "data.augment.Normalize", "mean": MEAN, "std": STD},
    ]
    augment = [
        {"name": "data.augment.RandomCrop", "padding": 4},
        {"name": "data.augment.RandomFlip"},
    ]
    if variant in SMALL:
        model, duration, optimizer = SMALL[variant]
        parts: tuple[int, ...] = PARTS[:1]
        optimizer = {**optimizer, "schedule": {"name": "cosine", "warmup": "5%"}}
        reference = {
            "paper": "our own bar: a linear classifier of pixels from the same images",
            "metric": "test/accuracy",
            "value": 0.397,
        }
    else:
        model, duration = {"name": "vision.CifarResNet", "depth": int(variant)}, "64000 steps"
        parts = PARTS
        optimizer = {
            "name": "momentum",
            "learning_rate": 0.1,
            "weight_decay": 1e-4,
            "schedule": {
                "name": "step",
                "boundaries": ("32000 steps", "48000 steps"),
                # The paper begins the deepest with a lower rate, until it learns.
                "warmup": "400 steps" if variant == "110" else "0 steps",
            },
        }
        reference = {
            "paper": f"He et al. 2016, table 6: ResNet-{variant}, {ERRORS[variant]} % error",
            "metric": "test/accuracy",
            "value": 1 - ERRORS[variant] / 100,
        }
    return ConfigDict(
        {
            "objective": {"name": "vision.Classification", "model": model},
            "data": {
                "source": {
                    "name": "data.sources.Arrays",
                    "files": {
                        "image": [f"cifar10/train_{i}_images.npy.xz" for i in parts],
                        "label": [f"cifar10/train_{i}_labels.npy" for i in parts],
                    },
                },
                "transforms": [pixels[0], *augment, pixels[1]],
                "batch_size": 32 if variant in SMALL else 128,
            },
            "evaluations": {
                "test": {
                    "source": {
                        "name": "data.sources.Arrays",
                        "files": {
                            "image": "cifar10/test_images.npy.xz",
                            "label": "cifar10/test_labels.npy",
                        },
                    },
                    "transforms": pixels,
                    "every": "20%",
                },
            },
            "duration": duration,
            "optimizer": optimizer,
            "checkpoints": {"every": "20%"},
            "show_examples": 10_000,
            "reference": reference,
        }
    )
