"""Distillation: its loss by hand, and a run with a teacher from another run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import log_softmax, softmax

from research import train
from research.engine.objective import HasCheckData, HasFeatures, HasShow, Objective
from research.engine.restore import load_run
from research.errors import UserError
from research.vision import MLP, Classification, Distillation, GoogLeNet
from research.weights.convert import flatten
from tests.shared import trained
from tests.shrink import arguments

CONFIG = "vision/lenet_digits.py"
STUDENT = {"name": "vision.MLP", "hidden": (8,)}


class Table(nn.Module):
    """Logits that are looked up."""

    @nn.compact
    def __call__(self, images, train=False):
        return self.param("table", nn.initializers.normal(2.0), (5, 10)) + 0.0 * images.sum()


@pytest.fixture(scope="module")
def teacher(shared_dir):
    """A classifier's run of a few steps."""
    return trained(shared_dir, CONFIG)


def batch_of(size):
    generator = np.random.default_rng(0)
    return {
        "image": jnp.asarray(generator.random((size, 8, 8, 1)), jnp.float32),
        "label": jnp.asarray(generator.integers(10, size=size), jnp.int32),
        "index": jnp.arange(size),
        "mask": jnp.ones(size),
    }


@pytest.mark.parametrize("mixed", [False, True])
def test_loss_is_between_the_labels_and_the_teacher(teacher, mixed):
    objective = Distillation(Table(), str(teacher), temperature=3.0, soft_weight=0.7)
    batch = batch_of(5)
    targets = np.eye(10)[batch["label"]]
    if mixed:
        targets = np.random.default_rng(1).dirichlet(np.ones(10), 5)
        batch["label_probs"] = jnp.asarray(targets, jnp.float32)
    variables = dict(objective.init(jax.random.key(0), batch))
    params = variables.pop("params")
    loss, aux = objective.loss(params, variables, batch, jax.random.key(1))

    run = load_run(teacher)
    soft = np.asarray(run.objective.logits(run.params, run.collections, batch), np.float64)
    logits = np.asarray(params["table"], np.float64)
    hard = -(targets * log_softmax(logits, -1)).sum(-1)
    p = softmax(soft / 3, -1)
    distance = (p * (np.log(p) - log_softmax(logits / 3, -1))).sum(-1)
    expected = (0.3 * hard + 0.7 * 9 * distance).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
        aux.metrics["agreement"].compute(), np.mean(logits.argmax(-1) == soft.argmax(-1)), rtol=1e-6
    )
    for name, values in (("accuracy", logits), ("teacher_accuracy", soft)):
        right = np.mean(values.argmax(-1) == targets.argmax(-1))
        np.testing.assert_allclose(aux.metrics[name].compute(), right, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, dict(aux.collections), variables)

    gradient = jax.grad(lambda c: objective.loss(params, c, batch, jax.random.key(1))[0])(variables)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient)), "the teacher is frozen"
    for protocol in (Objective, HasCheckData, HasFeatures, HasShow):
        assert isinstance(objective, protocol)


def test_a_run_learns_from_another_and_holds_its_teacher(teacher, tmp_path):
    objective = {"name": "vision.Distillation", "model": STUDENT, "teacher": str(teacher)}
    given = arguments(CONFIG, tmp_path / "run", tmp_path, objective=objective)
    given = [flag for flag in given if not flag.startswith("--config.objective.")]
    assert train.run(given) == 0
    run, source = load_run(tmp_path / "run"), load_run(teacher)
    theirs = flatten({"params": source.params, **source.collections})
    for path, array in flatten(run.collections["teacher"]).items():
        np.testing.assert_array_equal(array, theirs[path])
    assert run.params["hidden_0"]["kernel"].shape == (64, 8)


def test_teachers_that_there_are_not(teacher, tmp_path):
    with pytest.raises(UserError, match=r"teacher: .*: no run here"):
        Distillation(Table(), str(tmp_path)).init(jax.random.key(0), batch_of(5))
    for settings in ({"temperature": 0.0}, {"soft_weight": 1.5}):
        with pytest.raises(UserError, match="a temperature is above 0, a weight in"):
            Distillation(Table(), str(teacher), **settings)


def test_a_teacher_of_other_images_or_classes(teacher):
    batch = batch_of(5)
    colour = batch | {"image": jnp.zeros((5, 8, 8, 3))}
    with pytest.raises(UserError, match=r"teacher = .*: does not take images of 8×8×3"):
        Distillation(MLP(10, (8,)), str(teacher)).init(jax.random.key(0), colour)
    with pytest.raises(UserError, match=r"teacher = .*: has 10 classes, the model 7"):
        Distillation(MLP(7, (8,)), str(teacher)).init(jax.random.key(0), batch)


def test_a_teacher_whose_classes_have_a_probability_each(tmp_path):
    given = arguments(CONFIG, tmp_path, tmp_path, objective__loss_function="sigmoid")
    assert train.run(given) == 0
    with pytest.raises(UserError, match=r"teacher = .*: was trained with .* = 'sigmoid'"):
        Distillation(MLP(10, (8,)), str(tmp_path)).init(jax.random.key(0), batch_of(2))


def test_a_student_with_auxiliary_classifiers_is_refused(teacher):
    with pytest.raises(UserError, match=r"model\.auxiliary = True: .* classifiers of GoogLeNet"):
        Distillation(GoogLeNet(10, auxiliary=True), str(teacher))


def test_the_student_is_seen_in_several_views(teacher):
    model, batch = MLP(10, (8,)), batch_of(5)
    student, flipped = Classification(model), batch | {"image": batch["image"][:, :, ::-1]}
    params = student.init(jax.random.key(0), batch)["params"]
    expected = np.mean([student.logits(params, {}, seen) for seen in (batch, flipped)], 0)
    objective = Distillation(model, str(teacher), test_time_augmentation="flip")
    np.testing.assert_allclose(objective.logits(params, {}, batch), expected, rtol=1e-5, atol=1e-6)
