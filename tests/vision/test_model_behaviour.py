"""What training mode, rematerialisation and scanned layers do to image models."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from research import vision
from research.nn.stochastic_depth import StochasticDepth
from research.weights.stacking import stacked, unstacked
from tests.random_variables import random_variables

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)

# Name -> model and the names of its features.
MODELS = {
    "MLP": (vision.MLP(hidden=(8,)), "pixels hidden_0"),
    "LeNet": (vision.LeNet(), "stage_0 stage_1 dense_0 dense_1"),
    "LeNet1998": (vision.LeNet1998(), "c1 s2 c3 s4 c5 f6"),
    "AlexNet": (vision.AlexNet(), "stage_0 stage_1 stage_2"),
    "VGG": (vision.VGG(depth=11, batch_norm=True), "stage_0 stage_1 stage_2 stage_3 stage_4"),
    "AirbenchNet": (vision.AirbenchNet(channels=(4, 4, 8)), "whitening stage_0 stage_1 stage_2"),
    "ResNet": (vision.ResNet(depth=18), "stem stage_0 stage_1 stage_2 stage_3"),
    "CifarResNet": (vision.CifarResNet(depth=8), "stem stage_0 stage_1 stage_2"),
    "WideResNet": (
        vision.WideResNet(depth=10, widen_factor=1),
        "stem stage_0 stage_1 stage_2 output",
    ),
    "DenseNet": (
        vision.DenseNet(stage_sizes=(1, 2, 1, 1)),
        "stem block_0 block_1 block_2 block_3 output",
    ),
    "GoogLeNet": (
        vision.GoogLeNet(),
        "stem "
        + " ".join(f"stage_{i}_block_{j}" for i, n in enumerate((2, 5, 2)) for j in range(n)),
    ),
    "InceptionV3": (
        vision.InceptionV3(),
        "stem mixed_5b mixed_5c mixed_5d mixed_6a mixed_6b mixed_6c mixed_6d mixed_6e mixed_7a "
        "mixed_7b mixed_7c",
    ),
    "MobileNetV1": (vision.MobileNetV1(), "stem " + " ".join(f"block_{i}" for i in range(13))),
    "MobileNetV2": (
        vision.MobileNetV2(stages=((1, 16, 1, 1), (6, 24, 2, 2))),
        "stem block_0 block_1 block_2 output",
    ),
    "MobileNetV3": (
        vision.MobileNetV3(size="small"),
        "stem " + " ".join(f"block_{i}" for i in range(11)) + " output",
    ),
    "EfficientNet": (
        vision.EfficientNet(depth_factor=0.25),
        "stem " + " ".join(f"stage_{i}" for i in range(7)) + " output",
    ),
    "ConvNeXt": (
        vision.ConvNeXt(stage_sizes=(1, 2, 1, 1)),
        "stem stage_0 stage_1 stage_2 stage_3",
    ),
    "ViT": (vision.ViT(num_layers=3), "embedding block_0 block_1 block_2"),
    "Mixer": (vision.Mixer(num_layers=3), "embedding block_0 block_1 block_2"),
    "UNet": (
        vision.UNet(channels=(2, 4, 8), padding="SAME", norm="batch"),
        "down_0 down_1 down_2 up_1 up_0",
    ),
}
SHAPES = {"LeNet": (28, 28, 1), "LeNet1998": (28, 28, 1), "InceptionV3": (96, 96, 3)}


def images_for(name):
    return jax.ShapeDtypeStruct((2, *SHAPES.get(name, (64, 64, 3))), jnp.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("quickly_traced")
def test_features_are_named_and_the_classifier_can_be_left_out(name):
    model, names = MODELS[name]
    images = images_for(name)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    order = []

    def features(variables, images):
        maps = model.apply(variables, images, method="features")
        order.extend(maps)  # what JAX returns is sorted
        return maps

    maps = jax.eval_shape(features, variables, images)
    assert order == names.split()
    assert all(x.shape[0] == 2 for x in maps.values())
    if name == "UNet":
        return  # it classifies pixels, and is nothing without
    backbone = model.clone(num_classes=None)
    features, without = jax.eval_shape(backbone.init_with_output, jax.random.key(0), images)
    assert set(variables["params"]) - set(without["params"]) == {"head"}
    assert features.shape == (2, variables["params"]["head"]["kernel"].shape[0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("quickly_traced")
def test_types_of_computation_and_of_parameters(name):
    model = MODELS[name][0].clone(dtype="bfloat16", param_dtype="float16")
    start = model.init_with_output
    logits, variables = jax.eval_shape(start, jax.random.key(0), images_for(name))
    kinds = {leaf.dtype for leaf in jax.tree.leaves(variables["params"])}
    assert kinds == {jnp.dtype("float16")}
    assert logits.dtype == jnp.bfloat16


# Name -> how many blocks are computed anew.
BLOCKS = {
    "VGG": 5,
    "ResNet": 8,
    "CifarResNet": 3,
    "WideResNet": 3,
    "DenseNet": 5,
    "GoogLeNet": 9,
    "InceptionV3": 11,
    "MobileNetV1": 13,
    "MobileNetV2": 3,
    "MobileNetV3": 11,
    "EfficientNet": 7,
    "ConvNeXt": 5,
    "ViT": 3,
    "Mixer": 3,
    "UNet": 5,
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.usefixtures("quickly_traced")
def test_every_block_is_rematerialised(name):
    start = partial(MODELS[name][0].clone(remat=True).init_with_output, train=True)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    equations = jax.make_jaxpr(start)(rngs, images_for(name)).eqns
    assert sum(equation.primitive.name == "remat2" for equation in equations) == BLOCKS[name]


@pytest.mark.parametrize(
    "model",
    [
        vision.VGG(stage_sizes=(1, 1), channels=(4, 8), batch_norm=True, hidden=(), pooled_size=1),
        vision.CifarResNet(depth=8),
        vision.WideResNet(depth=10, widen_factor=1),
        vision.UNet(channels=(2, 4), padding="SAME", norm="batch", dropout_rate=0.0),
        vision.ConvNeXt(stage_sizes=(1,), channels=(4,), stochastic_depth_rate=0.0),
    ],
)
@pytest.mark.usefixtures("quickly_traced")
def test_rematerialisation_changes_nothing_but_memory(model):
    variables = random_variables(model.init, IMAGES)

    def gradient(model):
        def loss(params):
            rest = {name: x for name, x in variables.items() if name != "params"}
            outputs, updated = model.apply(
                {"params": params, **rest}, IMAGES, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(outputs**2), updated

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    plain, remat = gradient(model), gradient(model.clone(remat=True))
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize(
    ("model", "remat"),
    [
        (
            vision.ConvNeXt(
                num_classes=3, stage_sizes=(2, 3), channels=(6, 8), stochastic_depth_rate=0.0
            ),
            False,
        ),
        (vision.ViT(num_classes=3, embed_dim=12, num_layers=3, num_heads=3, mlp_dim=20), True),
    ],
)
def test_scanned_layers_compute_the_same(model, remat):
    variables = random_variables(model.init, IMAGES)
    scanned = model.clone(scan_layers=True, remat=remat)
    like = traverse_util.flatten_dict(jax.eval_shape(scanned.init, jax.random.key(0), IMAGES))
    flat = {path: np.asarray(x) for path, x in traverse_util.flatten_dict(variables).items()}
    together = traverse_util.unflatten_dict(stacked(flat, like))
    assert unstacked(traverse_util.flatten_dict(together)).keys() == flat.keys()
    plain = jax.jit(lambda v: model.apply(v, IMAGES, method="features"))(variables)
    found = jax.jit(lambda v: scanned.apply(v, IMAGES, method="features"))(together)
    assert plain.keys() == found.keys()
    for name in plain:
        np.testing.assert_allclose(plain[name], found[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_batch_statistics_move_only_in_training():
    model = vision.CifarResNet(depth=8)
    variables = random_variables(model.init, IMAGES)
    still, state = model.apply(variables, IMAGES, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])
    moved, state = model.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
    stem = variables["params"]["stem"]["conv"]["kernel"]
    maps = jax.lax.conv_general_dilated(
        IMAGES, stem, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    before = variables["batch_stats"]["stem"]["norm"]["mean"]
    np.testing.assert_allclose(
        state["batch_stats"]["stem"]["norm"]["mean"],
        0.9 * before + 0.1 * maps.mean((0, 1, 2)),
        rtol=1e-4,
        atol=1e-6,
    )
    assert not np.allclose(still, moved)


def test_epsilon_is_added_to_every_variance_of_mobilenet_v3():
    model = vision.MobileNetV3(num_classes=2, size="small", width_factor=0.1)
    variables = random_variables(model.init, IMAGES)
    moved = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1e-3 - 1e-5 if path[-1].key == "var" else x, variables
    )
    published = jax.jit(model.apply)(variables, IMAGES)
    smaller = jax.jit(model.clone(epsilon=1e-5).apply)(moved, IMAGES)
    np.testing.assert_allclose(smaller, published, rtol=1e-4)
    assert not np.allclose(jax.jit(model.apply)(moved, IMAGES), published, rtol=1e-4)


def test_blocks_begin_as_the_identity():
    """Goyal et al. 2017: the last norm of every block scales by 0."""
    model = vision.ResNet(depth=18, stage_sizes=(2,), channels=(16,))
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    maps = jax.jit(lambda v: model.apply(v, IMAGES, method="features"))(variables)
    pooled = jax.lax.reduce_window(
        maps["stem"],
        -jnp.inf,
        jax.lax.max,
        (1, 3, 3, 1),
        (1, 2, 2, 1),
        ((0, 0), (1, 1), (1, 1), (0, 0)),
    )
    np.testing.assert_allclose(maps["stage_0"], pooled, rtol=1e-6)
    assert np.std(variables["params"]["stage_0_block_0"]["conv_1"]["conv"]["kernel"]) > 0


def test_kernels_begin_at_he_scale():
    variables = jax.jit(vision.CifarResNet(depth=8, channels=64).init)(jax.random.key(0), IMAGES)
    kernel = variables["params"]["stage_2_block_0"]["conv_1"]["conv"]["kernel"]
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 256)), rtol=0.02)
    assert abs(np.mean(kernel)) < 1e-4


def test_stochastic_depth_leaves_out_whole_branches_and_keeps_the_mean():
    branch = jnp.ones((20_000, 2, 3))
    layer = StochasticDepth(0.3)
    dropped = layer.apply({}, branch, False, rngs={"dropout": jax.random.key(0)})
    each = np.unique(np.asarray(dropped).reshape(len(branch), -1), axis=1)
    assert set(np.unique(dropped).round(5)) == {0.0, np.float32(1 / 0.7).round(5)}
    np.testing.assert_array_equal(dropped, dropped[:, :1, :1] * branch, "one draw an example")
    assert abs(np.mean(dropped) - 1) < 0.02, each.shape
    np.testing.assert_array_equal(layer.apply({}, branch, True), branch)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_stochastic_depth_grows_with_depth(scan_layers):
    """The first block is never skipped; the last at the rate that is set."""
    sizes = {"embed_dim": 8, "num_layers": 3, "num_heads": 2, "mlp_dim": 8}
    model = vision.ViT(num_classes=3, stochastic_depth_rate=0.5, scan_layers=scan_layers, **sizes)
    images = np.repeat(IMAGES[:1], 64, 0)
    variables = random_variables(model.init, images)
    maps = jax.jit(
        lambda v, rng: model.apply(v, images, train=True, method="features", rngs={"dropout": rng})
    )(variables, jax.random.key(0))
    first = np.asarray(maps["block_0"])
    np.testing.assert_allclose(first, np.broadcast_to(first[:1], first.shape), rtol=1e-4, atol=1e-5)
    skipped = np.abs(maps["block_2"] - maps["block_1"]).max((1, 2)) == 0
    assert 5 <= skipped.sum() <= 30, "both branches of a quarter of the examples"


@pytest.mark.usefixtures("quickly_traced")
def test_stochastic_depth_of_a_scanned_convnext():
    """The first of two blocks is never skipped, the second by half of the examples."""
    model = vision.ConvNeXt(
        stage_sizes=(2,),
        channels=(4,),
        stochastic_depth_rate=0.5,
        layer_scale=1.0,
        scan_layers=True,
    )
    images = np.repeat(IMAGES[:1, :8, :8], 64, 0)
    variables = random_variables(model.init, images)

    def output(model, params, **options):
        apply = partial(model.apply, method="features", **options)
        return np.asarray(jax.jit(apply)({"params": params}, images)["stage_0"])

    params = dict(variables["params"])
    both = output(model, params)
    drawn = output(model, params, train=True, rngs={"dropout": jax.random.key(0)})
    params["stage_0_block_0"] = jax.tree.map(lambda x: x[0], params.pop("stage_0_blocks"))
    first = output(model.clone(stage_sizes=(1,), scan_layers=False), params)
    skipped = np.abs(drawn - first).max((1, 2, 3)) < 1e-4
    assert 20 <= skipped.sum() <= 44
    np.testing.assert_allclose(
        drawn[~skipped], (first + 2 * (both - first))[~skipped], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (vision.ConvNeXt(stage_sizes=(1, 2), channels=(4, 4)), (0, 0.2, 0.4)),
        (vision.EfficientNet(stages=((1, 3, 1, 32, 4),)), (0, 0.1, 0.2, 0.3)),
        (
            vision.Mixer(embed_dim=4, num_layers=3, tokens_dim=4, channels_dim=4),
            (0, 0, 0.2, 0.2, 0.4, 0.4),
        ),
    ],
)
@pytest.mark.usefixtures("quickly_traced")
def test_rates_of_stochastic_depth(model, expected):
    """They grow linearly to 0.4; that of EfficientNet would be the next block's, as published."""
    rates = []

    def note(call, arguments, keywords, context):
        if isinstance(context.module, StochasticDepth):
            rates.append(context.module.rate)
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        jax.eval_shape(model.clone(stochastic_depth_rate=0.4).init, jax.random.key(0), IMAGES)
    np.testing.assert_allclose(rates, expected)


def test_dropout_draws_in_training_only():
    model = vision.MLP(hidden=(64,), dropout_rate=0.5, input_dropout_rate=0.2)
    variables = random_variables(model.init, IMAGES)
    evaluate = jax.jit(lambda: model.apply(variables, IMAGES))
    np.testing.assert_array_equal(evaluate(), evaluate())
    draws = [
        model.apply(variables, IMAGES, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2])


def test_positions_of_a_vit():
    learned = vision.ViT(variant="tiny")
    sine = vision.ViT(variant="tiny", positions="sine", class_token=False, pool="average")
    params = jax.eval_shape(learned.init, jax.random.key(0), IMAGES)["params"]
    assert params["positions"].shape == (5, 192) and params["class_token"].shape == (192,)
    params = jax.eval_shape(sine.init, jax.random.key(0), IMAGES)["params"]
    assert "positions" not in params and "class_token" not in params
    with pytest.raises(ValueError, match="class_token"):
        vision.ViT(class_token=False)


def test_lenet_of_1998_sees_what_its_table_says():
    model = vision.LeNet1998()
    images = np.random.default_rng(0).normal(size=(1, 28, 28, 1)).astype(np.float32)
    variables = random_variables(model.init, images)
    layers = model.apply(variables, images, method="features")
    shapes = {name: x.shape[1:] for name, x in layers.items()}
    assert shapes == {
        "c1": (28, 28, 6),
        "s2": (14, 14, 6),
        "c3": (10, 10, 16),
        "s4": (5, 5, 16),
        "c5": (1, 1, 120),
        "f6": (84,),
    }
    sparse = variables["params"]["c3"]
    seen = {0: (0, 1, 2), 9: (0, 3, 4, 5), 15: (0, 1, 2, 3, 4, 5)}
    start = np.cumsum([0, *[3] * 6, *[4] * 9])
    for target, maps in seen.items():
        kernel = sparse["kernel"][:, :, start[target] : start[target] + len(maps)]
        window = layers["s2"][0, 2:7, 3:8][:, :, np.array(maps)]
        value = 1.7159 * np.tanh(2 / 3 * ((window * kernel).sum() + sparse["bias"][target]))
        np.testing.assert_allclose(layers["c3"][0, 2, 3, target], value, rtol=1e-4)
    with pytest.raises(ValueError, match="32×32 or 28×28 pixels, not 16×16"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))


def test_kernels_of_lenet_of_1998_begin_by_the_number_of_their_inputs():
    """LeCun et al. 1998, appendix A: uniform in ±2.4 / n."""
    params = jax.jit(vision.LeNet1998().init)(jax.random.key(0), np.zeros((1, 28, 28, 1)))["params"]
    kernels = {name: params[name]["kernel"] for name in ("c1", "c5", "f6")}
    kernels |= {
        "map 0 of c3": params["c3"]["kernel"][..., :3],
        "map 15 of c3": params["c3"]["kernel"][..., -6:],
    }
    inputs = {"c1": 25, "c5": 16 * 25, "f6": 120, "map 0 of c3": 3 * 25, "map 15 of c3": 6 * 25}
    for name, kernel in kernels.items():
        bound = 2.4 / inputs[name]
        assert 0.9 * bound < np.abs(kernel).max() <= bound, name
        np.testing.assert_allclose(np.std(kernel), bound / np.sqrt(3), rtol=0.1, err_msg=name)


def test_unet_shrinks_as_in_the_paper_or_keeps_the_size():
    paper = vision.UNet(channels=(2, 4, 8, 16, 32))
    shapes = jax.eval_shape(paper.init_with_output, jax.random.key(0), jnp.zeros((1, 572, 572, 1)))
    assert shapes[0].shape == (1, 388, 388, 2), "figure 1"
    same = paper.clone(padding="SAME", norm="batch")
    shapes = jax.eval_shape(same.init_with_output, jax.random.key(0), jnp.zeros((1, 64, 48, 1)))
    assert shapes[0].shape == (1, 64, 48, 2)
    with pytest.raises(ValueError, match="which cannot be halved"):
        jax.eval_shape(paper.init, jax.random.key(0), jnp.zeros((1, 570, 570, 1)))


def test_instance_norm_of_the_unet_takes_each_image_by_itself():
    """Neither what else is in the batch matters nor whether it trains."""
    model = vision.UNet(channels=(4, 8), padding="SAME", norm="instance", dropout_rate=0.0)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    variables = model.init(jax.random.key(0), images)
    assert set(variables) == {"params"}
    logits = model.apply(variables, images)
    np.testing.assert_allclose(model.apply(variables, images, train=True), logits, atol=1e-6)
    np.testing.assert_allclose(model.apply(variables, images[1:]), logits[1:], atol=1e-5)
    batch = model.clone(norm="batch")
    variables = batch.init(jax.random.key(0), images)
    together, _ = batch.apply(variables, images, train=True, mutable=["batch_stats"])
    alone, _ = batch.apply(variables, images[1:], train=True, mutable=["batch_stats"])
    assert np.abs(together[1:] - alone).max() > 1e-2


def test_depths_that_there_are_not():
    with pytest.raises(ValueError, match="depth=21 of CifarResNet must be 6n \\+ 2"):
        vision.CifarResNet(depth=21)
    with pytest.raises(ValueError, match="depth=20 of WideResNet must be 6n \\+ 4"):
        vision.WideResNet(depth=20)


@pytest.mark.parametrize(
    ("model", "size"),
    [(vision.ResNet(depth=18, stem="small"), 4), (vision.MobileNetV2(stem="small"), 4)],
)
def test_small_stems_leave_more_of_small_images(model, size, quickly_traced):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    assert min(x.shape[1] for x in maps.values()) == size
    large = model.clone(stem="large")
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(large.init, jax.random.key(0), images))
    same = {"ResNet": False, "MobileNetV2": True}[type(model).__name__]
    assert (shapes == jax.tree.map(jnp.shape, variables)) is same, "of 3×3 instead of 7×7"
