"""DCGAN's networks against PyTorch's, in size and in numbers."""

import hashlib
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generative import DCGANDiscriminator, DCGANGenerator

FOLDER = Path(
    os.environ.get("RESEARCH_PARITY_DIR", Path(__file__).parents[3] / "shared" / "parity")
)


def num_params(model, shape):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_have_the_published_numbers_of_parameters():
    assert num_params(DCGANGenerator(), (100,)) == 3_576_704
    assert num_params(DCGANDiscriminator(), (64, 64, 3)) == 2_765_568


def test_starts_as_the_paper_says():
    init = jax.jit(DCGANDiscriminator((16, 32)).init)
    params = init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    kernel, scale = params["conv_1"]["kernel"], params["norm_1"]["scale"]
    np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 0.02], atol=2e-3)
    np.testing.assert_allclose([scale.mean(), scale.std()], [1, 0.02], atol=0.01)


def test_refuses_an_image_size_it_cannot_double_to():
    with pytest.raises(ValueError, match="multiples of 8"):
        DCGANGenerator(4, (28, 28, 1), (8, 4, 2)).init(jax.random.key(0), jnp.zeros((1, 4)))


class Fixture:
    """A published model's parameters, drawn as the fixtures' README says, and its outputs."""

    def __init__(self, name):
        path = FOLDER / "fixtures" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"no parity fixtures: {path} is absent (set RESEARCH_PARITY_DIR)")
        with np.load(path) as archive:
            self.meta = json.loads(str(archive["meta"]))
            self.outputs = {key: archive[key] for key in archive.files if key != "meta"}

    def generator(self, name):
        digest = hashlib.sha256(f"{self.meta['seed']}/{name}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))

    def draw(self, name):
        generator, shape = self.generator(name), self.meta["params"].get(name)
        shape = shape or self.meta["buffers"][name]
        if len(shape) >= 2:
            std = np.sqrt(2 / (shape[0] + np.prod(shape) / shape[0])) * self.meta["gain"]
            return generator.normal(size=shape) * std
        if name.endswith(("weight", "running_var")):
            return 0.5 + generator.random(shape)
        return 0.1 * generator.normal(size=shape)

    def norm(self, name):
        """Parameters and statistics of a batch normalisation."""
        return (
            {"scale": self.draw(f"{name}.weight"), "bias": self.draw(f"{name}.bias")},
            {"mean": self.draw(f"{name}.running_mean"), "var": self.draw(f"{name}.running_var")},
        )

    def input(self):
        return self.generator("input").normal(size=self.meta["inputs"]["input"]["shape"])


def test_generator_equals_pytorch():
    fixture = Fixture("dcgan_generator")
    # The first transposed convolution sees one position: a dense layer to 4×4×512.
    first = fixture.draw("main.0.weight")
    params = {"dense": {"kernel": first.transpose(0, 2, 3, 1).reshape(100, -1)}}
    statistics = {}
    for i in range(4):
        kernel = fixture.draw(f"main.{3 * i + 3}.weight")
        params[f"conv_{i}"] = {"kernel": kernel.transpose(2, 3, 0, 1)[::-1, ::-1]}
        params[f"norm_{i}"], statistics[f"norm_{i}"] = fixture.norm(f"main.{3 * i + 1}")
    expected = fixture.outputs["image"]
    with jax.enable_x64(True):
        variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": statistics})
        latents = jnp.asarray(fixture.input().reshape(-1, 100))
        images = jax.jit(DCGANGenerator(dtype="float64").apply)(variables, latents)
        got = 2 * np.asarray(images).transpose(0, 3, 1, 2) - 1
    np.testing.assert_allclose(got[..., ::7], expected, rtol=0, atol=1e-9 * expected.std())


def test_discriminator_equals_pytorch():
    fixture = Fixture("dcgan_discriminator")
    params, statistics = {}, {}
    for i, place in enumerate((0, 2, 5, 8)):
        kernel = fixture.draw(f"main.{place}.weight")
        params[f"conv_{i}"] = {"kernel": kernel.transpose(2, 3, 1, 0)}
        if i > 0:
            params[f"norm_{i}"], statistics[f"norm_{i}"] = fixture.norm(f"main.{place + 1}")
    # The last convolution sees one position: a dense layer on 4×4×512.
    params["head"] = {"kernel": fixture.draw("main.11.weight").transpose(2, 3, 1, 0).reshape(-1, 1)}
    expected = fixture.outputs["probability"]
    with jax.enable_x64(True):
        variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": statistics})
        images = jnp.asarray(fixture.input().transpose(0, 2, 3, 1))
        # The network reads images in [0, 1] and rescales them to PyTorch's [-1, 1].
        logits = jax.jit(DCGANDiscriminator(dtype="float64").apply)(variables, (images + 1) / 2)
        got = np.asarray(jax.nn.sigmoid(logits))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * expected.std())
