"""The 784–400–20 variational autoencoder on MNIST.

Kingma & Welling 2014, with the widely used sizes of PyTorch's example and its convention: the
Bernoulli likelihood of grey intensities. That example's loss after 10 epochs is about 104 to 106
nats. Settings were chosen on the last 5,000 training images.

    python -m research.train --config experiments/generative/vae_mnist.py --workdir runs/vae
    python -m research.generate --workdir runs/vae --output samples/

Expected: test negative ELBO 102.8 nats (112 s of CPU time). Data: `mnist/`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The experiment."""
    pixels = [{"name": "data.augment.ToFloat"}]
    return ConfigDict(
        {
            "objective": {
                "name": "generative.VAE",
                "encoder": {"name": "generative.MLPEncoder", "latent_dim": 20, "hidden": (400,)},
                "decoder": {"name": "generative.MLPDecoder", "hidden": (400,)},
            },
            "data": {
                "source": {
                    "name": "data.sources.Idx",
                    "images": "mnist/train-images-idx3-ubyte.gz",
                },
                "transforms": pixels,
                "batch_size": 64,
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
            "duration": "10 epochs",
            "optimizer": {
                "name": "adam",
                "learning_rate": 4e-3,
                "schedule": {"name": "cosine", "warmup": "2%"},
            },
            "log_every": "100 steps",
            "reference": {
                "paper": "the 784–400–20 VAE after 10 epochs",
                "metric": "test/negative_elbo",
                "value": 104.0,
                "tolerance": 0.0,
                "mode": "min",
            },
        }
    )
