"""BERT on IMDB's reviews of films: masked language modelling of their text, then their sentiment
from 1,000 labels.

`pretrain` is a BERT of 2 layers, 4 heads and 128 features that fills in hidden tokens (Devlin et
al. 2019; no prediction of the next sentence, Liu et al. 2019) in the reviews of the training
split, whole, in pieces of up to 30 tokens between [CLS] and [SEP]; their labels are not read.
The 8,000 tokens are learnt from the same text by WordPiece, in small letters. `finetune`, the
default, goes on from it with 500 positive and 500 negative reviews, of which the last 126 tokens
are read; `scratch` trains the same network on them alone. Which reviews these are is drawn by the
seed.

With BERT's initial standard deviation of 0.02, four layers and pieces of 126 tokens the loss of
`pretrain` stays at that of how often tokens occur: 6.03 after 2,000 steps of 32 pieces. Both the
wider kernels and the shorter pieces help: 6.2 with the former alone after 1,900 steps of 8 pieces,
5.0 with both after 1,900 of 32. Of the same 6 million tokens, batches of 128 learn less: 4.576.

    python -m research.train --config experiments/sequence/bert_imdb.py:pretrain \\
        --workdir runs/bert_pretrain
    python -m research.train --config experiments/sequence/bert_imdb.py --workdir runs/bert_imdb
    python -m research.generate --workdir runs/bert_pretrain --output samples/ \\
        --prompt="One of the [MASK] films I have ever seen."

Measured once, seed 0, without a look at the test: `pretrain` comes to a validation loss of 4.207
(16 minutes on one CPU core). Trained on reviews among the first 20,000 and measured on the other
5,000 of the training split, `finetune` has an accuracy of 0.700 and `scratch` of 0.746: what is to
be shown, that pre-training helps, is not reached. From the loss of 4.576 it is 0.683, so that more
pre-training may. Data: `imdb/`.
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = ("finetune", "scratch", "pretrain")
REQUIRES = {"finetune": {"init_from.path": "experiments/sequence/bert_imdb.py:pretrain"}}
SEEDS = {"finetune": ("data.source.seed",), "scratch": ("data.source.seed",)}
VOCAB_SIZE = 8000
MAX_LENGTH = 128  # of what is classified
PIECE_LENGTH = 32  # of what hidden tokens are in
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def get_config(variant: str = "finetune") -> ConfigDict:
    """The experiment; `variant` is finetune, scratch or pretrain."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    tokenizer = {
        "name": "data.tokenizers.TrainedSubword",
        "files": ("imdb/train.jsonl.xz",),
        "field": "text",
        "size": VOCAB_SIZE,
        "model": "wordpiece",
        "lowercase": True,
        "special_tokens": SPECIAL,
    }
    bert = {
        "name": "sequence.BERT",
        "vocab_size": VOCAB_SIZE,
        "block_size": MAX_LENGTH,
        "num_layers": 2,
        "num_heads": 4,
        "embed_dim": 128,
        "mlp_dim": 512,
        "dropout_rate": 0.0 if variant == "pretrain" else 0.1,
        "init_std": 0.05,
    }

    def reviews(split: str, length: int, **settings: Any) -> dict[str, Any]:
        return {
            "name": "data.sources.LabelledText",
            "file": f"imdb/{split}.jsonl.xz",
            "text": "text",
            "tokenizer": tokenizer,
            "max_length": length - 2,  # and two around them
            "start_token": "[CLS]",
            "end_token": "[SEP]",
            **settings,
        }

    config: dict[str, Any] = {
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-3 if variant == "pretrain" else 3e-4,
            "weight_decay": 0.01,
            "clip_norm": 1.0,
            "schedule": {"name": "linear", "warmup": "10%"},
        },
        "log_every": "50 steps",
    }
    if variant == "pretrain":
        text = {"name": "data.sources.Subset", "source": reviews("train", PIECE_LENGTH, keep="all")}
        config |= {
            "objective": {
                "name": "sequence.MaskedLanguageModeling",
                "model": bert,
                "tokenizer": tokenizer,
                "start_token": "[CLS]",
                "end_token": "[SEP]",
            },
            "data": {"source": text | {"stop": -1000}, "batch_size": 32},
            "evaluations": {
                "validation": {
                    "source": text | {"start": -1000},
                    "batch_size": 200,
                    "every": "50%",
                },
            },
            "duration": "6000 steps",
            "checkpoints": {"every": "50%"},
        }
        return ConfigDict(config)
    sentiment = {"label": "label", "classes": ("0", "1"), "keep": "end"}
    config |= {
        "objective": {
            "name": "sequence.SequenceClassification",
            "model": {
                "name": "sequence.BERTClassifier",
                "bert": bert,
                "num_classes": 2,
                "pooling": "mean",
            },
            "tokenizer": tokenizer,
            "class_names": ("negative", "positive"),
        },
        "data": {
            "source": {
                "name": "data.sources.Classes",
                "source": reviews("train", MAX_LENGTH, **sentiment),
                "classes": (0, 1),
                "examples_per_class": 500,
            },
            "batch_size": 32,
        },
        "evaluations": {
            "test": {
                "source": reviews("test", MAX_LENGTH, **sentiment),
                "batch_size": 250,
                "every": "100%",
            },
        },
        "duration": "8 epochs",
        "checkpoints": {"every": "100%"},
        "reference": {
            "paper": "our own bar: guessing",
            "metric": "test/accuracy",
            "value": 0.5,
        },
    }
    if variant == "finetune":
        config["init_from"] = {
            "name": "weights.Pretrained",
            "path": "runs/bert_pretrain",
            "leave": ("params/head/.*",),
        }
    return ConfigDict(config)
