"""The example configs, shrunk until one runs in seconds; every config must have an entry."""

from pathlib import Path

from ml_collections import ConfigDict

EXPERIMENTS = Path(__file__).parents[1] / "experiments"

GPT = {
    "objective.model.num_layers": 1,
    "objective.model.num_heads": 2,
    "objective.model.embed_dim": 16,
    "objective.model.block_size": 16,
    "data.source.block_size": 16,
    "evaluations.validation.source.block_size": 16,
    "evaluations.validation.source.stride": 16,
    "evaluations.validation.every": "6 steps",
    "optimizer.schedule.warmup": "2 steps",
    "steps_per_call": 5,
}
PROBE = {"probes.linear.probe.max_train": 64, "probes.linear.probe.max_iterations": 20}

SHRUNK = {
    "vision/lenet_digits.py": {"objective.model.channels": (4, 8)},
    "vision/lenet_mnist.py": {"objective.model.hidden": (16,)},
    "vision/unet_isbi2012.py": {
        "objective.model.channels": (2, 4),
        "data.batch_size": 2,
        "data.transforms.2.size": (24, 24),
        "data.transforms.2.padding": 2,
        "data.transforms.3.sigma": 1.0,
        "data.transforms.5.size": (16, 16),
    },
    "sequence/gpt_shakespeare.py": GPT,
    "sequence/gpt_shakespeare.py:gpu": GPT | {"compute_dtype": "bfloat16"},
    "generative/vae_mnist.py": {
        "objective.encoder.hidden": (16,),
        "objective.decoder.hidden": (16,),
        "objective.encoder.latent_dim": 2,
    },
    "generative/gan_mnist.py": {
        "objective.generator.hidden": (8,),
        "objective.generator.channels": (8, 4),
        "objective.generator.latent_dim": 6,
        "objective.generator.num_categories": 3,
        "objective.discriminator.channels": (4, 8),
        "objective.discriminator.hidden": (8,),
        "probes.classifier.probe.num_samples": 100,
    },
    "selfsupervised/rotation_mnist.py": {"objective.model.channels": (4, 8), **PROBE},
    "selfsupervised/byol_mnist.py": {
        "objective.backbone.channels": (4, 8),
        "objective.projector.hidden_dim": 16,
        "objective.projector.output_dim": 8,
        "objective.predictor.hidden_dim": 16,
        "objective.predictor.output_dim": 8,
        **PROBE,
    },
}
"""Overrides by config file, with its variant."""

ALWAYS = {
    "data.batch_size": 16,
    "duration": "12 steps",
    "log_every": "4 steps",
    "checkpoints.every": "5 steps",
    "show_examples": 32,
}


def arguments(config: str, workdir: Path, data_dir: Path, **overrides: object) -> list[str]:
    """The arguments of `research.train` for a shrunk config; keywords use __ for dots."""
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    settings = ALWAYS | SHRUNK[config] | given
    return [
        f"--config={EXPERIMENTS / config}",
        f"--workdir={workdir}",
        f"--data_dir={data_dir}",
        *(f"--config.{path}={value}" for path, value in settings.items()),
    ]


def config_files() -> list[str]:
    """Every config in experiments/, once a variant."""
    found = []
    for file in sorted(EXPERIMENTS.glob("*/*.py")):
        name = str(file.relative_to(EXPERIMENTS))
        namespace: dict[str, object] = {"ConfigDict": ConfigDict}
        exec(file.read_text(), namespace)
        variants = namespace.get("VARIANTS", ("",))
        found += [f"{name}:{v}" if i else name for i, v in enumerate(variants)]
    return found
