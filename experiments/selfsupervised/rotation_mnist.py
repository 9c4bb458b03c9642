"""Rotation prediction on MNIST without labels, then a linear probe on frozen features.

Gidaris et al. 2018: a network that tells how far an image was turned learns features of what is
in it. The probe is a multinomial logistic regression on the backbone's average-pooled features of
10,000 training images; the same probe is fitted to raw pixels and to the features of the untrained
network.

    python -m research.train --config experiments/selfsupervised/rotation_mnist.py \\
        --workdir runs/rotation

Not yet measured to its end. Data: `mnist/`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The experiment."""
    train = {
        "name": "data.sources.Idx",
        "images": "mnist/train-images-idx3-ubyte.gz",
        "labels": "mnist/train-labels-idx1-ubyte.gz",
    }
    test = {
        "name": "data.sources.Idx",
        "images": "mnist/t10k-images-idx3-ubyte.gz",
        "labels": "mnist/t10k-labels-idx1-ubyte.gz",
    }
    pixels = [{"name": "data.augment.ToFloat"}]
    return ConfigDict(
        {
            "objective": {
                "name": "selfsupervised.RotationPrediction",
                "model": {"name": "vision.ConvNet", "num_classes": 4, "channels": (16, 64, 64)},
                "feature": "stage_1",
            },
            "data": {"source": train, "transforms": pixels, "batch_size": 128},
            "evaluations": {"test": {"source": test, "transforms": pixels}},
            "probes": {
                "linear": {
                    "probe": {
                        "name": "selfsupervised.LinearProbe",
                        "train": train,
                        "test": test,
                        "transforms": pixels,
                        "max_train": 10_000,
                    },
                },
            },
            "duration": "3 epochs",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 2e-3,
                "weight_decay": 1e-4,
                "schedule": {"name": "cosine", "warmup": "5%"},
            },
        }
    )
