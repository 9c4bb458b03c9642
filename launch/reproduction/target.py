"""Configs that state a number to reach, and what their files say about running them.

Beside `get_config` a file may hold, as plain data:

    VARIANTS = ("cpu", "gpu")
    NEEDS_ACCELERATOR = ("gpu",)    # or True: every variant is too long for a CPU
    REQUIRES = {"probes.classifier.probe.workdir": "experiments/vision/lenet_mnist.py"}
    SEEDS = ("data.source.seed",)

`REQUIRES` names settings that are the folder of another config's finished run, and `SEEDS` those
that are the run's seed beside `seed`. Where variants differ in one of the two, it is a mapping
from variants: {"student": {"objective.teacher": "experiments/vision/distill_mnist.py:teacher"}}.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.engine import config
from research.engine.checks import check
from research.engine.config_file import import_file, read_file
from research.engine.experiment import Experiment
from research.errors import UserError
from research.suggestion import did_you_mean

EXPERIMENTS = Path("experiments")


@dataclass(frozen=True)
class Target:
    """A config: `location` is FILE.py[:VARIANT], `name` family/config[:variant].

    `fingerprint` tells whether a number was measured with these settings: it changes with all
    that the file sets but the reference. `requires` is by the path of a setting the location of
    the config whose run goes there; `seeds` are the settings beside `seed` that are the seed.
    """

    name: str
    location: str
    experiment: Experiment
    fingerprint: str
    needs_accelerator: bool
    requires: Mapping[str, str]
    seeds: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its runs go, below the folder of all."""
        return Path(self.name.replace(":", "_"))


def read_targets(locations: Sequence[str] = ()) -> tuple[Target, ...]:
    """The configs named, in their order, or all below experiments/ that have a reference.

    Raises:
      UserError: for a config that is wrong, or named and without a reference, and for two that
        would share a folder.
    """
    if locations:
        targets = [read_target(location) for location in locations]
        for target in targets:
            if target.experiment.reference is None:
                raise UserError(
                    f"{target.location}: has no `reference`, so there is no number to reproduce"
                )
    else:
        found = [read_target(location) for location in _all_locations()]
        targets = [target for target in found if target.experiment.reference is not None]
    by_folder: dict[Path, Target] = {}
    for target in targets:
        other = by_folder.setdefault(target.folder, target)
        if other.location != target.location:
            raise UserError(
                f"{other.location} and {target.location} would share the folder "
                f"{target.folder}: rename one of the files"
            )
    return tuple(by_folder.values())


def read_target(location: str) -> Target:
    """One config; UserError for whatever is wrong with it."""
    experiment = config.load(location)
    plain = read_file(location)
    file, variant = _split(location)
    module = vars(import_file(file))
    if variant == _default_variant(module):
        variant = ""
    suffix = f":{variant}" if variant else ""
    needs = _needs_accelerator(file, module)
    variant_run = variant or _default_variant(module)
    seeds = _of_variant(module, "SEEDS", (), variant_run)
    return Target(
        name=f"{file.resolve().parent.name}/{file.stem}{suffix}",
        location=f"{file}{suffix}",
        experiment=experiment,
        fingerprint=_fingerprint(plain),
        needs_accelerator=needs is True or (isinstance(needs, tuple) and variant_run in needs),
        requires=_requires(file, module, variant_run),
        seeds=check(seeds, tuple[str, ...], f"{file}: SEEDS"),
    )


def _all_locations() -> list[str]:
    files = sorted(EXPERIMENTS.glob("*/*.py"))
    if not files:
        raise UserError(
            f"{EXPERIMENTS.absolute()} holds no configs FAMILY/CONFIG.py: call it from the "
            "repository, or name the config files"
        )
    locations = []
    for file in files:
        variants = vars(import_file(file)).get("VARIANTS", ())
        locations += [f"{file}:{variant}" for variant in variants] or [str(file)]
    return locations


def _default_variant(module: Mapping[str, Any]) -> str:
    parameters = list(inspect.signature(module["get_config"]).parameters.values())
    default = parameters[0].default if parameters else ""
    return default if isinstance(default, str) else ""


def _needs_accelerator(file: Path, module: Mapping[str, Any]) -> bool | tuple[str, ...]:
    place = f"{file}: NEEDS_ACCELERATOR"
    needs = check(module.get("NEEDS_ACCELERATOR", False), bool | tuple[str, ...], place)
    for variant in needs if isinstance(needs, tuple) else ():
        variants = module.get("VARIANTS", ())
        if variant not in variants:
            raise UserError(f"{place}: no variant {variant!r}{did_you_mean(variant, variants)}")
    return needs


def _requires(file: Path, module: Mapping[str, Any], variant: str) -> dict[str, str]:
    place = f"{file}: REQUIRES"
    found = _of_variant(module, "REQUIRES", {}, variant)
    requires: dict[str, str] = check(found, dict[str, str], place)
    for path, location in requires.items():
        required, _ = _split(location)
        if not required.is_file():
            nearby = [str(other) for other in required.parent.glob("*.py")]
            raise UserError(
                f"{place}.{path} = {location!r}: no such config file, seen from here"
                f"{did_you_mean(location, nearby, listed=True)}"
            )
    return requires


def _of_variant(module: Mapping[str, Any], name: str, default: Any, variant: str) -> Any:
    """A file's value for a variant: its only one, or that of a mapping from variants."""
    value, variants = module.get(name, default), module.get("VARIANTS", ())
    if isinstance(value, dict) and value and set(value) <= set(variants):
        return value.get(variant, default)
    return value


def _fingerprint(plain: Mapping[str, Any]) -> str:
    settings = {key: value for key, value in plain.items() if key != "reference"}
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _split(location: str) -> tuple[Path, str]:
    """The file, as seen from here where it is below, and the variant."""
    name, _, variant = location.partition(".py:")
    file, here = Path(name.removesuffix(".py") + ".py"), Path.cwd()
    return (file.relative_to(here) if file.is_relative_to(here) else file), variant
