"""U-Net (Ronneberger, Fischer, Brox, 2015)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv, ConvTranspose
from research.nn.dropout import Dropout
from research.nn.norm import BatchNorm
from research.nn.pooling import max_pool
from research.nn.remat import apply_block

Norm = Literal["none", "batch", "instance"]


class UNet(nn.Module):
    """Two 3×3 convolutions a level on the way down and up again, with the maps of the way down
    beside those of the way up; logits of every pixel.

    With `padding` "VALID", as in the paper, nothing is added at the borders: the output is smaller
    than the images, is that of their middle, and maps of the way down are cropped. With "SAME" it
    has their size. Images are halved a level but the last. With "VALID" what remains must be even
    before it; with "SAME" an odd last row or column is left out, and zeros take its place on the
    way up.

    Dropout is at the end of the way down. The paper has no `norm`; "instance" takes each image's
    statistics (nnU-Net; Isensee et al., 2021), which does not depend on how few images a batch has.
    `up_activation` is a ReLU behind each up-convolution. The much-used milesial/Pytorch-UNet has
    none, and batch norm, "SAME" and a dropout rate of 0.

    Kernels are He's, for the number of a kernel's inputs. At stride 2 a pixel sees a quarter of an
    up-convolution's, so that these begin with half the standard deviation that would keep theirs.
    `remat` keeps only the inputs of each pair of convolutions for the backward pass.
    """

    num_classes: int = 2
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    padding: Literal["VALID", "SAME"] = "VALID"
    norm: Norm = "none"
    up_activation: bool = True
    dropout_rate: float = 0.5
    remat: bool = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        self.head = nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch rows columns num_classes"]:
        """Logits of every pixel; dropout where `train`."""
        *_, x = self.features(images, train).values()
        return self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of every level on the way down, `down_0`, …, and up, …, `up_0`.

        Raises ValueError for images that cannot be halved so often.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        double: Any = partial(DoubleConv, padding=self.padding, norm=self.norm, **types)
        maps: dict[str, Array] = {}
        x, last = images, len(self.channels) - 1
        for level, channels in enumerate(self.channels):
            if level > 0:
                if self.padding == "VALID" and (x.shape[1] % 2 or x.shape[2] % 2):
                    size = "×".join(map(str, x.shape[1:3]))
                    raise ValueError(
                        f"level {level - 1} has {size} maps, which cannot be halved; with "
                        f"images of {'×'.join(map(str, images.shape[1:3]))} pixels take another "
                        "size or fewer channels, or padding='SAME'"
                    )
                x = max_pool(x, (2, 2))
            convs = double(channels, name=f"down_{level}_convs")
            x = apply_block(convs, x, train, self.remat)
            if level >= last - 1:
                x = Dropout(self.dropout_rate)(x, not train)
            maps[f"down_{level}"] = x
        for level in reversed(range(last)):
            channels = self.channels[level]
            x = ConvTranspose(
                channels,
                (2, 2),
                2,
                kernel_init=nn.initializers.he_normal(),
                name=f"up_{level}_conv",
                **types,
            )(x)
            if self.up_activation:
                x = nn.relu(x)
            beside = maps[f"down_{level}"]
            if self.padding == "SAME":
                missing = [beside.shape[axis] - x.shape[axis] for axis in (1, 2)]
                x = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
            x = jnp.concatenate([crop(beside, x.shape[1:3]), x], -1)
            convs = double(channels, name=f"up_{level}_convs")
            x = apply_block(convs, x, train, self.remat)
            maps[f"up_{level}"] = x
        return maps


class DoubleConv(nn.Module):
    """Two 3×3 convolutions with ReLU."""

    channels: int
    padding: Literal["VALID", "SAME"] = "VALID"
    norm: Norm = "none"
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool
    ) -> Float[Array, "batch rows columns channels"]:
        """Applies both."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for i in range(2):
            x = Conv(
                self.channels,
                (3, 3),
                padding=self.padding,
                use_bias=self.norm == "none",
                kernel_init=nn.initializers.he_normal(),
                name=f"conv_{i}",
                **types,
            )(x)
            if self.norm == "batch":
                x = BatchNorm(not train, name=f"norm_{i}", **types)(x)
            elif self.norm == "instance":
                x = nn.InstanceNorm(epsilon=1e-5, name=f"norm_{i}", **types)(x)
            x = nn.relu(x)
        return x


def crop(
    x: Float[Array, "batch height width ..."], size: Sequence[int]
) -> Float[Array, "batch rows columns ..."]:
    """The middle."""
    top, left = (x.shape[1] - size[0]) // 2, (x.shape[2] - size[1]) // 2
    return x[:, top : top + size[0], left : left + size[1]]
