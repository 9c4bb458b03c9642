"""A perceptron with two hidden layers on MNIST: 784-128-64-10.

Simard, Steinkraus and Platt 2003 list 1.6 % test error for 800 hidden units without distortions;
98 % is what this small one must reach. Settings were chosen on the last 5,000 training images; the
test set was not used.

    python -m research.train --config experiments/vision/mlp_mnist.py --workdir runs/mlp

Expected: test accuracy 0.981 (40 s on 2 CPU cores). Data: `mnist/`.
"""

from ml_collections import ConfigDict

MEAN, STD = 0.1307, 0.3081


def get_config() -> ConfigDict:
    """The experiment."""
    transforms = [
        {"name": "data.augment.ToFloat"},
        {"name": "data.augment.Normalize", "mean": (MEAN,), "std": (STD,)},
    ]
    return ConfigDict(
        {
            "objective": {
                "name": "vision.Classification",
                "model": {
                    "name": "vision.MLP",
                    "hidden": (128, 64),
                    "dropout_rate": 0.2,
                },
            },
            "data": {
                "source": {
                    "name": "data.sources.Idx",
                    "images": "mnist/train-images-idx3-ubyte.gz",
                    "labels": "mnist/train-labels-idx1-ubyte.gz",
                },
                "transforms": transforms,
                "batch_size": 128,
            },
            "evaluations": {
                "test": {
                    "source": {
                        "name": "data.sources.Idx",
                        "images": "mnist/t10k-images-idx3-ubyte.gz",
                        "labels": "mnist/t10k-labels-idx1-ubyte.gz",
                    },
                    "transforms": transforms,
                },
            },
            "duration": "20 epochs",
            "optimizer": {
                "name": "adam",
                "learning_rate": 1e-3,
                "schedule": {"name": "cosine", "warmup": "5%"},
            },
            "show_examples": 10_000,
            "reference": {
                "paper": "our own bar: 98 % of the test digits",
                "metric": "test/accuracy",
                "value": 0.98,
                "tolerance": 0.0,
            },
        }
    )
