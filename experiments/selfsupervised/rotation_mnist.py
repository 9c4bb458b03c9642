"""Rotation prediction on MNIST without labels, then a linear probe on frozen features.

Gidaris et al. 2018: a network that tells how far an image was turned learns features of what is in
it. The paper finds them in the middle of the network, where the last layers know about rotation
only: the probe is a multinomial logistic regression on the second of three stages, averaged over
positions, of 10,000 training images; the same probe is fitted to raw pixels and to the features
of the untrained network.

    python -m research.train --config experiments/selfsupervised/rotation_mnist.py \\
        --workdir runs/rotation

Expected: probe accuracy 0.943 learned, 0.907 untrained, 0.893 pixels; rotations told apart with
test accuracy 0.984 (18 minutes of CPU time). Stage and widths were chosen by probing 10,000 other
training images, where the last stage had 0.904 learned, 0.900 untrained. Data: `mnist/`.
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
            "reference": {
                "paper": "our own bar: the untrained network's features; pixels have 0.893",
                "metric": "linear/accuracy",
                "value": 0.907,
                "tolerance": 0.0,
            },
        }
    )
