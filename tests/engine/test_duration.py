import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.engine.duration import Duration, Steps

VALUES = st.floats(0, 1e300, allow_nan=False, allow_infinity=False)
UNITS = st.sampled_from(["steps", "epochs", "examples", "percent"])
DURATIONS = st.builds(Duration, VALUES, UNITS)
RUNS = st.builds(
    Steps,
    total=st.integers(1, 10**7),
    per_epoch=st.integers(1, 10**5),
    batch_size=st.integers(1, 4096),
)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("200 epochs", 200, "epochs"),
        ("1 epoch", 1, "epochs"),
        ("64000 steps", 64_000, "steps"),
        ("64k steps", 64_000, "steps"),
        ("2M examples", 2_000_000, "examples"),
        ("1.5B examples", 1_500_000_000, "examples"),
        ("10%", 10, "percent"),
        ("10 %", 10, "percent"),
        ("2.5 percent", 2.5, "percent"),
        (".5 epochs", 0.5, "epochs"),
        ("1e3 steps", 1000, "steps"),
        (" 3epochs ", 3, "epochs"),
        ("0 steps", 0, "steps"),
    ],
)
def test_parse(text, value, unit):
    assert Duration.parse(text) == Duration(value, unit)


@pytest.mark.parametrize(
    "text",
    ["", "20", "epochs", "20 weeks", "20 Epochs", "two epochs", "1 2 steps", "1,000 steps"],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is no duration; write a number and a unit"):
        Duration.parse(text)


@pytest.mark.parametrize(
    "text", ["2m examples", "0x10 steps", "1_000 steps", "٣ steps", "nan steps", "1 steps\n1"]
)
def test_what_looks_like_a_number_is_refused(text):
    with pytest.raises(ValueError, match="is no duration; write a number and a unit"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-5 epochs", "-5 epochs is no duration: it can't be negative"),
        ("1e999 steps", "must be finite"),
    ],
)
def test_impossible_numbers_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Duration.parse(text)


@pytest.mark.parametrize(("value", "unit"), [(-1, "steps"), (float("nan"), "steps"), (1, "weeks")])
def test_impossible_durations_cannot_be_made(value, unit):
    with pytest.raises(ValueError, match="is no"):
        Duration(value, unit)


@pytest.mark.parametrize(
    ("text", "written"),
    [("64k steps", "64000 steps"), ("1 epoch", "1 epochs"), ("12.50 percent", "12.5%")],
)
def test_text(text, written):
    assert str(Duration.parse(text)) == written


@given(DURATIONS)
def test_text_is_read_back_exactly(duration):
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("0 epochs", 0),
        ("3 epochs", 33),
        ("1 steps", 1),
        ("0.1 steps", 1),
        ("1000 examples", 10),
        ("1049 examples", 10),
        ("1051 examples", 11),
        ("1 examples", 1),
        ("50%", 500),
        ("0.001%", 1),
        ("100%", 1000),
        ("200%", 2000),
    ],
)
def test_steps(text, steps):
    assert Steps(total=1000, per_epoch=11, batch_size=100)(Duration.parse(text)) == steps


def test_a_share_of_nothing():
    with pytest.raises(ValueError, match="10% is a share of the training it should itself define"):
        Duration.parse("10%").steps(batch_size=1, steps_per_epoch=1)


@given(RUNS, st.floats(0, 1e9), st.floats(0, 1e9), UNITS)
def test_a_longer_duration_has_no_fewer_steps(run, first, second, unit):
    shorter, longer = sorted([first, second])
    assert run(Duration(shorter, unit)) <= run(Duration(longer, unit))


@given(RUNS, st.integers(0, 10**6))
def test_units_agree(run, count):
    assert run(Duration(count, "steps")) == count
    assert run(Duration(count, "epochs")) == count * run.per_epoch
    assert run(Duration(count * run.batch_size, "examples")) == count
    assert run(Duration(100, "percent")) == run.total


@given(RUNS, DURATIONS)
def test_only_nothing_takes_no_steps(run, duration):
    assert (run(duration) == 0) == (duration.value == 0)


def test_a_share_of_no_training_is_none():
    assert Steps(0, 10, 4)(Duration(10, "percent")) == 0
