"""Every setting of an experiment: its type, its default and what it means.

This is the only place where defaults live. `python -m research.train --help` prints it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from research.data.augment.transform import Transform
from research.data.dataset import Source
from research.engine.checks import Component, setting
from research.engine.duration import Duration
from research.engine.objective import InitialVariables, Objective, Probe


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes, as a multiple of its peak."""

    name: Literal["constant", "step", "exponential", "cosine", "linear", "rsqrt"] = setting(
        "Shape after the warm-up.", "constant"
    )
    warmup: Duration = setting(
        "Linear warm-up to the peak, part of the training.", Duration(0, "steps"), at_least=0
    )
    initial_fraction: float = setting(
        "Where the warm-up starts, as a share of the peak.", 0.0, at_least=0.0, at_most=1.0
    )
    final_fraction: float = setting(
        "cosine, linear: the end, as a share of the peak.", 0.0, at_least=0.0, at_most=1.0
    )
    boundaries: tuple[Duration, ...] = setting("step: where the learning rate drops.", ())
    factor: float = setting(
        "step, exponential: what it is multiplied by at each boundary.", 0.1, above=0.0
    )
    every: Duration = setting(
        "exponential: a boundary is at every multiple of this.", Duration(1, "epochs"), above=0
    )
    timescale: Duration = setting(
        "rsqrt: after this the learning rate falls as 1/sqrt(step).",
        Duration(10_000, "steps"),
        above=0,
    )


@dataclass(frozen=True)
class Optimizer:
    """An optax optimizer, its schedule, and rules over parameter paths.

    A rule is a regular expression that must match a whole path such as
    "encoder/block_0/mlp/kernel"; the first rule that matches decides. A rule that matches no
    parameter is an error.
    """

    learning_rate: float = setting("Peak learning rate.", at_least=0.0)
    name: Literal[
        "sgd",
        "momentum",
        "nesterov",
        "rmsprop",
        "adagrad",
        "adafactor",
        "adam",
        "adamw",
        "lion",
        "muon",
    ] = setting("Which optimizer.", "adamw")
    schedule: Schedule = setting("The learning rate over time.", Schedule())
    momentum: float = setting(
        "momentum, nesterov, rmsprop, muon: decay of the velocity.", 0.9, at_least=0.0, at_most=1.0
    )
    b1: float = setting(
        "adam, adamw, lion: decay of the first moment.", 0.9, at_least=0.0, below=1.0
    )
    b2: float = setting(
        "adam, adamw, lion: decay of the second moment; rmsprop: of the squared gradient.",
        0.999,
        at_least=0.0,
        below=1.0,
    )
    eps: float = setting(
        "Added to the denominator of adaptive optimizers (adagrad: under its root; not adafactor).",
        1e-8,
        at_least=0.0,
    )
    weight_decay: float = setting(
        "Decoupled (times the learning rate) for adafactor, adamw, lion, muon; added to the "
        "gradient (L2) for the others.",
        0.0,
        at_least=0.0,
    )
    weight_decay_rules: tuple[tuple[str, float], ...] = setting(
        "(regex, multiplier of weight_decay); what no rule matches is not decayed.",
        ((r"(.*/)?(kernel|embedding)", 1.0),),
    )
    learning_rate_rules: tuple[tuple[str, float], ...] = setting(
        "(regex, multiplier of the learning rate); what no rule matches has 1.", ()
    )
    layer_decay: float | None = setting(
        "Each layer's learning rate, as a multiple of that of the layer above it.",
        None,
        above=0.0,
        at_most=1.0,
    )
    layers: tuple[str, ...] = setting(
        "layer_decay: regexes of the layers' parameters, from input to output; one with a group "
        r'of digits, such as "transformer/block_(\d+)/.*", is a layer for every number, scanned or '
        "not.",
        (),
    )
    freeze: tuple[str, ...] = setting("Regexes of parameters that are not trained.", ())
    clip_norm: float | None = setting(
        "Gradients with a larger global norm are scaled down to it.", None, above=0.0
    )


@dataclass(frozen=True)
class Data:
    """Training data, from its source to batches on device."""

    source: Component = setting("Where examples come from.", component=Source)
    batch_size: int = setting("Examples a step, over all devices.", at_least=1)
    transforms: tuple[Component, ...] = setting(
        "Preprocessing and augmentation, in order, on device.", (), component=Transform
    )
    shuffle: bool = setting("A new seeded order every epoch.", True)
    length_buckets: tuple[int, ...] = setting(
        "Ascending widths: each batch has examples of similar length and is cut to the narrowest "
        "that holds them; (): all are as wide as the longest example of the data.",
        (),
    )
    on_device: bool | None = setting(
        "Keep the data set on the device and gather batches there; None: where it fits.", None
    )
    prefetch: int = setting("Batches read ahead.", 4, at_least=1)
    workers: int = setting("Processes that decode; 0: threads only.", 0, at_least=0)


@dataclass(frozen=True)
class Evaluation:
    """A data set on which metrics are exact means over every example."""

    source: Component = setting("Where examples come from.", component=Source)
    batch_size: int = setting("Examples a call; no result depends on it.", 1000, at_least=1)
    transforms: tuple[Component, ...] = setting(
        "Preprocessing, in order, on device.", (), component=Transform
    )
    every: Duration = setting(
        "How often; the end of training always counts.", Duration(1, "epochs"), above=0
    )


@dataclass(frozen=True)
class ProbeSettings:
    """Something measured on the trained parameters, such as a linear probe."""

    probe: Component = setting("What measures.", component=Probe)
    every: Duration = setting(
        "How often; the end of training always counts.", Duration(100, "percent"), above=0
    )


@dataclass(frozen=True)
class Checkpoints:
    """What is kept of a run."""

    every: Duration = setting(
        "How often; the end of training always counts.", Duration(1, "epochs"), above=0
    )
    keep_latest: int = setting("Newest checkpoints that are kept.", 2, at_least=1)
    keep_best: int = setting("Best checkpoints that are kept.", 1, at_least=0)
    best_metric: str | None = setting(
        'What "best" means, such as "test/accuracy"; None keeps the newest only.', None
    )
    best_mode: Literal["min", "max"] = setting("Whether less or more is better.", "max")


@dataclass(frozen=True)
class EarlyStopping:
    """Stops when a metric has not improved for a while."""

    metric: str = setting('An evaluation\'s metric, such as "validation/loss".')
    mode: Literal["min", "max"] = setting("Whether less or more is better.", "min")
    patience: int = setting("Evaluations without improvement that are borne.", 5, at_least=1)
    min_delta: float = setting("What counts as an improvement.", 0.0, at_least=0.0)


@dataclass(frozen=True)
class Profile:
    """A profiler trace of some steps, for TensorBoard or Perfetto, in the run's folder."""

    start: Duration = setting("When it begins.", Duration(10, "steps"), at_least=0)
    length: Duration = setting("How long it lasts.", Duration(5, "steps"), above=0)


@dataclass(frozen=True)
class Population:
    """Population-based training (Jaderberg et al. 2017) of the trials of one program.

    Whenever the metric is measured, the worst go on from copies of the best, whose hyperparameters
    they change.
    """

    metric: str = setting('What decides, such as "validation/accuracy".')
    bounds: Mapping[str, tuple[float, float]] = setting(
        "Lowest and highest value of every setting in which trials differ, but the seed."
    )
    mode: Literal["min", "max"] = setting("Whether less or more is better.", "max")
    quantile: float = setting(
        "Share of the worst that are replaced, and of the best that replace them.",
        0.25,
        above=0.0,
        at_most=0.5,
    )
    factors: tuple[float, float] = setting(
        "A copied hyperparameter is multiplied by one of the two.", (0.8, 1.25)
    )


@dataclass(frozen=True)
class Parallelism:
    """How the one step runs on the devices."""

    mode: Literal["jit", "pmap", "mesh", "vmap"] = setting(
        "jit: one device. pmap: data parallel. mesh: data, fsdp and tensor axes. "
        "vmap: independent trials in one program.",
        "jit",
    )
    data: int = setting("mesh: devices along the data axis; -1: all that are left.", -1)
    fsdp: int = setting("mesh: devices that share parameters and batch.", 1, at_least=1)
    tensor: int = setting("mesh: devices that share each layer.", 1, at_least=1)
    rules: tuple[tuple[str, tuple[str | None, ...]], ...] = setting(
        "mesh: (regex over parameter paths, axis of each dimension), first match; what no rule "
        "matches is split along its largest dimension over fsdp.",
        (),
    )
    trials: Mapping[str, tuple[Any, ...]] = setting(
        'vmap: setting -> its value in each trial, such as {"seed": (0, 1, 2)}.', {}
    )
    population: Population | None = setting("vmap: train the trials as a population.", None)


@dataclass(frozen=True)
class Reference:
    """What a paper or program reports, and what this experiment must reach."""

    paper: str = setting("Where the number stands.")
    metric: str = setting('Ours, such as "test/accuracy".')
    value: float = setting("The paper's number.")
    tolerance: float = setting("How far ours may be on the wrong side of it.", 0.0, at_least=0.0)
    mode: Literal["min", "max"] = setting("Whether less or more is better.", "max")


@dataclass(frozen=True)
class Experiment:
    """One experiment: all that a run depends on, together with the code and the data."""

    objective: Component = setting("What is optimised.", component=Objective)
    data: Data = setting("Training data.")
    duration: Duration = setting('Length of training, such as "20 epochs".', at_least=0)
    optimizer: Optimizer = setting("How parameters follow gradients.")
    players: Mapping[str, Optimizer] = setting(
        "Optimizers of single players, by name; the others have `optimizer`.", {}
    )
    init_from: Component | None = setting(
        'Variables to start from, such as {"name": "weights.Pretrained", "path": "runs/x"}.',
        None,
        component=InitialVariables,
    )
    seed: int = setting("Of everything random.", 0, at_least=0, at_most=2**32 - 1)
    micro_batches: int = setting(
        "Parts a batch is split in, one after the other, gradients added up.", 1, at_least=1
    )
    steps_per_call: int = setting("Steps in one call of the compiled program.", 1, at_least=1)
    compute_dtype: Literal["float32", "bfloat16"] = setting(
        "What models compute in; parameters, losses and statistics stay float32.", "float32"
    )
    ema_decay: float | None = setting(
        "Averages parameters over steps; evaluation then uses the average, with the running batch "
        "statistics of the parameters themselves.",
        None,
        at_least=0.0,
        at_most=1.0,
    )
    swa_start: Duration | None = setting(
        "Averages parameters evenly from here on (SWA, Izmailov et al. 2018), best at a constant "
        "or cyclic learning rate; evaluation then uses the average, with running batch statistics "
        "of its own, for which a model that has any runs forward once more a step.",
        None,
        at_least=0,
    )
    swa_every: Duration = setting(
        "swa_start: how often the parameters enter the average.", Duration(1, "epochs"), above=0
    )
    log_norms: bool = setting(
        "Norms of gradients, updates and parameters per top-level module.", True
    )
    parallelism: Parallelism = setting("How the step runs on the devices.", Parallelism())
    evaluations: Mapping[str, Evaluation] = setting("Data sets to evaluate on, by name.", {})
    probes: Mapping[str, ProbeSettings] = setting("Other measurements, by name.", {})
    log_every: Duration = setting("How often metrics are written.", Duration(50, "steps"), above=0)
    show_every: Duration | None = setting(
        "How often `show` draws pictures; None: at the end.", None, above=0
    )
    show_examples: int = setting("Examples that `show` draws from.", 1000, at_least=1)
    checkpoints: Checkpoints = setting("What is kept of the run.", Checkpoints())
    early_stopping: EarlyStopping | None = setting("When to stop before the end.", None)
    profile: Profile | None = setting("A profiler trace.", None)
    reference: Reference | None = setting("The number to reproduce.", None)
