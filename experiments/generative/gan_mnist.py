"""A small DCGAN on MNIST: two players, alternating in every step.

Radford et al. 2016 (transposed convolutions, batch normalisation, Adam with b1 = 0.5), shrunk to
28×28 and trained with the non-saturating loss; samples come from the averaged generator. Two things
differ from the paper: a dense hidden layer in both networks, which have two convolutions only, and
20 of the latents choose a category, so that the images need not pass from one digit to another
continuously. No labels are used.

What must be reached is ours: LeNet of vision/lenet_mnist names at least 90 % of 10,000 samples with
a probability of 0.9 or more, and every digit makes up at least 4 % of them. Train it first:

    python -m research.train --config experiments/vision/lenet_mnist.py --workdir runs/lenet
    python -m research.train --config experiments/generative/gan_mnist.py --workdir runs/gan
    python -m research.generate --workdir runs/gan --output samples/

Expected: 98.2 % of the samples named, the rarest digit 9.5 % of them (23 minutes of CPU time);
without categories 90 % after 15 epochs, without hidden layers 71 % after 5. Data: `mnist/`.
"""

from ml_collections import ConfigDict

REQUIRES = {"probes.classifier.probe.workdir": "experiments/vision/lenet_mnist.py"}


def get_config() -> ConfigDict:
    """The experiment."""
    pixels = [{"name": "data.augment.ToFloat"}]
    return ConfigDict(
        {
            "objective": {
                "name": "generative.GAN",
                "generator": {
                    "name": "generative.DCGANGenerator",
                    "latent_dim": 64,
                    "num_categories": 20,
                    "image_shape": (28, 28, 1),
                    "hidden": (512,),
                    "channels": (64, 32),
                },
                "discriminator": {
                    "name": "generative.DCGANDiscriminator",
                    "channels": (32, 64),
                    "hidden": (256,),
                },
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
                    },
                    "transforms": pixels,
                    "every": "5 epochs",
                },
            },
            "probes": {
                "classifier": {
                    "probe": {"name": "generative.ClassifierProbe", "workdir": "runs/lenet"},
                },
            },
            "duration": "10 epochs",
            "optimizer": {
                "name": "adam",
                "learning_rate": 5e-4,
                "b1": 0.5,
                "schedule": {"name": "linear"},
            },
            "ema_decay": 0.999,
            "show_every": "5 epochs",
            "log_every": "100 steps",
            "reference": {
                "paper": "our own bar: 90 % of samples are named with p >= 0.9",
                "metric": "classifier/confident",
                "value": 0.9,
                "tolerance": 0.0,
            },
        }
    )
