"""AlexNet (Krizhevsky, Sutskever, Hinton, 2012)."""

from functools import partial

from flax import linen as nn
from jaxtyping import Array, Float

from research.nn.convolution import Conv
from research.nn.dropout import Dropout
from research.nn.pooling import adaptive_avg_pool, max_pool

# Features, window and stride of the convolutions of each stage.
_STAGES = (((64, 11, 4),), ((192, 5, 1),), ((384, 3, 1), (256, 3, 1), (256, 3, 1)))
_HIDDEN = 4096


class AlexNet(nn.Module):
    """Five convolutions and three dense layers, in the form for one GPU in which its weights are
    published (Krizhevsky: One weird trick, 2014).

    The last maps are averaged to 6×6, which changes nothing at 224×224. Kernels are He's; the
    paper's normal(0.01) needs its two weeks.
    """

    num_classes: int | None = 1000
    dropout_rate: float = 0.5
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        dense = partial(nn.Dense, dtype=self.dtype, param_dtype=self.param_dtype)
        he = nn.initializers.he_normal()
        self.dense = [dense(_HIDDEN, kernel_init=he) for _ in range(2)]
        self.dropout = Dropout(self.dropout_rate)
        if self.num_classes is not None:
            self.head = dense(self.num_classes)

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits, or 4096 features without classes; dropout before the hidden layers where
        `train`."""
        *_, x = self.features(images, train).values()
        x = adaptive_avg_pool(x, (6, 6))
        x = x.reshape(x.shape[0], -1)
        for dense in self.dense:
            x = nn.relu(dense(self.dropout(x, not train)))
        return x if self.num_classes is None else self.head(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Float[Array, "batch rows columns maps"]]:
        """The maps of every stage, `stage_0` to `stage_2`, each after its pooling."""
        x, maps, index = images, {}, 0
        for stage, convolutions in enumerate(_STAGES):
            for features, size, strides in convolutions:
                x = Conv(
                    features,
                    (size, size),
                    strides,
                    padding=2 if size > 3 else 1,
                    dtype=self.dtype,
                    param_dtype=self.param_dtype,
                    kernel_init=nn.initializers.he_normal(),
                    name=f"conv_{index}",
                )(x)
                x, index = nn.relu(x), index + 1
            x = max_pool(x, (3, 3), (2, 2))
            maps[f"stage_{stage}"] = x
        return maps
