"""CIFAR-10 as fast as it goes: Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds on a single GPU".

`gpu` is the paper's network and recipe, `airbench94`, in 9.9 epochs: whitening filters as first
layer, large steps of Nesterov's momentum with 64 times the rate for the biases of normalisation,
label smoothing, and the mean over mirrored and moved images at evaluation. It differs in four
places: the average of the parameters over steps takes the place of Lookahead, images are mirrored
at random instead of in turns, the bias of the first layer is trained to the end instead of for
three epochs, and layers compute in bfloat16 with parameters in float32 instead of in float16. The
whole data set lies on the device, and one call of the program makes many steps.

`cpu` has narrower layers, smaller batches and fewer epochs, and computes in float32.

    python -m research.train --config experiments/vision/cifar10_fast.py --workdir runs/fast
    python -m research.train --config experiments/vision/cifar10_fast.py:gpu --workdir runs/fast

Has not been run to its end yet. Data: `cifar10/`.
"""

from ml_collections import ConfigDict

VARIANTS = ("cpu", "gpu")
NEEDS_ACCELERATOR = ("gpu",)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NORM_BIAS = r".*_norm_\d/bias"


def get_config(variant: str = "cpu") -> ConfigDict:
    """The experiment; `variant` is cpu or gpu."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    gpu = variant == "gpu"
    pixels = [
        {"name": "data.augment.ToFloat"},
        {"name": "data.augment.Normalize", "mean": MEAN, "std": STD},
    ]
    train = {
        "name": "data.sources.Arrays",
        "files": {
            "image": [f"cifar10/train_{i}_images.npy.xz" for i in (1, 2, 3, 4, 5)],
            "label": [f"cifar10/train_{i}_labels.npy" for i in (1, 2, 3, 4, 5)],
        },
    }
    return ConfigDict(
        {
            "objective": {
                "name": "vision.Classification",
                "model": {
                    "name": "vision.AirbenchNet",
                    "channels": (64, 256, 256) if gpu else (32, 64, 128),
                },
                "label_smoothing": 0.2,
                "test_time_augmentation": "shift",
            },
            "init_from": {"name": "vision.Whitening", "source": train, "transforms": pixels},
            "data": {
                "source": train,
                "transforms": [
                    *pixels,
                    {"name": "data.augment.RandomFlip"},
                    {"name": "data.augment.RandomCrop", "padding": 2, "mode": "reflect"},
                ],
                "batch_size": 1024 if gpu else 512,
                "on_device": True,
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
                    "every": "100%",
                },
            },
            "duration": "9.9 epochs" if gpu else "6 epochs",
            "optimizer": {
                "name": "nesterov",
                "learning_rate": 1.5 if gpu else 0.75,
                "momentum": 0.85,
                # 0.0153 and a rate of 11.5 in the paper's units.
                "weight_decay": 1.33e-3,
                "weight_decay_rules": ((NORM_BIAS, 1 / 64), (".*", 1.0)),
                "learning_rate_rules": ((NORM_BIAS, 64.0),),
                "freeze": ("whitening/kernel",),
                "schedule": {
                    "name": "linear",
                    "warmup": "23%",
                    "initial_fraction": 0.2,
                    "final_fraction": 0.07,
                },
            },
            "ema_decay": 0.95,
            "steps_per_call": 48 if gpu else 1,
            "compute_dtype": "bfloat16" if gpu else "float32",
            "checkpoints": {"every": "100%"},
            "show_examples": 10_000,
            "reference": {
                "paper": "Jordan 2024, airbench94: 94.01 %",
                "metric": "test/accuracy",
                "value": 0.94,
                "tolerance": 0.0,
            },
        }
    )
