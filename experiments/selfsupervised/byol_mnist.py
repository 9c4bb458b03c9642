"""BYOL on MNIST without labels, then a linear probe on frozen features.

Grill et al. 2020: an online network predicts what a slowly following teacher makes of another view
of the same image; there are no negatives. The views are random affine maps. The probe is that of
selfsupervised/rotation_mnist, on 10,000 training images. `feature_std`, of the projections in
training, tells a collapse (0) from a spread over all directions (1); `linear/feature_std` is that
of the backbone's features, which are not negative and so stay below.

    python -m research.train --config experiments/selfsupervised/byol_mnist.py --workdir runs/byol

Expected: probe accuracy 0.965, of the untrained network 0.904, of pixels 0.893; feature_std 0.90,
linear/feature_std 0.27 (481 s of CPU time). Data: `mnist/`.
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
    view = {
        "name": "data.augment.RandomAffine",
        "degrees": 15.0,
        "translate": (0.1, 0.1),
        "scale": (0.85, 1.15),
    }
    head = {"name": "selfsupervised.ProjectionMLP", "hidden_dim": 256, "output_dim": 64}
    return ConfigDict(
        {
            "objective": {
                "name": "selfsupervised.BYOL",
                "backbone": {"name": "vision.ConvNet", "channels": (16, 32, 64)},
                "projector": head,
                "predictor": head,
                "views": [view],
                "base_momentum": 0.99,
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
            "duration": "4 epochs",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 2e-3,
                "weight_decay": 1e-4,
                "schedule": {"name": "cosine", "warmup": "5%"},
            },
            "reference": {
                "paper": "our own bar: the untrained network's features; pixels have 0.893",
                "metric": "linear/accuracy",
                "value": 0.904,
                "tolerance": 0.0,
            },
        }
    )
