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
TRANSLATION = {
    "objective.model.num_layers": 1,
    "objective.model.num_heads": 2,
    "objective.model.embed_dim": 16,
    "objective.model.mlp_dim": 16,
    "probes.test.probe.max_new_tokens": 8,
}
PTB = {
    "objective.model.vocab_size": 32,
    "objective.model.hidden_dim": 8,
    "objective.streams": 16,
    "data.source.streams": 16,
    "data.source.block_size": 5,
    **{
        f"evaluations.{split}.source.{setting}": 1000
        for split in ("validation", "test")
        for setting in ("block_size", "stride")
    },
    "steps_per_call": 5,
}
IMDB = {
    "data.source.source.max_length": 12,
    "data.length_buckets": (8, 12),
    "evaluations.validation.source.source.max_length": 12,
    "evaluations.test.source.max_length": 12,
    "data.source.stop": -20,
    "evaluations.validation.source.start": -20,
    "evaluations.validation.every": "6 steps",
    "evaluations.validation.batch_size": 16,
    "evaluations.test.batch_size": 16,
    "objective.model.vocab_size": 32,
}
BERT_IMDB = {
    "objective.model.bert.num_layers": 1,
    "objective.model.bert.num_heads": 2,
    "objective.model.bert.embed_dim": 16,
    "objective.model.bert.mlp_dim": 16,
    "objective.model.bert.block_size": 16,
    "data.source.source.max_length": 14,
    "data.source.examples_per_class": 16,
    "evaluations.test.source.max_length": 14,
    "evaluations.test.batch_size": 16,
}
PROBE = {"probes.linear.probe.max_train": 64, "probes.linear.probe.max_iterations": 20}

# By set, the rows to be forecast of the 320 that there are.
FORECASTS = {
    f"{place}.source.{name}": value
    for place, (start, stop) in {
        "data": (0, 200),
        "evaluations.validation": (200, 260),
        "evaluations.test": (260, 320),
    }.items()
    for name, value in {
        "input_length": 32,
        "horizon": 8,
        "start": start,
        "stop": stop,
        "normalize_by": (0, 200),
    }.items()
} | {"objective.model.horizon": 8, "steps_per_call": 4}
TOY = {
    "objective.model.hidden_dim": 8,
    "data.source.num_examples": 200,
    "evaluations.test.source.num_examples": 50,
    "optimizer.schedule.warmup": "2 steps",
    "steps_per_call": 5,
}

SMALL_RESNET = {"objective.model.depth": 8, "objective.model.channels": 4}
SMALL_CONVNET = {"objective.model.channels": (4, 8)}
FEW = {"data.source.examples_per_class": 4}
TEST_ONCE = {"evaluations.test.every": "100%"}

SHRUNK = {
    "vision/lenet_digits.py": {"objective.model.channels": (4, 8)},
    "vision/lenet_mnist.py": {"objective.model.hidden": (16,)},
    "vision/lenet_mnist.py:distortions": {"objective.model.hidden": (16,)},
    "vision/mlp_mnist.py": {"objective.model.hidden": (16, 8)},
    "vision/distill_mnist.py": {"objective.model.hidden": (16, 8)},
    "vision/distill_mnist.py:alone": {"objective.model.hidden": (16, 8)},
    "vision/distill_mnist.py:teacher": {"objective.model.hidden": (24, 24)},
    "vision/transfer_cifar10.py": SMALL_CONVNET | FEW,
    "vision/transfer_cifar10.py:probe": SMALL_CONVNET
    | FEW
    | {"probes.linear.probe.train.examples_per_class": 4},
    "vision/transfer_cifar10.py:scratch": SMALL_CONVNET | FEW,
    "vision/transfer_cifar10.py:pretrain": SMALL_CONVNET,
    "vision/resnet_cifar10.py": SMALL_RESNET | TEST_ONCE,
    "vision/resnet_cifar10.py:20": SMALL_RESNET | TEST_ONCE,
    "vision/cifar10_fast.py": {
        "objective.model.channels": (4, 4, 8),
        "optimizer.learning_rate": 0.01,
    },
    "vision/cifar10_fast.py:gpu": {
        "objective.model.channels": (4, 4, 8),
        "optimizer.learning_rate": 0.01,
        "steps_per_call": 2,
        "compute_dtype": "float32",
    },
    "vision/unet_isbi2012.py": {
        "objective.model.channels": (2, 4),
        "data.batch_size": 2,
        "data.transforms.2.size": (16, 16),
    },
    "sequence/dlinear_etth1.py": FORECASTS,
    "sequence/audio_fsdd.py": {
        "objective.model.stem_channels": 2,
        "objective.model.num_layers": 1,
        "objective.model.num_heads": 2,
        "objective.model.embed_dim": 8,
        "objective.model.mlp_dim": 8,
        "objective.model.kernel_size": 3,
        "data.source.max_frames": 32,
        "evaluations.test.source.max_frames": 32,
    },
    "sequence/ctc_fsdd.py": {
        "objective.model.stem_channels": 2,
        "objective.model.hidden_dim": 8,
        "data.source.size": 64,
        "evaluations.test.source.size": 12,
        "probes.words.probe.source.size": 12,
    },
    "sequence/bert_imdb.py": BERT_IMDB,
    "sequence/bert_imdb.py:scratch": BERT_IMDB,
    "sequence/bert_imdb.py:pretrain": {
        "objective.model.num_layers": 1,
        "objective.model.num_heads": 2,
        "objective.model.embed_dim": 16,
        "objective.model.mlp_dim": 16,
        "objective.model.block_size": 16,
        "data.source.source.max_length": 14,
        "evaluations.validation.source.source.max_length": 14,
        "data.source.stop": -20,
        "evaluations.validation.source.start": -20,
    },
    "sequence/bert_shakespeare.py": GPT | {"objective.model.mlp_dim": 16},
    "sequence/gpt_shakespeare.py": GPT,
    "sequence/gpt_shakespeare.py:gpu": GPT | {"compute_dtype": "bfloat16"},
    "sequence/patchtst_etth1.py": FORECASTS
    | {
        "objective.model.num_layers": 1,
        "objective.model.num_heads": 2,
        "objective.model.embed_dim": 8,
        "objective.model.mlp_dim": 16,
    },
    "sequence/adding.py": TOY | {"data.source.length": 12, "evaluations.test.source.length": 12},
    "sequence/copy.py": TOY | {"data.source.delay": 5, "evaluations.test.source.delay": 5},
    "sequence/lstm_jsb.py": {"objective.model.hidden_dim": 8},
    "sequence/tcn_jsb.py": {"objective.model.channels": (8, 8)},
    "sequence/gru_imdb.py": IMDB | {"objective.model.hidden_dim": 8},
    "sequence/lstm_imdb.py": IMDB | {"objective.model.hidden_dim": 8},
    "sequence/t5_multi30k.py": TRANSLATION | {"objective.model.head_dim": 8},
    "sequence/tagger_conll2002.py": {
        "objective.model.embed_dim": 8,
        "objective.model.hidden_dim": 8,
        "objective.model.character_dim": 4,
        "data.length_buckets": (16, 100),
    },
    "sequence/transformer_imdb.py": IMDB
    | {"objective.model.embed_dim": 8, "objective.model.mlp_dim": 8},
    "sequence/transformer_multi30k.py": TRANSLATION,
    "sequence/transformer_multi30k.py:gru": {
        "objective.model.hidden_dim": 16,
        "probes.test.probe.max_new_tokens": 8,
    },
    "sequence/lstm_ptb.py": PTB,
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

SAME_BUT_DEEPER = (
    *(f"vision/resnet_cifar10.py:{depth}" for depth in (32, 44, 56, 110)),
    *(f"sequence/dlinear_etth1.py:{horizon}" for horizon in (192, 336, 720)),
    *(f"sequence/patchtst_etth1.py:{horizon}" for horizon in (192, 336, 720)),
    *(f"sequence/{name}.py:{cell}" for name in ("adding", "copy") for cell in ("gru", "rnn")),
    *(f"sequence/lstm_ptb.py:{size}" for size in ("medium", "large")),
    *(f"sequence/llama_tiny.py:{size}" for size in ("42m", "110m")),
)
"""Variants that differ from one of SHRUNK or ONE_STEP in numbers."""

BUILT_ON = ("sequence/bert_imdb.py:pretrain", "vision/transfer_cifar10.py:pretrain")
"""Configs without a number to reach, for others to begin with."""

TRANSFORMER = {
    "objective.model.vocab_size": 296,
    "objective.model.num_layers": 1,
    "objective.model.num_heads": 2,
    "objective.model.embed_dim": 16,
    "objective.model.block_size": 16,
    "data.source.block_size": 16,
    "evaluations.validation.source.block_size": 16,
    "evaluations.validation.source.stride": 16,
    "micro_batches": 2,
    "steps_per_call": 1,
    "compute_dtype": "float32",
    "optimizer.schedule.warmup": "0 steps",
}
LLAMA = TRANSFORMER | {"objective.model.mlp_dim": 32, "data.source.stride": 16}

NO_WARMUP = {"optimizer.schedule.warmup": "0 steps"}
# In float32, which compiles in half the time of bfloat16 on a CPU.
IMAGENET = {
    "objective.model.num_classes": 10,
    "data.source.size": 40,
    "data.transforms.1.size": (32, 32),
    "data.batch_size": 4,
    "data.workers": 0,
    "evaluations.validation.source.size": 36,
    "evaluations.validation.transforms.0.size": (32, 32),
    "compute_dtype": "float32",
    "log_norms": False,
} | NO_WARMUP
SMALL_VIT = {
    "objective.model.embed_dim": 32,
    "objective.model.num_layers": 2,
    "objective.model.num_heads": 2,
    "objective.model.mlp_dim": 128,
}
FOUR_BLOCKS = {"objective.model.stage_sizes": (1, 1, 1, 1)}

ONE_STEP = {
    "sequence/bert_base.py": TRANSFORMER
    | {
        "objective.model.mlp_dim": 32,
        "data.source.documents.dataset": "openwebtext",
        "evaluations.validation.source.documents.dataset": "openwebtext",
        "data.source.stride": 16,
        "data.source.stop": 0.8,
        "evaluations.validation.source.start": 0.8,
    },
    "sequence/gpt2_openwebtext.py": TRANSFORMER
    | {
        "data.source.stop": 0.8,
        "data.source.stride": 4,
        "evaluations.validation.source.start": 0.8,
    },
    "sequence/llama_tiny.py": LLAMA,
    "sequence/t5_base.py": {
        "objective.model.vocab_size": 296,
        "objective.model.num_layers": 1,
        "objective.model.num_heads": 2,
        "objective.model.head_dim": 8,
        "objective.model.embed_dim": 16,
        "objective.model.mlp_dim": 32,
        "data.source.documents.dataset": "openwebtext",
        "data.source.documents.split": "train[:80%]",
        "data.source.block_size": 16,
        "data.source.stride": 16,
        "evaluations.validation.source.documents.dataset": "openwebtext",
        "evaluations.validation.source.documents.split": "train[80%:]",
        "evaluations.validation.source.block_size": 16,
        "evaluations.validation.source.stride": 16,
        "micro_batches": 2,
        "steps_per_call": 1,
        "compute_dtype": "float32",
    },
    "vision/imagenet.py": IMAGENET | FOUR_BLOCKS,
    "vision/imagenet.py:efficientnet_b0": IMAGENET
    | {
        "objective.model.width_factor": 0.25,
        "objective.model.stages": ((1, 3, 1, 16, 1), (6, 3, 2, 24, 1)),
    },
    "vision/imagenet.py:vit_s16": IMAGENET | SMALL_VIT | {"data.transforms.5.num_classes": 10},
    "vision/imagenet.py:mobilenet_v3_large": IMAGENET
    | {
        "objective.model.blocks": (
            (3, 16, 16, False, False, 1),
            (5, 120, 40, True, False, 1),
            (3, 480, 112, True, True, 1),
        ),
    },
    "vision/imagenet.py:convnext_t": IMAGENET
    | FOUR_BLOCKS
    | {
        "objective.model.channels": (8, 16, 32, 64),
        "data.transforms.6.transforms.0.num_classes": 10,
        "data.transforms.6.transforms.1.num_classes": 10,
    },
    "vision/resnet_cifar10.py:small_vgg": NO_WARMUP | {"objective.model.channels": (4,) * 5},
    "vision/resnet_cifar10.py:small_mobilenet": NO_WARMUP
    | {"objective.model.stages": ((6, 8, 1, 1), (6, 8, 2, 2))},
    "vision/resnet_cifar10.py:small_vit": NO_WARMUP | SMALL_VIT,
}
"""Of configs that take one step of training only: compiling even the fewest blocks of their models
is most of what it takes."""

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
    settings = ALWAYS | (SHRUNK | ONE_STEP)[config] | given
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
