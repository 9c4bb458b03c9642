"""What config files say of reproducing them is read strictly."""

from pathlib import Path

import pytest

from launch.reproduction.target import read_target, read_targets
from research.errors import UserError
from tests.shrink import EXPERIMENTS
from tests.tiny_configs import write_config


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A folder of configs in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path("experiments") / "tiny"


def test_configs_with_a_reference_are_found(family):
    write_config(family, "a", 'VARIANTS = ("small", "large")\nNEEDS_ACCELERATOR = ("large",)')
    write_config(family, "b", reference=None)
    write_config(family, "c", "NEEDS_ACCELERATOR = True")
    found = {target.name: target for target in read_targets()}
    assert list(found) == ["tiny/a:small", "tiny/a:large", "tiny/c"]
    assert [target.needs_accelerator for target in found.values()] == [False, True, True]
    assert found["tiny/a:large"].location == "experiments/tiny/a.py:large"
    assert str(found["tiny/a:large"].folder) == "tiny/a_large"


def test_named_configs_are_taken_in_their_order(family):
    a, b = write_config(family, "a"), write_config(family, "b")
    found = read_targets([b, str(Path(a).absolute()), b])
    assert [target.location for target in found] == [b, a], "each once, as seen from here"


def test_default_variant_is_the_config_itself(family):
    file = Path(write_config(family, "a", 'VARIANTS = ("small", "large")'))
    file.write_text(file.read_text().replace("variant=''", "variant='small'"))
    assert read_target(f"{file}:small") == read_target(str(file))
    assert [target.name for target in read_targets()] == ["tiny/a", "tiny/a:large"]


def test_fingerprint_changes_with_settings_only(family):
    def fingerprint(**settings):
        return read_target(write_config(family, "a", **settings)).fingerprint

    assert fingerprint() == fingerprint(reference__value=0.5)
    assert fingerprint() != fingerprint(seed=1)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("NEEDS_ACCELERATOR = 'large'", "NEEDS_ACCELERATOR = 'large': expected True or False or"),
        ("VARIANTS = ('large',)\nNEEDS_ACCELERATOR = ('lage',)", "did you mean 'large'"),
        ("REQUIRES = 'b.py'", "REQUIRES = 'b.py': expected a mapping"),
        ("REQUIRES = {'data.source.workdir': 'experiments/tiny/aa.py'}", "no such config file"),
    ],
)
def test_what_a_file_says_is_read_strictly(family, extra, message):
    file = write_config(family, "a", extra)
    with pytest.raises(UserError, match=message) as error:
        read_target(file)
    assert file in str(error.value)


def test_refuses_what_can_not_be_reproduced(family, tmp_path):
    with pytest.raises(UserError, match="call it from the repository, or name"):
        read_targets()
    lenet = write_config(family, "lenet")
    with pytest.raises(UserError, match=r"no such file; did you mean 'experiments/tiny/lenet.py'"):
        read_targets([lenet.replace("lenet", "lnet")])
    with pytest.raises(UserError, match="has no `reference`"):
        read_targets([write_config(family, "b", reference=None)])
    other = write_config(tmp_path / "elsewhere" / "tiny", "lenet")
    with pytest.raises(UserError, match="would share the folder tiny/lenet"):
        read_targets([lenet, other])
    broken = Path(write_config(family, "broken", "1 / 0"))
    with pytest.raises(UserError, match=r"broken.py.* ZeroDivisionError: division by zero"):
        read_targets()
    broken.unlink()


def test_experiments_name_what_they_build_on(monkeypatch):
    monkeypatch.chdir(EXPERIMENTS.parent)
    found = {target.name: target for target in read_targets()}
    assert found["generative/gan_mnist"].requires == {
        "probes.classifier.probe.workdir": found["vision/lenet_mnist"].location
    }
    assert found["sequence/gpt_shakespeare:gpu"].needs_accelerator
    assert not found["sequence/gpt_shakespeare"].needs_accelerator


def test_variants_may_build_on_different_runs_and_have_seeds_of_their_own(family):
    write_config(family, "teacher")
    requires = {"student": {"objective.teacher": "experiments/tiny/teacher.py"}}
    extra = f"VARIANTS = ('alone', 'student')\nREQUIRES = {requires}\n"
    a = write_config(family, "a", extra + "SEEDS = {'alone': ('data.source.seed',)}")
    student, alone = read_target(f"{a}:student"), read_target(f"{a}:alone")
    assert (student.requires, alone.requires) == (requires["student"], {})
    assert (student.seeds, alone.seeds) == ((), ("data.source.seed",))
    with pytest.raises(UserError, match=r"SEEDS = 'seed': expected a tuple"):
        read_target(write_config(family, "b", "SEEDS = 'seed'"))
