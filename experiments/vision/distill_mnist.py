"""Knowledge distillation on MNIST: Hinton, Vinyals and Dean 2015, section 3.

`teacher` is their large network, two hidden layers of 1200 units with dropout, trained on images
moved by up to two pixels: 67 test errors in the paper. `alone` has two layers of 800 units and no
regularisation: 146 errors. `student`, the default, is the same small network, which matches the
teacher's soft targets at temperature 20 beside the labels and sees no moved image: 74 errors.

    python -m research.train --config experiments/vision/distill_mnist.py:teacher \\
        --workdir runs/distill_teacher
    python -m research.train --config experiments/vision/distill_mnist.py --workdir runs/distill
    python -m research.train --config experiments/vision/distill_mnist.py:alone --workdir runs/alone

The paper does not give its optimizer or the length of training; ours are not tuned.

Measured once, seed 0: 108 test errors (4 minutes on 2 CPU cores), 137 alone (2.5 minutes), and 105
of the teacher (10 minutes), which is what the student lacks to the paper. Data: `mnist/`.
"""

from ml_collections import ConfigDict

VARIANTS = ("student", "alone", "teacher")
REQUIRES = {"student": {"objective.teacher": "experiments/vision/distill_mnist.py:teacher"}}
ERRORS = {"student": 74, "alone": 146, "teacher": 67}


def get_config(variant: str = "student") -> ConfigDict:
    """The experiment; `variant` is student, alone or teacher."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    pixels = [{"name": "data.augment.ToFloat"}]
    moved = [{"name": "data.augment.RandomCrop", "padding": 2}] if variant == "teacher" else []
    small = {"name": "vision.MLP", "hidden": (800, 800)}
    objective = {
        "student": {
            "name": "vision.Distillation",
            "model": small,
            "teacher": "runs/distill_teacher",
            "temperature": 20.0,
            "soft_weight": 0.9,
        },
        "alone": {"name": "vision.Classification", "model": small},
        "teacher": {
            "name": "vision.Classification",
            "model": {
                "name": "vision.MLP",
                "hidden": (1200, 1200),
                "dropout_rate": 0.5,
                "input_dropout_rate": 0.2,
            },
        },
    }
    return ConfigDict(
        {
            "objective": objective[variant],
            "data": {
                "source": {
                    "name": "data.sources.Idx",
                    "images": "mnist/train-images-idx3-ubyte.gz",
                    "labels": "mnist/train-labels-idx1-ubyte.gz",
                },
                "transforms": [*pixels, *moved],
                "batch_size": 128,
            },
            "evaluations": {
                "test": {
                    "source": {
                        "name": "data.sources.Idx",
                        "images": "mnist/t10k-images-idx3-ubyte.gz",
                        "labels": "mnist/t10k-labels-idx1-ubyte.gz",
                    },
                    "transforms": pixels,
                },
            },
            "duration": "40 epochs" if variant == "teacher" else "20 epochs",
            "optimizer": {
                "name": "adam",
                "learning_rate": 1e-3,
                "schedule": {"name": "cosine", "warmup": "5%"},
            },
            "show_examples": 10_000,
            "reference": {
                "paper": f"Hinton et al. 2015, {variant}: {ERRORS[variant]} test errors",
                "metric": "test/accuracy",
                "value": 1 - ERRORS[variant] / 10_000,
                "tolerance": 0.0,
            },
        }
    )
