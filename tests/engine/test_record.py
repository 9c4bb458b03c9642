import json
import math
import resource
import socket
import struct
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from research.engine.display import Images, Music, Scatter, Sound, Text
from research.engine.files import read_json, read_rows
from research.engine.record import Record, read_metrics
from research.errors import UserError

REPOSITORY = Path(__file__).parents[2]


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON: other languages' parsers refuse the file")


def read_events(workdir: Path) -> list:
    """The events of all files in the order in which TensorBoard reads them."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    events = []
    for file in sorted((workdir / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            content, data = data[12 : 12 + length], data[8:]
            checksums = data[:4], data[4 + length : 8 + length]
            expected = struct.pack("<Q", length), content
            for checksum, part in zip(checksums, expected, strict=True):
                assert struct.unpack("<I", checksum)[0] == masked_crc32c(part), file
            events.append(Event.FromString(content))
            data = data[8 + length :]
    return events


def write_run(workdir: Path, steps: range) -> None:
    with Record(workdir) as record:
        for step in steps:
            record.metrics(step, {"loss": np.float32(1 / step), "accuracy": jnp.asarray(0.5)})
            record.timing(step, {"steps_per_second": 10.0})
            if step % 2 == 0:
                record.metrics(step, {"test/loss": math.nan})


def test_equal_runs_write_equal_bytes(tmp_path):
    write_run(tmp_path / "a", range(1, 5))
    with Record(tmp_path / "b", tensorboard=False) as record:
        for step in range(1, 5):
            record.metrics(step, {"accuracy": 0.5, "loss": float(np.float32(1 / step))})
            if step % 2 == 0:
                record.metrics(step, {"test/loss": jnp.nan})

    written = (tmp_path / "a/metrics.jsonl").read_bytes()
    assert written == (tmp_path / "b/metrics.jsonl").read_bytes()
    assert written.startswith(b'{"step": 1, "accuracy": 0.5, "loss": 1.0}\n')
    assert not (tmp_path / "b/tensorboard").exists()


@given(st.lists(st.floats(), min_size=1, max_size=4), st.floats())
def test_metrics_are_strict_json_and_come_back_exactly(tmp_path_factory, trials, loss):
    workdir = tmp_path_factory.mktemp("run")
    with Record(workdir, tensorboard=False) as record:
        record.metrics(3, {"loss": loss, "trials": np.array(trials)})

    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert len([json.loads(line, parse_constant=refuse_constant) for line in lines]) == 1
    (row,) = read_metrics(workdir)
    assert row["step"] == 3
    np.testing.assert_array_equal(row["loss"], loss)
    np.testing.assert_array_equal(row["trials"], trials)


@pytest.mark.parametrize("rest", [b'{"step": 2, "lo', b'{"step": 2, "loss": 1.0}'])
def test_lines_are_readable_at_once_and_an_unfinished_one_is_not_read(tmp_path, rest):
    with Record(tmp_path) as record:
        record.metrics(1, {"loss": 2.0})
        with open(tmp_path / "metrics.jsonl", "ab") as file:
            file.write(rest)
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_a_resumed_run_ends_with_the_same_bytes_as_an_uninterrupted_one(tmp_path):
    write_run(tmp_path / "whole", range(1, 9))
    resumed = tmp_path / "resumed"
    write_run(resumed, range(1, 7))
    for name in ("metrics.jsonl", "timing.jsonl"):
        with open(resumed / name, "ab") as file:
            file.write(b'{"step": 7, "loss": 0.1')
    with Record(resumed) as record:
        record.rewind(4)
        assert [row["step"] for row in read_metrics(resumed)] == [1, 2, 2, 3, 4, 4]
        assert [row["step"] for row, _ in read_rows(resumed / "timing.jsonl")] == [1, 2, 3, 4]
    write_run(resumed, range(5, 9))

    for name in ("metrics.jsonl", "timing.jsonl"):
        assert (resumed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_rewinding_goes_on_writing_to_the_file_that_readers_see(tmp_path):
    with Record(tmp_path) as record:
        record.metrics(1, {"loss": 1.0})
        record.metrics(2, {"loss": 2.0})
        record.rewind(1)
        record.metrics(2, {"loss": 3.0})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_metrics(tmp_path)
    with pytest.raises(UserError, match="line 2"), Record(tmp_path) as record:
        record.rewind(3)


def test_a_metric_called_step_is_refused(tmp_path):
    with Record(tmp_path) as record, pytest.raises(ValueError, match="'step'"):
        record.metrics(1, {"step": 2.0})


def test_events_hold_scalars_and_what_a_resumed_run_takes_back(tmp_path):
    write_run(tmp_path, range(1, 4))
    with Record(tmp_path) as record:
        record.rewind(1)
        record.metrics(2, {"loss": np.array([0.5, 0.25])})

    assert len(list((tmp_path / "tensorboard").iterdir())) == 2, "a resumed run has its own file"
    events = read_events(tmp_path)
    seen = [
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ]
    assert seen[:3] == [
        (1, "accuracy", 0.5),
        (1, "loss", 1.0),
        (1, "timing/steps_per_second", 10.0),
    ]
    assert seen[-2:] == [(2, "loss/trial_0", 0.5), (2, "loss/trial_1", 0.25)]
    started = [event for event in events if event.HasField("session_log")]
    assert [event.step for event in started] == [2], "TensorBoard drops events from this step on"


def test_displays_become_files_and_events(tmp_path):
    grid = np.linspace(0, 1, 4 * 28 * 28, dtype=np.float32).reshape(4, 28, 28, 1)
    points = np.random.default_rng(0).normal(size=(50, 2))
    with Record(tmp_path) as record:
        record.displays(
            12,
            {
                "test/digits": Images(jnp.asarray(grid)),
                "codes": Scatter(points, np.arange(50) % 3, ("z0", "z1")),
                "samples": Text(["first\nline", "größer → \ud800"]),
                "chorale": Music(np.eye(4, 88, dtype=bool)),
                "voice": Sound(np.zeros(100), 8000),
            },
        )

    picture = Image.open(tmp_path / "images/test_digits_00000012.png")
    assert picture.size == (2 * (4 * 28 + 4) + 4,) * 2
    assert Image.open(tmp_path / "images/codes_00000012.png").size[0] > 300
    text = (tmp_path / "texts/samples_00000012.txt").read_text("utf-8")
    assert text == "first\nline\n---\ngrößer → \\ud800\n"
    by_tag = {value.tag: value for event in read_events(tmp_path) for value in event.summary.value}
    image = by_tag["test/digits"].image
    assert (image.width, image.height) == picture.size
    assert image.encoded_image_string == (
        (tmp_path / "images/test_digits_00000012.png").read_bytes()
    )
    sound = by_tag["voice"].audio
    assert (sound.sample_rate, sound.content_type) == (8000, "audio/wav")
    assert sound.encoded_audio_string == (tmp_path / "sounds/voice_00000012.wav").read_bytes()
    assert (tmp_path / "sounds/chorale_00000012.mid").read_bytes().startswith(b"MThd")
    assert "chorale" not in by_tag, "TensorBoard plays no MIDI"
    assert by_tag["samples/text_summary"].tensor.string_val[0].decode().startswith("    first\n")


def test_result_and_config_round_trip(tmp_path):
    with Record(tmp_path) as record:
        record.config({"name": "lenet", "clip": math.inf, "sizes": (1, 2), "path": Path("a")})
        record.result({"test/accuracy": np.float32(0.5), "step": 3, "fid": math.nan})

    json.loads((tmp_path / "config.json").read_bytes(), parse_constant=refuse_constant)
    config = read_json(tmp_path / "config.json")
    assert config == {"name": "lenet", "clip": math.inf, "sizes": [1, 2], "path": "a"}
    result = read_json(tmp_path / "result.json")
    assert result["test/accuracy"] == 0.5
    assert math.isnan(result["fid"])
    with pytest.raises(UserError, match=r"result\.json does not exist"):
        read_json(tmp_path / "elsewhere" / "result.json")


def test_a_run_that_goes_on_has_no_result(tmp_path):
    with Record(tmp_path) as record:
        record.reopen()
        record.result({"step": 60})
        record.reopen()
    assert not (tmp_path / "result.json").exists()


def test_environment_says_what_a_run_and_its_earlier_starts_ran_on(tmp_path):
    for _ in range(3):
        with Record(tmp_path) as record:
            record.environment("/data")

    environment = read_json(tmp_path / "environment.json")
    assert environment["numpy"] == np.__version__
    assert environment["python"] == "{}.{}.{}".format(*sys.version_info)
    assert environment["platform"] in ("cpu", "gpu", "tpu")
    assert environment["device_count"] >= 1
    assert environment["hostname"] == socket.gethostname()
    assert environment["data_dir"] == "/data"
    assert [start["data_dir"] for start in environment["earlier"]] == ["/data", "/data"]


def test_a_disabled_record_writes_nothing(tmp_path):
    workdir = tmp_path / "run"
    with Record(workdir, enabled=False) as record:
        record.config({})
        record.environment("/data")
        record.metrics(1, {"loss": 1.0})
        record.timing(1, {"seconds": 1.0})
        record.displays(1, {"text": Text(["a"])})
        record.result({})
        record.rewind(0)
        record.reopen()
        record.sync()
    assert not workdir.exists()


@pytest.fixture
def small_files():
    """A limit on the size of files: what a full disk is, without being root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(record: Record) -> None:
    for step in range(100):
        record.metrics(step, {"loss": 1 / 3})


def test_what_does_not_fit_is_taken_back(tmp_path, small_files):
    with Record(tmp_path, tensorboard=False) as record:
        record.result({"test/loss": 1.0})
        with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: .*Free some space"):
            fill(record)
        with pytest.raises(UserError, match=r"cannot write .*result\.json"):
            record.result({"text": "long" * 1000})

    data = (tmp_path / "metrics.jsonl").read_bytes()
    assert 900 < len(data) <= 1000
    assert data.endswith(b"}\n"), "half a line was left behind"
    assert read_json(tmp_path / "result.json") == {"test/loss": 1.0}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.jsonl", "result.json"]


def test_a_full_device_is_a_user_error(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device"), Record(tmp_path) as record:
        record.metrics(1, {"loss": 1.0})


FILL_THE_DISK = """
import sys
from pathlib import Path
from research.errors import UserError
from research.engine.record import Record, read_metrics

workdir = Path(sys.argv[1])
record = Record(workdir)
try:
    for step in range(100_000):
        record.metrics(step, {"loss": 1.0})
except UserError as error:
    rows = read_metrics(workdir)
    whole = (workdir / "metrics.jsonl").read_bytes().endswith(b"}\\n")
    print(error, len(rows) in (step, step + 1), whole)
"""


def test_a_full_disk_ends_the_run_with_whole_files(tmp_path):
    mount = f'mount -t tmpfs -o size=256k none {tmp_path} && exec "$@"'
    unshare = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    program = [sys.executable, "-c", FILL_THE_DISK, str(tmp_path / "run")]
    done = subprocess.run(
        [*unshare, *program], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert done.stdout.endswith("True True\n"), done.stdout


def test_a_file_in_the_place_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "run").write_text("")
    with (
        pytest.raises(UserError, match="choose another folder"),
        Record(tmp_path / "run") as record,
    ):
        record.config({})
