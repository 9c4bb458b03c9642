"""Whatever is wrong with a config ends the command with code 2 and one message that names it."""

import copy
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research import evaluate, train
from tests.commands import Ended, run_command

ROOT = Path(__file__).parents[2]
GONE = object()
NAN, INFINITY = float("nan"), float("inf")
TEST_SET = {"name": "data.sources.Digits", "split": "test"}
LINEAR_PROBE = {"name": "selfsupervised.LinearProbe", "train": TEST_SET, "test": TEST_SET}
REPORT = {"name": "vision.ClassificationReport", "source": TEST_SET}
CROP = {"name": "data.augment.CenterCrop"}
NO_FILE = {"name": "data.sources.Arrays", "files": {"image": "nothing.npy"}}

DIGITS: Mapping[str, Any] = {
    "objective": {
        "name": "vision.Classification",
        "model": {"name": "vision.LeNet", "padding": ("SAME", "SAME")},
    },
    "data": {"source": {"name": "data.sources.Digits", "split": "train"}, "batch_size": 64},
    "evaluations": {"test": {"source": TEST_SET}},
    "duration": "2 steps",
    "optimizer": {"name": "adam", "learning_rate": 1e-3},
}


@dataclass(frozen=True)
class Mistake:
    """What is written into a good config, and words that the message must have.

    The data of the good config is missing, so that only a mistake that is found before data is
    opened gives its own message; `needs_data` gives it the handwritten digits.
    """

    settings: Mapping[str, Any]
    words: tuple[str, ...]
    flags: tuple[str, ...] = ()
    needs_data: bool = False


def mistake(*words: str, needs_data: bool = False, **settings: Any) -> Mistake:
    """A mistake inside the file; paths have `__` for dots."""
    edits = {path.replace("__", "."): value for path, value in settings.items()}
    return Mistake(edits, words, needs_data=needs_data)


def override(flag: str, *words: str) -> Mistake:
    """A mistake on the command line."""
    return Mistake({}, words, (flag,))


UNKNOWN_KEYS = {
    "top level": mistake("sed: no such setting", "did you mean 'seed'?", sed=1),
    "inside a group": mistake(
        "optimizer.learning_rte: no such setting",
        "did you mean 'learning_rate'?",
        optimizer__learning_rte=0.1,
    ),
    "two groups deep": mistake(
        "optimizer.schedule.warm_up: no such setting",
        "did you mean 'warmup'?",
        optimizer__schedule={"warm_up": "1 steps"},
    ),
    "on the wrong level": mistake(
        "batch_size: no such setting", "did you mean 'data.batch_size'?", batch_size=32
    ),
    "in an evaluation": mistake(
        "evaluations.test.batchsize: no such setting",
        "did you mean 'batch_size'?",
        evaluations__test__batchsize=3,
    ),
    "unlike any setting": mistake("zzz: no such setting", zzz=1),
    "argument of a component": mistake(
        "objective.model.chanels: vision.LeNet has no such argument",
        "did you mean 'channels'?",
        objective__model__chanels=(6, 16),
    ),
    "argument of a source": mistake(
        "evaluations.test.source.spilt: data.sources.Digits has no such argument",
        "did you mean 'split'?",
        evaluations__test__source__spilt="test",
    ),
    "override": override(
        "--config.optimzer.learning_rate=1", "optimzer: no such setting", "'optimizer'"
    ),
    "override of a component": override(
        "--config.objective.label_smothing=0.1",
        "objective.label_smothing: vision.Classification has no such argument",
        "did you mean 'label_smoothing'?",
    ),
}

WRONG_TYPES = {
    "string for a float": mistake(
        "optimizer.learning_rate = '0.1': expected a float, found str",
        "write 0.1 without quotes",
        optimizer__learning_rate="0.1",
    ),
    "float for an int": mistake(
        "data.batch_size = 64.0: expected an int, found float", data__batch_size=64.0
    ),
    "bool for an int": mistake("seed = True: expected an int, found bool", seed=True),
    "bool for a float": mistake(
        "optimizer.learning_rate = True: expected a float, found bool",
        optimizer__learning_rate=True,
    ),
    "int for a bool": mistake(
        "data.shuffle = 1: expected True or False, found int", data__shuffle=1
    ),
    "None where it has no meaning": mistake(
        "data.batch_size = None: expected an int, found None", data__batch_size=None
    ),
    "string for an optional float": mistake(
        "optimizer.clip_norm = '1.0': expected a float, found str",
        "write 1.0 without quotes",
        optimizer__clip_norm="1.0",
    ),
    "word for a choice": mistake(
        "optimizer.name = 'adma': expected one of 'sgd', 'momentum'",
        "did you mean 'adam'?",
        optimizer__name="adma",
    ),
    "scalar for a group": mistake(
        "data = 3: expected a mapping with the settings of Data, found int", data=3
    ),
    "list for a mapping": mistake(
        "evaluations = ['test']: expected a mapping of names", evaluations=["test"]
    ),
    "scalar for a tuple": mistake(
        "data.transforms = 0: expected a tuple", "found int", data__transforms=0
    ),
    "inside a tuple of tuples": mistake(
        "optimizer.weight_decay_rules.0.1 = 'x': expected a float, found str",
        optimizer__weight_decay_rules=((".*", "x"),),
    ),
    "a tuple of another length": mistake(
        "optimizer.learning_rate_rules.0 = ['.*']: expected 2 values, found 1",
        optimizer__learning_rate_rules=((".*",),),
    ),
    "argument of a component": mistake(
        "objective.model.dropout_rate = '0.5': expected a float",
        objective__model__dropout_rate="0.5",
    ),
    "inside an argument of a component": mistake(
        "objective.model.channels.1 = 16.0: expected an int, found float",
        objective__model__channels=(6, 16.0),
    ),
    "choice of a component": mistake(
        "objective.model.activation = 'rleu': expected one of 'relu', 'tanh'",
        "did you mean 'relu'?",
        objective__model__activation="rleu",
    ),
    "dtype": mistake(
        "objective.model.dtype = 'bflot16': expected one of 'float32', 'bfloat16'",
        "did you mean 'bfloat16'?",
        objective__model__dtype="bflot16",
    ),
    "duration without a unit": mistake(
        'duration = 20: say of what, such as "20 steps"', duration=20
    ),
    "duration without a unit, in quotes": mistake(
        "duration: '20' is no duration; write a number and a unit", duration="20"
    ),
    "duration in an unknown unit": mistake(
        "evaluations.test.every: '3 weeks' is no duration", evaluations__test__every="3 weeks"
    ),
    "no number": mistake(
        "optimizer.learning_rate = nan: expected a finite number", optimizer__learning_rate=NAN
    ),
    "infinite": mistake(
        "optimizer.clip_norm = inf: expected a finite number", optimizer__clip_norm=INFINITY
    ),
    "key that is no string": mistake(
        "evaluations: its keys must be strings, found 1", evaluations={1: {"source": TEST_SET}}
    ),
    "override": override(
        "--config.data.batch_size=many", "data.batch_size = 'many': expected an int, found str"
    ),
}

MISSING = {
    "setting": mistake(
        "optimizer.learning_rate: missing",
        "no default. Peak learning rate.",
        optimizer__learning_rate=GONE,
    ),
    "group": mistake("data: missing", "Training data.", data=GONE),
    "argument of a component": mistake(
        "evaluations.test.source.split: missing; data.sources.Digits has no default for it",
        evaluations__test__source__split=GONE,
    ),
    "nested component": mistake(
        "objective.model: missing; vision.Classification has no default", objective__model=GONE
    ),
    "name of a component": mistake(
        "objective.model.name: missing", '"vision.LeNet"', objective__model__name=GONE
    ),
    "mistyped name of a component": mistake(
        "objective.model.name: missing",
        "did you mean 'nmae'?",
        objective__model={"nmae": "vision.LeNet"},
    ),
}

COMPONENTS = {
    "unknown class": mistake(
        "objective.model.name = 'vision.LeNett': research.vision has no 'LeNett'",
        "did you mean 'LeNet'?",
        objective__model__name="vision.LeNett",
    ),
    "unknown module": mistake(
        "objective.model.name = 'vison.LeNet': no such component",
        "did you mean 'vision'?",
        objective__model__name="vison.LeNet",
    ),
    "no module": mistake(
        "objective.model.name = 'LeNet': no such component",
        'such as "vision.LeNet"',
        objective__model__name="LeNet",
    ),
    "no path": mistake("objective.name = '..': no such component", objective__name=".."),
    "a module": mistake(
        "objective.model.name = 'vision.lenet': a module",
        "known are LeNet",
        objective__model__name="vision.lenet",
    ),
    "no class or function": mistake(
        "data.source.name = 'math.pi': expected a class or function, found float",
        data__source={"name": "math.pi"},
    ),
    "a protocol": mistake(
        "objective.name = 'engine.objective.Objective': abstract",
        objective__name="engine.objective.Objective",
    ),
    "name that is no string": mistake(
        "objective.name = 3: expected a string, found int", objective__name=3
    ),
    "string alone": mistake(
        """objective.model = 'vision.LeNet': write a component as {"name": 'vision.LeNet', …}""",
        objective__model="vision.LeNet",
    ),
    "number": mistake(
        'objective.model = 3: expected a Module, written as a component {"name": …}',
        objective__model=3,
    ),
    "source for an objective": mistake(
        "objective.name = 'data.sources.Digits': is no Objective: it has no `init`",
        objective={"name": "data.sources.Digits", "split": "train"},
    ),
    "objective for a source": mistake(
        "data.source.name = 'vision.Classification': is no Source: it has no `open`",
        data__source={"name": "vision.Classification"},
    ),
    "objective for a model": mistake(
        "objective.model.name = 'vision.Classification': is no Module",
        objective__model={"name": "vision.Classification"},
    ),
    "source for a transform": mistake(
        "data.transforms.0.name = 'data.sources.Digits': is no Transform: it has no `__call__`",
        data__transforms=({"name": "data.sources.Digits", "split": "train"},),
    ),
    "model for a transform": mistake(
        "evaluations.test.transforms.0.name = 'vision.LeNet': is a Linen module, no Transform",
        evaluations__test__transforms=({"name": "vision.LeNet"},),
    ),
    "probe for a transform": mistake(
        "data.transforms.0.name = 'selfsupervised.LinearProbe': is no Transform: its `__call__` "
        "does not take (rng, batch)",
        data__transforms=({"name": "selfsupervised.LinearProbe", "train": TEST_SET},),
    ),
    "source for a probe": mistake(
        "probes.p.probe.name = 'data.sources.Digits': is no Probe",
        probes={"p": {"probe": TEST_SET}},
    ),
    "metric of a probe": mistake(
        "early_stopping.metric = 'p/acuracy': p has no metric 'acuracy'; did you mean 'accuracy'?",
        probes={"p": {"probe": LINEAR_PROBE}},
        early_stopping={"metric": "p/acuracy"},
    ),
    "refused by its constructor": mistake(
        "evaluations.test.source: data.sources.Digits: Digits.split must be 'train' or 'test'",
        evaluations__test__source__split="tset",
    ),
    "function that makes something else": mistake(
        "objective: data.files.default_data_dir made a PosixPath, which is no Objective",
        objective={"name": "data.files.default_data_dir"},
    ),
}

RANGES = {
    "empty batch": mistake("data.batch_size = 0: must be at least 1", data__batch_size=0),
    "negative learning rate": mistake(
        "optimizer.learning_rate = -0.1: must be at least 0", optimizer__learning_rate=-0.1
    ),
    "share above one": mistake(
        "optimizer.schedule.final_fraction = 1.5: must be at most 1",
        optimizer__schedule={"final_fraction": 1.5},
    ),
    "nothing to clip to": mistake(
        "optimizer.clip_norm = 0.0: must be above 0", optimizer__clip_norm=0
    ),
    "negative duration": mistake(
        "duration: -5 epochs is no duration: it can't be negative", duration="-5 epochs"
    ),
    "every zero steps": mistake(
        "evaluations.test.every = 0 steps: must be above 0", evaluations__test__every="0 steps"
    ),
    "negative seed": override("--config.seed=-1", "seed = -1: must be at least 0"),
    "no early stopping patience": mistake(
        "early_stopping.patience = 0: must be at least 1",
        early_stopping={"metric": "test/loss", "patience": 0},
    ),
}

TOGETHER = {
    "micro-batches": mistake(
        "micro_batches = 3: data.batch_size = 64 is not divisible by it", micro_batches=3
    ),
    "two averages": mistake(
        'swa_start = "75%": ema_decay = 0.99 averages the parameters already; set one of the two',
        swa_start="75%",
        ema_decay=0.99,
    ),
    "length of training in percent": mistake(
        'duration = "10%": say of what, such as "20 epochs"', duration="10%"
    ),
    "warm-up longer than training": mistake(
        'optimizer.schedule.warmup = "9 steps": longer than the training, duration = "2 steps"',
        optimizer__schedule={"warmup": "9 steps"},
    ),
    "warm-up of more than all": mistake(
        'optimizer.schedule.warmup = "101%": longer than the training',
        optimizer__schedule={"warmup": "101%"},
    ),
    "start of no warm-up": mistake(
        "optimizer.schedule.initial_fraction = 0.2: is where the warm-up starts, and "
        "optimizer.schedule.warmup is 0",
        optimizer__schedule={"initial_fraction": 0.2},
    ),
    "steps without boundaries": mistake(
        "optimizer.schedule.boundaries: missing; the step schedule",
        optimizer__schedule={"name": "step"},
    ),
    "boundaries in another order": mistake(
        "optimizer.schedule.boundaries = (75%, 50%): must increase",
        optimizer__schedule={"name": "step", "boundaries": ("75%", "50%")},
    ),
    "regular expression": mistake(
        "optimizer.freeze: '(conv' is no regular expression", optimizer__freeze=("(conv",)
    ),
    "regular expression of a mesh": mistake(
        "parallelism.rules: '*' is no regular expression",
        parallelism={"mode": "mesh", "rules": (("*", ()),)},
    ),
    "axis of a mesh": mistake(
        "parallelism.rules.0: the mesh has no axis 'fspd'; did you mean 'fsdp'?",
        parallelism={"mode": "mesh", "rules": ((".*", ("fspd", None)),)},
    ),
    "axis without a mesh": mistake(
        "parallelism.fsdp = 2: this axis needs parallelism.mode = 'mesh', not 'jit'",
        parallelism__fsdp=2,
    ),
    "mesh of no devices": mistake(
        "parallelism.data = 0: must be a number of devices", parallelism={"mode": "mesh", "data": 0}
    ),
    "mesh of more devices": mistake(
        "parallelism: data 7 x fsdp 1 x tensor 1 is not the number of devices",
        parallelism={"mode": "mesh", "data": 7},
    ),
    "mode": mistake(
        "parallelism.mode = 'pmpa': expected one of",
        "did you mean 'pmap'?",
        parallelism__mode="pmpa",
    ),
    "vmap without trials": mistake("parallelism.trials: missing; vmap", parallelism__mode="vmap"),
    "trials without vmap": mistake(
        "parallelism.trials: trials need parallelism.mode = 'vmap', not 'jit'",
        parallelism__trials={"seed": (0, 1)},
    ),
    "player": mistake(
        "players.generator: no such player", players={"generator": {"learning_rate": 0.1}}
    ),
    "player of another name": Mistake(
        {
            "objective": {
                "name": "generative.GAN",
                "generator": {"name": "generative.DCGANGenerator"},
                "discriminator": {"name": "generative.DCGANDiscriminator"},
            },
            "players": {"generater": {"learning_rate": 0.1}},
        },
        ("players.generater: no such player; did you mean 'generator'?",),
    ),
    "best metric of no evaluation": mistake(
        "checkpoints.best_metric = 'tset/accuracy'",
        "did you mean 'test'?",
        checkpoints={"best_metric": "tset/accuracy"},
    ),
    "best metric without its evaluation": mistake(
        "checkpoints.best_metric = 'accuracy'",
        'write "NAME/METRIC", such as "test/loss"',
        checkpoints={"best_metric": "accuracy"},
    ),
    "metric without any evaluation": mistake(
        "reference.metric = 'test/loss': the config has no evaluation",
        evaluations={},
        reference={"paper": "p", "metric": "test/loss", "value": 1.0},
    ),
    "slash in a name": mistake(
        "evaluations.a/b: a name has letters", evaluations={"a/b": {"source": TEST_SET}}
    ),
    "a probe named like an evaluation": mistake(
        "probes.test: an evaluation has this name",
        probes={
            "test": {
                "probe": {"name": "selfsupervised.LinearProbe", "train": TEST_SET, "test": TEST_SET}
            }
        },
    ),
    "dtype that nothing takes": mistake(
        "compute_dtype = 'bfloat16': no model in `objective` takes a `dtype`",
        objective={
            "name": "small.Classify",
            "model": {"name": "flax.linen.Sequential", "layers": ()},
        },
        compute_dtype="bfloat16",
    ),
}

TRIALS = {
    "lengths": mistake(
        "every setting needs one value a trial; seed has 2, optimizer.learning_rate has 1",
        parallelism={
            "mode": "vmap",
            "trials": {"seed": (0, 1), "optimizer.learning_rate": (0.1,)},
        },
    ),
    "single value": mistake(
        "parallelism.trials.seed = 3: expected a tuple",
        parallelism={"mode": "vmap", "trials": {"seed": 3}},
    ),
    "unknown setting": mistake(
        "parallelism.trials, trial 0: optimizer.learning_rte: no such setting",
        "did you mean 'learning_rate'?",
        parallelism={"mode": "vmap", "trials": {"optimizer.learning_rte": (0.1, 0.2)}},
    ),
    "wrong type": mistake(
        "parallelism.trials, trial 1: seed = 1.5: expected an int",
        parallelism={"mode": "vmap", "trials": {"seed": (0, 1.5)}},
    ),
    "impossible value": mistake(
        "parallelism.trials, trial 1: optimizer.momentum = 2.0: must be at most 1",
        parallelism={"mode": "vmap", "trials": {"optimizer.momentum": (0.9, 2)}},
    ),
    "what one program can't share": mistake(
        "parallelism.trials.data.batch_size: can't differ between trials of one program",
        parallelism={"mode": "vmap", "trials": {"data.batch_size": (32, 64)}},
    ),
    "an int of the model": mistake(
        "parallelism.trials.objective.model.num_classes: can't differ",
        parallelism={"mode": "vmap", "trials": {"objective.model.num_classes": (10, 11)}},
    ),
    "a name": mistake(
        "parallelism.trials.optimizer.name: can't differ",
        parallelism={"mode": "vmap", "trials": {"optimizer.name": ("adam", "sgd")}},
    ),
}

WITH_DATA = {
    "batch larger than the data": mistake(
        "data.batch_size = 5000: larger than the data set of 1438 examples",
        data__batch_size=5000,
        needs_data=True,
    ),
    "warm-up in another unit": mistake(
        'optimizer.schedule.warmup = "1 epochs": 22 steps, longer than the training of 2',
        optimizer__schedule={"warmup": "1 epochs"},
        needs_data=True,
    ),
    "average from the end on": mistake(
        'swa_start = "100%": 2 steps, not before the end of the training of 2',
        swa_start="100%",
        needs_data=True,
    ),
    "too few classes": mistake(
        "data.source: the labels go from 0 to 9, but the model has objective.model.num_classes = 5",
        objective__model__num_classes=5,
        needs_data=True,
    ),
    "images smaller than the network": mistake(
        "objective.model: vision.LeNet: a window of 5×5 does not fit into maps of 2×2: the input "
        "is too small for this network",
        "data.augment.Resize",
        "after its transforms, an example of data has image (8, 8, 1) uint8",
        objective__model__padding=("VALID", "VALID"),
        objective__model__kernel_size=5,
        needs_data=True,
    ),
    "images smaller than the stride of the network": mistake(
        "objective.model: vision.ResNet: images of 8×8 pixels are too small for ResNet, which "
        "shrinks them 32 times",
        objective__model={"name": "vision.ResNet", "num_classes": 10, "depth": 18},
        needs_data=True,
    ),
    "patches that do not cover the images": mistake(
        "objective.model: vision.ViT: patch_size = 16 must divide the sides of the images, 8×8",
        objective__model={"name": "vision.ViT", "num_classes": 10, "variant": "tiny"},
        needs_data=True,
    ),
    "means of other channels": mistake(
        "data.transforms.1: Normalize.mean has 3 value(s), the image has 1 channel(s)",
        data__transforms=(
            {"name": "data.augment.ToFloat"},
            {"name": "data.augment.Normalize", "mean": (0.5,) * 3, "std": (0.2,) * 3},
        ),
        needs_data=True,
    ),
    "colour of grey images": mistake(
        "evaluations.test.transforms.1: RandomGrayscale removes colour and takes RGB images, got 1",
        evaluations__test__transforms=(
            {"name": "data.augment.ToFloat"},
            {"name": "data.augment.RandomGrayscale"},
        ),
        needs_data=True,
    ),
    "a size of the model below 1": mistake(
        "objective.model: vision.LeNet: features=-1, kernel_size=(5, 5)",
        objective__model__channels=(-1, 8),
        needs_data=True,
    ),
    "a file of a probe that is not there": mistake(
        "probes.p.probe: ",
        "nothing.npy",
        probes={"p": {"probe": {**LINEAR_PROBE, "test": NO_FILE}}},
        needs_data=True,
    ),
    "a probe of other images": mistake(
        "probes.p.probe: its examples do not fit the parameters",
        probes={"p": {"probe": {**REPORT, "transforms": ({**CROP, "size": (6, 6)},)}}},
        needs_data=True,
    ),
    "a probe's transform that refuses them": mistake(
        "probes.p.probe: CenterCrop",
        probes={"p": {"probe": {**REPORT, "transforms": ({**CROP, "size": (9, 9)},)}}},
        needs_data=True,
    ),
    "a probe of maps": mistake(
        "probes.p.probe: source: its examples have no map of classes",
        probes={"p": {"probe": {"name": "vision.SegmentationReport", "source": TEST_SET}}},
        needs_data=True,
    ),
    "a probe of samples where none are made": mistake(
        "probes.p.probe: ClassifierProbe: Classification does not generate",
        probes={"p": {"probe": {"name": "generative.ClassifierProbe", "workdir": "nowhere"}}},
        needs_data=True,
    ),
    "freezing no parameter": mistake(
        "optimizer.freeze: 'convolution.*' matches no parameter; paths are conv_0/bias",
        optimizer__freeze=("convolution.*",),
        needs_data=True,
    ),
    "rule that matches a part": mistake(
        "optimizer.learning_rate_rules: 'bias' matches no parameter's whole path, only a part of",
        "'conv_0/bias'; write '.*(bias).*'",
        optimizer__learning_rate_rules=(("bias", 2.0),),
        needs_data=True,
    ),
    "mesh rule for no parameter": mistake(
        "parallelism.rules: 'atention.*' matches no parameter",
        parallelism={"mode": "mesh", "rules": (("atention.*", ("fsdp", None)),)},
        needs_data=True,
    ),
    "best metric": mistake(
        "checkpoints.best_metric = 'test/acuracy': test has no metric 'acuracy'",
        "did you mean 'accuracy'?",
        checkpoints={"best_metric": "test/acuracy"},
        needs_data=True,
    ),
    "metric of early stopping": mistake(
        "early_stopping.metric = 'test/perplexity': test has no metric 'perplexity'",
        "known are accuracy, loss",
        early_stopping={"metric": "test/perplexity"},
        needs_data=True,
    ),
    "metric of the reference": mistake(
        "reference.metric = 'test/top5': test has no metric 'top5'",
        reference={"paper": "p", "metric": "test/top5", "value": 0.9},
        needs_data=True,
    ),
    "data that is not there": Mistake(
        {}, ("missing/images.npy does not exist", "--data_dir", "RESEARCH_DATA_DIR")
    ),
}

ON_THE_COMMAND_LINE = {
    "override without a value": override("--config.seed", "--config.seed: give it a value"),
    "override without a path": override("--config.=3", "--config.=3: write the path of a setting"),
    "override with a hole": override("--config.data..seed=3", "data..seed: write the path"),
    "override inside a number": override(
        "--config.micro_batches.parts=2",
        "micro_batches.parts: micro_batches = 1 has no settings inside",
    ),
    "override past a list": override(
        "--config.objective.model.padding.2=VALID",
        "objective.model.padding.2: no place '2' in objective.model.padding; its places are 0 to 1",
    ),
    "override of a word in a list": override(
        "--config.objective.model.padding.first=VALID",
        "no place 'first' in objective.model.padding",
    ),
    "override of a place that only the default has": override(
        "--config.objective.model.channels.0=8",
        "the config does not write objective.model.channels out",
        "--config.objective.model.channels=…",
    ),
    "unknown option": override("--allow_config_changes", "did you mean '--allow_config_change'?"),
    "setting as an option": override(
        "--batch_size=32", "--batch_size: no such option", "--config.batch_size=VALUE"
    ),
    "some of three": override(
        "--num_processes=2", "--coordinator, --num_processes and --process_id go together"
    ),
}

GROUPS = {
    "unknown": UNKNOWN_KEYS,
    "type": WRONG_TYPES,
    "missing": MISSING,
    "component": COMPONENTS,
    "range": RANGES,
    "together": TOGETHER,
    "trials": TRIALS,
    "data": WITH_DATA,
    "command line": ON_THE_COMMAND_LINE,
}
MISTAKES = {
    f"{group}: {name}": one for group, mistakes in GROUPS.items() for name, one in mistakes.items()
}


def write_config(folder: Path, settings: Mapping[str, Any], has_data: bool = True) -> Path:
    """A config file for the digits with some settings other, or gone."""
    config = copy.deepcopy(dict(DIGITS))
    if not has_data:
        config["data"]["source"] = {"name": "data.sources.Arrays", "files": {"image": "images.npy"}}
    config["micro_batches"] = 1
    for path, value in settings.items():
        *parents, last = path.split(".")
        place = config
        for name in parents:
            place = place.setdefault(name, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    file = folder / "experiment.py"
    text = f"nan, inf = float('nan'), float('inf')\n\n\ndef get_config():\n    return {config!r}\n"
    file.write_text(text)
    return file


def refused(ended: Ended, *words: str) -> None:
    """Asserts that the command ended with code 2 and one message that has these words."""
    assert ended.code == 2, ended.stdout + ended.stderr
    assert ended.stderr.startswith("Error: ")
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


@pytest.mark.parametrize("one", MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_end_with_code_2_and_are_named(
    one: Mistake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    compilations: list[str],
) -> None:
    file = write_config(tmp_path, one.settings, one.needs_data)
    places = ["--workdir", tmp_path / "run", "--data_dir", tmp_path / "missing"]
    ended = run_command(train.run, ["--config", file, *places, *one.flags], capsys)
    refused(ended, *one.words)
    assert compilations == []
    assert not (tmp_path / "run" / "config.json").exists()


def arrays(**files: str) -> dict[str, Any]:
    """A source of arrays in files of these names."""
    return {
        "name": "data.sources.Arrays",
        "files": {name: f"{file}.npy" for name, file in files.items()},
    }


UNFIT_DATA = {
    "pixels": mistake(
        "data.source: image 7 has pixels that are NaN or infinite",
        data__source=arrays(image="broken", label="label"),
    ),
    "labels": mistake(
        "data.source: the labels go from 0 to 12, but the model has",
        "the first that is no class is that of example 9",
        data__source=arrays(image="grey", label="high"),
    ),
    "evaluation of other channels": mistake(
        "evaluations.test: its examples do not fit the parameters: ",
        'parameter "kernel" in "/conv_0"',
        "an example of evaluations.test has image (8, 8, 3) uint8",
        data__source=arrays(image="grey", label="label"),
        evaluations__test__source=arrays(image="colour", label="label"),
    ),
    "a picture that is none": mistake(
        "cat/0.png",
        'on_corrupt = "skip"',
        data__source={"name": "data.sources.ImageFolder", "folder": "pictures", "size": 8},
    ),
}


def write_data(folder: Path, channels: int = 1) -> None:
    """Files of twenty examples, good and bad."""
    grey, label = np.zeros((20, 8, 8, channels), np.uint8), np.arange(20) % 10
    broken, high = grey.astype(np.float32), label.copy()
    broken[7, 1, 2], high[9] = np.nan, 12
    files = {"grey": grey, "colour": grey.repeat(3, -1), "label": label}
    (folder / "pictures" / "cat").mkdir(parents=True, exist_ok=True)
    (folder / "pictures" / "cat" / "0.png").write_bytes(b"no picture")
    for name, array in (files | {"broken": broken, "high": high}).items():
        np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize("one", UNFIT_DATA.values(), ids=UNFIT_DATA.keys())
def test_data_that_do_not_fit(
    one: Mistake, tmp_path: Path, capsys: pytest.CaptureFixture[str], compilations: list[str]
) -> None:
    write_data(tmp_path)
    file = write_config(tmp_path, {**one.settings, "data.batch_size": 8})
    places = ["--workdir", tmp_path / "run", "--data_dir", tmp_path]
    refused(run_command(train.run, ["--config", file, *places], capsys), *one.words)
    assert compilations == []


@pytest.mark.usefixtures("undrawn")
def test_a_run_is_not_given_data_of_other_shapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path)
    source = arrays(image="grey", label="label")
    settings = {"data.source": source, "data.batch_size": 8, "evaluations": {}}
    file = write_config(tmp_path, {**settings, "duration": "0 steps"})
    run, data = ["--workdir", tmp_path / "run"], ["--data_dir", tmp_path]
    ended = run_command(train.run, ["--config", file, *run, *data], capsys)
    assert ended.code == 0, ended.stderr
    write_data(tmp_path, channels=3)
    for command, flags in ((train.run, ["--config", file]), (evaluate.run, [])):
        refused(
            run_command(command, [*flags, *run, *data], capsys),
            "data.source: gives examples of image (8, 8, 3) uint8, label () int32",
            "was trained on image (8, 8, 1) uint8, label () int32",
        )


@dataclass(frozen=True)
class File:
    """A config file that is no config file."""

    text: str | None
    words: tuple[str, ...]
    name: str = "experiment.py"
    variant: str = ""


FILES = {
    "not there": File(None, ("experiment.py: no such file",)),
    "not Python": File("{}", ("no config file, FILE.py",), name="experiment.json"),
    "syntax": File("def get_config(:\n", ("experiment.py:1: SyntaxError: ",)),
    "exception at import": File("x = 1\nx.y\n", ("experiment.py:2: AttributeError: ",)),
    "exception inside": File(
        "def get_config():\n    return nothing\n",
        ("experiment.py:2: NameError: name 'nothing' is not defined",),
    ),
    "import of what is not installed": File(
        "import no_such_library\n", ("experiment.py:1: ModuleNotFoundError: ",)
    ),
    "without get_config": File("config = {}\n", ("defines no function get_config()",)),
    "returning nothing": File(
        "def get_config():\n    pass\n", ("returned None; it must return a ConfigDict or dict",)
    ),
    "returning a list": File("def get_config():\n    return [1]\n", ("returned list",)),
    "empty": File("def get_config():\n    return {}\n", ("objective: missing",)),
    "variant where there is none": File(
        "def get_config():\n    return {}\n", ("has no variants, so 'gpu' can't",), variant=":gpu"
    ),
    "unknown variant": File(
        "VARIANTS = ('small', 'large')\ndef get_config(variant='small'):\n    return {}\n",
        ("no variant 'lrage'; did you mean 'large'?", "variants are small, large"),
        variant=":lrage",
    ),
    "unlisted unknown variant": File(
        "def get_config(variant):\n    return {'a': {}}[variant]\n",
        ("experiment.py:2: KeyError: 'b'",),
        variant=":b",
    ),
    "variant that must be chosen": File(
        "VARIANTS = ('a', 'b')\ndef get_config(variant):\n    return {}\n",
        ("choose a variant, --config=", "variants are a, b"),
    ),
}


@pytest.mark.parametrize("file", FILES.values(), ids=FILES.keys())
def test_files_that_are_no_configs(
    file: File, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / file.name
    if file.text is not None:
        path.write_text(file.text)
    flags = [f"--config={path}{file.variant}", "--workdir", tmp_path / "run"]
    refused(run_command(train.run, flags, capsys), *file.words)
    assert not (tmp_path / "run").exists()


def test_a_similar_file_is_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(tmp_path, {})
    flags = ["--config", tmp_path / "experimnt.py", "--workdir", tmp_path / "run"]
    refused(run_command(train.run, flags, capsys), "did you mean", "experiment.py")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--config, --workdir"]),
        (["--workdir", "run"], ["--config"]),
        (["--config", "x.py"], ["--workdir"]),
        (["--confg", "x.py", "--workdir", "run"], ["--confg", "did you mean '--config'?"]),
        (["--config"], ["--config", "expected one argument"]),
        (["--config", "x.py", "--workdir", "run", "extra"], ["unrecognized arguments: extra"]),
    ],
)
def test_usage(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(run_command(train.run, arguments, capsys), *words, "--help")


def test_a_workdir_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").write_text("")
    flags = ["--config", write_config(tmp_path, {}), "--workdir", tmp_path / "run"]
    refused(run_command(train.run, flags, capsys), str(tmp_path / "run"))


@pytest.mark.usefixtures("undrawn")
def test_a_good_config_runs_and_then_refuses_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], compilations: list[str]
) -> None:
    """Also the control of the mistakes above: without one, what they assert does not hold."""
    nothing = {"duration": "0 steps", "evaluations": {}}
    flags = ["--config", write_config(tmp_path, nothing), "--workdir", tmp_path / "run"]
    ended = run_command(train.run, flags, capsys)
    assert ended.code == 0, ended.stderr
    assert compilations
    assert (tmp_path / "run" / "config.json").exists()
    ended = run_command(train.run, [*flags, "--config.seed=1"], capsys)
    refused(ended, "seed: 0 -> 1", "--allow_config_change")


def started(arguments: list[Any], **environment: str) -> tuple[Ended, float]:
    """A command in a process of its own, and the seconds of processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "research.train", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_LOG_COMPILES": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended(done.returncode, done.stdout, done.stderr), seconds


def test_a_process_reports_a_typo_before_missing_data(tmp_path: Path) -> None:
    file = write_config(tmp_path, {"optimizer.momentun": 0.9}, has_data=False)
    places = ["--workdir", tmp_path / "run", "--data_dir", tmp_path / "missing"]
    ended, seconds = started(["--config", file, *places])
    refused(ended, "optimizer.momentun: no such setting; did you mean 'momentum'?")
    assert "ompiling" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert seconds < 5
    assert not (tmp_path / "run").exists()


def test_a_process_counts_devices_before_opening_data(tmp_path: Path) -> None:
    file = write_config(tmp_path, {"parallelism.mode": "pmap"}, has_data=False)
    places = ["--workdir", tmp_path / "run", "--data_dir", tmp_path / "missing"]
    three = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    ended, seconds = started(["--config", file, *places], **three)
    refused(ended, "data.batch_size = 64: not divisible by 3 devices x 1 micro-batches")
    assert "ompiling" not in ended.stderr
    assert seconds < 5


def test_a_process_names_the_missing_option() -> None:
    ended, seconds = started(["--config", "experiments/vision/lenet_digits.py"])
    refused(ended, "--workdir")
    assert seconds < 1
