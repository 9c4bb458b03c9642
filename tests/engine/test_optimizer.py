"""Every optimizer, schedule and rule against plain NumPy in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.engine.checks import check_settings
from research.engine.duration import Steps
from research.engine.experiment import Optimizer
from research.engine.optimizer import make_optimizer, make_schedule
from research.errors import UserError
from tests.parity import load_table

STEPS = Steps(total=100, per_epoch=10, batch_size=4)
RATE = 0.1


def settings(**plain: Any) -> Optimizer:
    return check_settings({"learning_rate": RATE} | plain, Optimizer, "optimizer")


def example(seed: int = 0, num_grads: int = 3) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Parameters of two modules and gradients of some steps."""
    generator = np.random.default_rng(seed)
    shapes = {"encoder": {"kernel": (3, 4), "bias": (4,)}, "head": {"kernel": (4, 2)}}

    def draw() -> Any:
        return jax.tree.map(
            lambda shape: generator.normal(size=shape),
            shapes,
            is_leaf=lambda x: isinstance(x, tuple),
        )

    return draw(), [draw() for _ in range(num_grads)]


def run(optimizer: optax.GradientTransformation, params: Any, grads: list[Any]) -> list[Any]:
    """The parameters after each step, as optax makes them in float32."""
    params, grads = jax.tree.map(jnp.float32, (params, grads))
    state = optimizer.init(params)

    @jax.jit
    def step(state: Any, params: Any, grad: Any) -> Any:
        updates, state = optimizer.update(grad, state, params)
        return state, optax.apply_updates(params, updates)

    after = []
    for grad in grads:
        state, params = step(state, params, grad)
        after.append(params)
    return after


def newton_schulz(x: np.ndarray, eps: float = 1e-8) -> np.ndarray:
    """The quintic iteration towards the nearest semi-orthogonal matrix (Jordan 2024)."""
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T, eps).T
    x = x / (np.linalg.norm(x) + eps)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def adam_direction(t: int, g: Any, s: dict, b1: float, b2: float, eps: float) -> Any:
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
    return s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)


def numpy_direction(
    name: str, t: int, g: np.ndarray, s: dict, leaf: str, p: np.ndarray
) -> np.ndarray:
    """What each optimizer subtracts, times the learning rate, at its step t = 1, 2, …; `s` is the
    parameter's state."""
    momentum, b1, b2, eps = 0.8, 0.85, 0.95, 1e-3
    if name == "sgd":
        return g
    if name in ("momentum", "nesterov"):
        s["v"] = momentum * s.get("v", 0) + g
        return s["v"] if name == "momentum" else g + momentum * s["v"]
    if name == "rmsprop":
        s["n"] = b2 * s.get("n", 0) + (1 - b2) * g**2
        s["v"] = momentum * s.get("v", 0) + g / (np.sqrt(s["n"]) + eps)
        return s["v"]
    if name == "adagrad":
        s["n"] = s.get("n", 0) + g**2
        return g / np.sqrt(s["n"] + eps)
    if name == "adafactor":  # Shazeer and Stern 2018, algorithm 4; small matrices are not factored
        decay = 1 - t**-0.8
        s["v"] = decay * s.get("v", 0) + (1 - decay) * (g**2 + 1e-30)
        direction = g / np.sqrt(s["v"])
        direction /= max(1.0, np.sqrt(np.mean(direction**2)))
        return direction * max(1e-3, np.sqrt(np.mean(p**2)))
    if name in ("adam", "adamw"):
        return adam_direction(t, g, s, b1, b2, eps)
    if name == "lion":
        direction = np.sign(b1 * s.get("m", 0) + (1 - b1) * g)
        s["m"] = b2 * s.get("m", 0) + (1 - b2) * g
        return direction
    assert name == "muon"
    if leaf != "kernel":
        return adam_direction(t, g, s, b1, b2, eps)
    # Bias correction as optax has it: Nesterov's look ahead is corrected for the step to come.
    s["m"] = momentum * s.get("m", 0) + (1 - momentum) * g
    ahead = momentum * s["m"] / (1 - momentum ** (t + 1)) + (1 - momentum) * g / (1 - momentum**t)
    return np.sqrt(max(1, g.shape[1] / g.shape[0])) * newton_schulz(ahead, eps)


NAMES = ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adafactor"]
NAMES += ["adam", "adamw", "lion", "muon"]


@pytest.mark.parametrize("name", NAMES)
def test_three_steps_are_those_of_numpy(name):
    params, grads = example()
    weight_decay = 0.3
    optimizer = make_optimizer(
        settings(name=name, momentum=0.8, b1=0.85, b2=0.95, eps=1e-3, weight_decay=weight_decay),
        params,
        STEPS,
    )
    after = run(optimizer, params, grads)

    expected, states = params, jax.tree.map(lambda _: {}, params)
    for t, grad in enumerate(grads, 1):
        for module, leaves in expected.items():
            for leaf, p in leaves.items():
                g = grad[module][leaf]
                decay = weight_decay * p if leaf == "kernel" else 0.0
                state = states[module][leaf]
                if name in ("adafactor", "adamw", "lion", "muon"):
                    update = numpy_direction(name, t, g, state, leaf, p) + decay
                else:
                    update = numpy_direction(name, t, g + decay, state, leaf, p)
                leaves[leaf] = p - RATE * update
        jax.tree.map(
            lambda ours, numpys: np.testing.assert_allclose(ours, numpys, rtol=1e-5, atol=2e-6),
            after[t - 1],
            expected,
        )


def test_muon_knows_the_matrices_of_every_kind_of_kernel():
    generator = np.random.default_rng(0)
    shapes = {
        "conv": {"kernel": (2, 2, 3, 5)},
        "layers": {
            "attention": {"qkv": {"kernel": (2, 6, 3, 2, 3)}, "out": {"kernel": (2, 2, 3, 6)}},
            "mlp": {"kernel": (2, 6, 4)},
        },
        "words": {"embedding": (6, 4)},
    }
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    grads = jax.tree.map(lambda x: generator.normal(size=x), shapes, is_leaf=is_shape)
    params = jax.tree.map(np.zeros_like, grads)
    muon = settings(name="muon", learning_rate=1.0, momentum=0.0)
    (after,) = run(make_optimizer(muon, params, STEPS), params, [grads])

    def check(after: Any, grad: Any, matrix: tuple[int, ...]) -> None:
        grad, after = grad.reshape(matrix), after.reshape(matrix)
        scale = np.sqrt(max(1, matrix[1] / matrix[0]))
        np.testing.assert_allclose(after, -scale * newton_schulz(grad), atol=1e-5)

    check(after["conv"]["kernel"], grads["conv"]["kernel"], (12, 5))
    for layer in range(2):
        ours, theirs = jax.tree.map(lambda x, i=layer: x[i], (after["layers"], grads["layers"]))
        for i in range(3):
            qkv = (x["attention"]["qkv"]["kernel"][:, i] for x in (ours, theirs))
            check(*qkv, (6, 6))
        check(ours["attention"]["out"]["kernel"], theirs["attention"]["out"]["kernel"], (6, 6))
        check(ours["mlp"]["kernel"], theirs["mlp"]["kernel"], (6, 4))
    np.testing.assert_allclose(
        after["words"]["embedding"], -np.sign(grads["words"]["embedding"]), atol=1e-5
    )


PYTORCHS = {
    "sgd": {"name": "sgd"},
    "sgd_momentum_wd": {"name": "momentum", "weight_decay": 0.01},
    "sgd_nesterov": {"name": "nesterov"},
    "rmsprop": {"name": "rmsprop", "momentum": 0.0, "b2": 0.99},
    "adagrad": {"name": "adagrad", "eps": 1e-20},  # ours is under the root
    "adam": {"name": "adam"},
    "adam_wd_coupled": {"name": "adam", "weight_decay": 0.01},
    "adamw": {"name": "adamw", "weight_decay": 0.05},
    "lion": {"name": "lion", "b2": 0.99, "weight_decay": 0.05},
}


@pytest.mark.parametrize("name", PYTORCHS)
def test_eight_steps_are_those_of_pytorch(name):
    table = load_table("optimisers")
    params = {"kernel": np.asarray(table["inputs"]["start"])}
    grads = [{"kernel": np.asarray(grad)} for grad in table["inputs"]["gradients"]]
    optimizer = make_optimizer(settings(**PYTORCHS[name]), params, STEPS)
    for ours, theirs in zip(run(optimizer, params, grads), table["outputs"][name], strict=True):
        np.testing.assert_allclose(ours["kernel"], theirs, rtol=1e-5, atol=2e-6)


SCHEDULES = {
    "lr_step_3_0.1": {
        "name": "step",
        "boundaries": ["3 steps", "6 steps", "9 steps"],
        "factor": 0.1,
    },
    "lr_multistep_2_5": {"name": "step", "boundaries": ["2 steps", "5 steps"]},
    "lr_cosine_10_min0.01": {"name": "cosine", "final_fraction": 0.02},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_pytorch(name):
    rates = load_table("optimisers")["outputs"][name][
        :11
    ]  # PyTorch's cosine rises again after its end
    optimizer = settings(learning_rate=0.5, schedule=SCHEDULES[name])
    schedule = make_schedule(optimizer, Steps(10, 10, 4))
    np.testing.assert_allclose([schedule(step) for step in range(11)], rates, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant"}, {0: 2, 50: 2, 100: 2}),
        ({"name": "constant", "warmup": "10 steps"}, {0: 0, 1: 0.2, 9: 1.8, 10: 2, 100: 2}),
        (
            {"name": "constant", "warmup": "10 steps", "initial_fraction": 0.5},
            {0: 1, 1: 1.1, 9: 1.9, 10: 2, 100: 2},
        ),
        # Of 100 steps 20 are warm-up, so the cosine is half-way down at step 60.
        (
            {"name": "cosine", "warmup": "20%", "final_fraction": 0.1},
            {10: 1, 20: 2, 60: 1.1, 100: 0.2, 120: 0.2},
        ),
        ({"name": "linear"}, {0: 2, 25: 1.5, 100: 0, 120: 0}),
        (
            {"name": "linear", "warmup": "2 epochs", "final_fraction": 0.5},
            {0: 0, 20: 2, 60: 1.5, 100: 1},
        ),
        # Boundaries count from the start of training, and one inside the warm-up counts too.
        (
            {
                "name": "step",
                "warmup": "40 examples",
                "boundaries": ["30%", "6 epochs"],
                "factor": 0.5,
            },
            {5: 1, 10: 2, 29: 2, 30: 1, 59: 1, 60: 0.5},
        ),
        (
            {"name": "step", "warmup": "10 steps", "boundaries": ["5 steps"], "factor": 0.5},
            {5: 1, 9: 1.8, 10: 1},
        ),
        # As for step, boundaries count from the start of training.
        (
            {"name": "exponential", "every": "2.4 epochs", "factor": 0.5},
            {0: 2, 23: 2, 24: 1, 47: 1, 48: 0.5, 96: 0.125},
        ),
        (
            {"name": "exponential", "every": "24 steps", "factor": 0.5, "warmup": "30 steps"},
            {15: 1, 29: 2 * 29 / 30, 30: 1, 47: 1, 48: 0.5},
        ),
        ({"name": "rsqrt", "timescale": "25 steps"}, {0: 2, 25: 2, 100: 1}),
        (
            {"name": "rsqrt", "timescale": "25 steps", "warmup": "5 steps"},
            {1: 0.4, 5: 2, 25: 2, 100: 1},
        ),
        # The warm-up of Vaswani et al. (2017): it meets the decay at its timescale.
        (
            {"name": "rsqrt", "timescale": "4 steps", "warmup": "4 steps"},
            {1: 0.5, 4: 2, 16: 1, 64: 0.5},
        ),
    ],
)
def test_schedules_have_these_rates(schedule, expected):
    rate = make_schedule(settings(learning_rate=2.0, schedule=schedule), STEPS)
    found = {step: float(rate(step)) for step in expected}
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_optimizer_follows_its_schedule():
    params, grads = example()
    linear = settings(name="sgd", schedule={"name": "linear", "warmup": "50%"})
    after = run(make_optimizer(linear, params, Steps(4, 4, 1)), params, grads)
    moved = jax.tree.map(
        lambda p, g: p - RATE * (0 * g[0] + 0.5 * g[1] + 1.0 * g[2]),
        params,
        jax.tree.map(lambda *g: g, *grads),
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), after[-1], moved)


def test_a_warm_up_longer_than_training_is_refused():
    with pytest.raises(UserError, match=r'players.critic.schedule.warmup = "200 steps"'):
        make_schedule(settings(schedule={"warmup": "200 steps"}), STEPS, "players.critic")


def global_norm(*arrays: np.ndarray) -> float:
    return float(np.sqrt(sum(np.sum(x**2) for x in arrays)))


def test_clipping_scales_the_whole_gradient_to_the_norm():
    params, grads = example(num_grads=1)
    leaves = jax.tree.leaves(grads[0])
    norm = global_norm(*leaves)
    for clip_norm, share in [(norm / 4, 0.25), (norm * 1.01, 1.0)]:
        optimizer = make_optimizer(settings(name="sgd", clip_norm=clip_norm), params, STEPS)
        (after,) = run(optimizer, params, grads)
        expected = jax.tree.map(lambda p, g, s=share: p - RATE * s * g, params, grads[0])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), after, expected)


@pytest.mark.parametrize("name", ["momentum", "adamw", "muon"])
def test_freezing_with_every_other_rule(name):
    params, grads = example()
    grads = [{**grad, "head": {"kernel": 100 * grad["head"]["kernel"]}} for grad in grads]
    rules: dict[str, Any] = {
        "name": name,
        "clip_norm": 0.5,
        "weight_decay": 0.1,
        "weight_decay_rules": [["head/.*", 2.0], [".*/kernel", 1.0]],
        "learning_rate_rules": [["encoder/kernel", 0.5], ["head/.*", 3.0]],
    }
    frozen = make_optimizer(settings(freeze=["head/.*"], **rules), params, STEPS)
    rules |= {"weight_decay_rules": [[".*/kernel", 1.0]]}
    rules |= {"learning_rate_rules": [["encoder/kernel", 0.5]]}
    alone = {"encoder": params["encoder"]}
    alone_grads = [{"encoder": grad["encoder"]} for grad in grads]
    expected = run(make_optimizer(settings(**rules), alone, STEPS), alone, alone_grads)

    after = run(frozen, params, grads)
    head = np.asarray(params["head"]["kernel"], np.float32)
    for ours, theirs in zip(after, expected, strict=True):
        np.testing.assert_array_equal(ours["head"]["kernel"], head)
        jax.tree.map(np.testing.assert_array_equal, ours["encoder"], theirs["encoder"])
    state = frozen.init(jax.tree.map(jnp.asarray, params))
    held = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.shape]
    assert (3, 4) in held
    assert (4, 2) not in held, "frozen parameters need no optimizer state"


def test_rules_multiply_learning_rate_and_decay():
    params, grads = example(num_grads=1)
    optimizer = make_optimizer(
        settings(
            name="sgd",
            weight_decay=0.5,
            weight_decay_rules=[["encoder/kernel", 0.2], [".*kernel", 1.0]],
            learning_rate_rules=[["head/.*", 10.0], [".*/kernel", 0.0]],
        ),
        params,
        STEPS,
    )
    (after,) = run(optimizer, params, grads)
    p, g = params, grads[0]
    np.testing.assert_array_equal(
        after["encoder"]["kernel"], np.asarray(p["encoder"]["kernel"], np.float32)
    )
    np.testing.assert_allclose(
        after["encoder"]["bias"], p["encoder"]["bias"] - RATE * g["encoder"]["bias"], atol=1e-6
    )
    head = p["head"]["kernel"] - 10 * RATE * (g["head"]["kernel"] + 0.5 * p["head"]["kernel"])
    np.testing.assert_allclose(after["head"]["kernel"], head, atol=1e-6)


def test_a_decoupled_decay_follows_the_learning_rate():
    params, grads = example(num_grads=1)
    grads = jax.tree.map(np.zeros_like, grads)
    decayed = settings(name="adamw", weight_decay=0.5, learning_rate_rules=[["head/.*", 0.1]])
    (after,) = run(make_optimizer(decayed, params, STEPS), params, grads)
    for module, share in (("encoder", 1 - RATE * 0.5), ("head", 1 - 0.1 * RATE * 0.5)):
        kernel = share * params[module]["kernel"]
        np.testing.assert_allclose(after[module]["kernel"], kernel, atol=1e-6)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"freeze": ["decoder/.*"]}, r"critic\.freeze: 'decoder/\.\*' matches no parameter"),
        ({"learning_rate_rules": [["kernel", 2.0]]}, r"learning_rate_rules: 'kernel' matches no"),
        (
            {"weight_decay": 0.1, "weight_decay_rules": [[".*/scale", 1.0]]},
            r"weight_decay_rules: '\.\*/scale' matches no parameter.*encoder/bias",
        ),
        ({"freeze": ["(head"]}, r"freeze: '\(head' is no regular expression"),
    ],
)
def test_a_rule_that_matches_nothing_is_refused(rules, told):
    with pytest.raises(UserError, match=told):
        make_optimizer(settings(**rules), example()[0], STEPS, "players.critic")
