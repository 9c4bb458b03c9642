"""Generative models and objectives."""

from research.generative.classifier_probe import ClassifierProbe
from research.generative.dcgan import DCGANDiscriminator, DCGANGenerator
from research.generative.gan import GAN
from research.generative.mlp_vae import MLPDecoder, MLPEncoder
from research.generative.vae import VAE

__all__ = [
    "GAN",
    "VAE",
    "ClassifierProbe",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "MLPDecoder",
    "MLPEncoder",
]
