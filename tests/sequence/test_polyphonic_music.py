"""The objective of piano rolls: how frames are counted, and that what it makes is music."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.midi import encode_midi
from research.engine.display import Heatmaps, Music, Sound
from research.engine.metrics import compute, merge
from research.engine.objective import HasGenerate, HasShow, Objective
from research.errors import UserError
from research.sequence import TCN, PolyphonicMusic, RecurrentNetwork
from tests.random_variables import random_variables

KEY = jax.random.key(0)
NETWORKS = {
    "tcn": TCN((8, 8), 2, out_features=88),
    "lstm": RecurrentNetwork(8, out_features=88, dropout_rate=0.2),
}
OBJECTIVE = PolyphonicMusic(NETWORKS["tcn"])


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    length = np.asarray([9, 6, 2])
    mask = np.arange(9) < length[:, None]
    frames = (generator.random((3, 9, 88)) < 0.05) & mask[..., None]
    return {
        "frames": jnp.asarray(frames, jnp.float32),
        "frame_mask": jnp.asarray(mask, jnp.float32),
    }


@pytest.fixture(scope="module")
def params(batch):
    variables = random_variables(OBJECTIVE.init, batch)
    return variables["params"]


def test_is_what_the_engine_asks_for():
    for protocol in (Objective, HasGenerate, HasShow):
        assert isinstance(OBJECTIVE, protocol)


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_are_those_of_the_pieces_one_by_one(name, batch):
    """As Bai et al.'s program counts: per piece, the sum over its frames but the first."""
    objective = PolyphonicMusic(NETWORKS[name])
    params = random_variables(objective.init, batch)["params"]
    total, count, hits, misses = 0.0, 0, 0.0, 0.0
    for frames, mask in zip(batch["frames"], batch["frame_mask"], strict=True):
        piece = frames[: int(mask.sum())]
        logits = objective.model.apply({"params": params}, piece[None, :-1])[0]
        p, y = np.asarray(jax.nn.sigmoid(logits), np.float64), np.asarray(piece[1:])
        total -= np.sum(y * np.log(p) + (1 - y) * np.log(1 - p))
        count += len(y)
        hits += np.sum((p > 0.5) & (y > 0))
        misses += np.sum((p > 0.5) != (y > 0))
    found = compute(objective.evaluate(params, {}, batch, KEY))
    assert found["nll"] == pytest.approx(total / count, rel=1e-5)
    assert hits > 0
    assert found["accuracy"] == pytest.approx(hits / (hits + misses), rel=1e-5)
    assert found["f1"] == pytest.approx(2 * hits / (2 * hits + misses), rel=1e-5)


def test_numbers_do_not_depend_on_batches_and_padding(params, batch):
    padded = {name: jnp.pad(x, [(0, 1)] + [(0, 0)] * (x.ndim - 1)) for name, x in batch.items()}
    padded["frames"] = padded["frames"].at[3].set(1.0)
    padded["frame_mask"] = padded["frame_mask"].at[3].set(1.0)
    halves = [
        {name: x[rows] for name, x in padded.items()} | {"mask": jnp.asarray(mask)}
        for rows, mask in ((slice(0, 2), [1.0, 1.0]), (slice(2, 4), [1.0, 0.0]))
    ]
    parts = [OBJECTIVE.evaluate(params, {}, half, KEY) for half in halves]
    expected = compute(OBJECTIVE.evaluate(params, {}, batch, KEY))
    assert compute(merge(*parts)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_mean_over_predicted_frames(batch):
    objective = PolyphonicMusic(NETWORKS["tcn"].clone(dropout_rate=0.0))
    params = random_variables(objective.init, batch)["params"]
    loss, aux = jax.jit(objective.loss)(params, {}, batch, KEY)
    evaluated = compute(objective.evaluate(params, {}, batch, KEY))
    assert float(loss) == pytest.approx(evaluated["nll"], rel=1e-5)
    assert float(aux.weight) == 8 + 5 + 1
    assert compute(aux.metrics) == pytest.approx(evaluated, rel=1e-5)


def test_a_model_of_other_keys_is_refused(batch):
    objective = PolyphonicMusic(TCN((8,), 2, out_features=12))
    with pytest.raises(UserError, match=r"predicts 12 keys a frame, the data has 88"):
        jax.eval_shape(objective.init, KEY, batch)


@pytest.fixture(scope="module")
def generate(params):
    return partial(OBJECTIVE.generate, params, {}, KEY, num_frames=5)


def test_generated_music_begins_with_its_prompt(generate, tmp_path):
    piece = np.random.default_rng(1).random((6, 88)) < 0.05
    (tmp_path / "prompt.mid").write_bytes(encode_midi(piece, 0.5))
    displays = generate(
        num_samples=2, prompt=str(tmp_path / "prompt.mid"), prompt_frames=4, seconds_per_frame=0.25
    )
    assert sorted(displays) == ["music_0", "music_1", "samples", "sound_0", "sound_1"]
    first, second = displays["music_0"], displays["music_1"]
    assert isinstance(first, Music)
    for music in (first, second):
        np.testing.assert_array_equal(music.roll[:4], piece[:4])
        assert music.roll.shape == (9, 88)
    assert (first.roll != second.roll).any()
    sound = displays["sound_0"]
    assert isinstance(sound, Sound)
    assert len(sound.samples) / sound.sample_rate == pytest.approx(9 * 0.25, abs=0.2)
    assert isinstance(displays["samples"], Heatmaps)


def test_samples_depend_on_their_number_and_the_temperature_only(generate):
    two, three = generate(num_samples=2), generate(num_samples=3)
    for i in range(2):
        np.testing.assert_array_equal(two[f"music_{i}"].roll, three[f"music_{i}"].roll)
    assert not two["music_0"].roll[0].any(), "it begins with silence"
    # Logits divided by nearly 0: what is likely sounds, and nothing else.
    cold = generate(num_samples=2, temperature=1e-6)
    np.testing.assert_array_equal(cold["music_0"].roll, cold["music_1"].roll)


def test_options_out_of_range_are_refused(generate, tmp_path):
    for options, complaint in (
        ({"num_samples": 0}, r"num_samples = 0: must be at least 1"),
        ({"num_frames": 0}, r"num_frames = 0: must be at least 1"),
        ({"prompt_frames": 0}, r"prompt_frames = 0: must be at least 1"),
        ({"temperature": 0.0}, r"temperature = 0\.0 and seconds_per_frame = 0\.5 must be above 0"),
        ({"prompt": str(tmp_path / "no.mid")}, r"no\.mid cannot be read"),
    ):
        with pytest.raises(UserError, match=complaint):
            generate(**options)


def test_shows_each_frame_beside_its_prediction(params, batch):
    displays = OBJECTIVE.show(params, {}, {**batch, "mask": jnp.ones(3)}, KEY)
    truth, prediction = displays["prediction"].maps
    assert truth.values.shape == prediction.values.shape == (len(truth.row_names), 8)
    piece = np.asarray(batch["frames"][0]) > 0
    np.testing.assert_array_equal(displays["piece"].roll, piece)
    assert truth.values.sum() == piece[1:].sum()
    logits = OBJECTIVE.model.apply({"params": params}, batch["frames"][:1, :-1])
    highest = np.flatnonzero(piece.any(0)).max()  # two more are shown above it
    np.testing.assert_allclose(
        prediction.values[2], jax.nn.sigmoid(logits[0, :, highest]), rtol=1e-5
    )
