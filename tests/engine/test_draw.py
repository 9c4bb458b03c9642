from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from research.data.midi import read_midi
from research.engine.display import (
    ConfusionMatrix,
    Curve,
    Curves,
    Heatmap,
    Heatmaps,
    Images,
    Music,
    Scatter,
    Sound,
    Text,
)
from research.engine.draw import encode_png, save_displays
from research.errors import UserError


def test_displays_are_saved_under_their_names(tmp_path):
    displays = {
        "test/digits": Images(np.zeros((4, 8, 8, 1), np.float32)),
        "codes": Scatter(np.zeros((3, 2)), np.arange(3)),
        "confusions": ConfusionMatrix(np.eye(3, dtype=int)),
        "forecast": Curves({"load": [Curve("truth", np.arange(3.0), np.ones(3))]}),
        "alignment": Heatmaps([Heatmap(np.eye(3))]),
        "chorale": Music(np.eye(4, 88, dtype=bool)),
        "voice": Sound(np.zeros(100), 8000),
        "play": Text(["ROMEO:\nO, she doth teach"]),
    }
    paths = save_displays(tmp_path / "new", displays, suffix="_7")

    names = ["test_digits_7.png", "codes_7.png", "confusions_7.png"]
    names += ["forecast_7.png", "alignment_7.png", "chorale_7.mid", "voice_7.wav", "play_7.txt"]
    assert paths == [tmp_path / "new" / name for name in names]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    for path in paths[:-3]:
        Image.open(path).verify()
    np.testing.assert_array_equal(read_midi(paths[-3]), np.eye(4, 88, dtype=bool))
    assert paths[-1].read_text() == "ROMEO:\nO, she doth teach", "one text is written as it is"


def test_several_texts_are_told_apart(tmp_path):
    (path,) = save_displays(tmp_path, {"samples": Text(["a\n\nb", "größer → \ud800"])})
    assert path.read_text("utf-8") == "a\n\nb\n---\ngrößer → \\ud800\n"


def test_a_file_in_the_place_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/samples\.txt"):
        save_displays(tmp_path / "file", {"samples": Text(["a"])})


def test_a_wav_file_holds_the_samples_and_clips_what_is_too_loud(tmp_path):
    samples = np.sin(np.arange(1000) / 7)
    samples[:2] = 1.5, -1.5
    (path,) = save_displays(tmp_path, {"tone": Sound(samples, 8000)})
    rate, read = wavfile.read(path)
    assert (rate, read.dtype, read.shape) == (8000, np.int16, (1000,))
    np.testing.assert_allclose(read[2:] / 32767, samples[2:], atol=2e-5)
    assert list(read[:2]) == [32767, -32767]


def test_png_bytes_hold_the_very_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    decoded = np.asarray(Image.open(BytesIO(encode_png(pixels))))
    np.testing.assert_array_equal(decoded, pixels)
    assert encode_png(pixels) == encode_png(pixels)
