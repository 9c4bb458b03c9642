"""BERT on IMDB's reviews of films: masked language modelling of their text.

`pretrain`, the default, is a BERT of 4 layers, 4 heads and 128 features that fills in hidden tokens
(Devlin et al. 2019; no prediction of the next sentence, Liu et al. 2019) in the reviews of the
training split, whole, in pieces of up to 126 tokens between [CLS] and [SEP]; their labels are not
read. The 8,000 tokens are learnt from the same text by WordPiece, in small letters. It is for
others to begin with:

    python -m research.train --config experiments/sequence/bert_imdb.py --workdir runs/bert_imdb
    python -m research.generate --workdir runs/bert_imdb --output samples/ \\
        --prompt="One of the [MASK] films I have ever seen."

Expected: Not measured yet. Data: `imdb/`.
"""

from ml_collections import ConfigDict

VARIANTS = ("pretrain",)
VOCAB_SIZE = 8000
MAX_LENGTH = 128
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def get_config(variant: str = "pretrain") -> ConfigDict:
    """The experiment; `variant` is pretrain."""
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
    reviews = {
        "name": "data.sources.LabelledText",
        "file": "imdb/train.jsonl.xz",
        "text": "text",
        "tokenizer": tokenizer,
        "max_length": MAX_LENGTH - 2,  # and two around them
        "keep": "all",
        "start_token": "[CLS]",
        "end_token": "[SEP]",
    }

    def part(start: int, stop: int | None) -> dict:
        return {"name": "data.sources.Subset", "source": reviews, "start": start, "stop": stop}

    return ConfigDict(
        {
            "objective": {
                "name": "sequence.MaskedLanguageModeling",
                "model": {
                    "name": "sequence.BERT",
                    "vocab_size": VOCAB_SIZE,
                    "block_size": MAX_LENGTH,
                    "num_layers": 4,
                    "num_heads": 4,
                    "embed_dim": 128,
                    "mlp_dim": 512,
                    "dropout_rate": 0.0,
                },
                "tokenizer": tokenizer,
            },
            "data": {"source": part(0, -1000), "batch_size": 32},
            "evaluations": {
                "validation": {
                    "source": part(-1000, None),
                    "batch_size": 50,
                    "every": "1000 steps",
                },
            },
            "duration": "2000 steps",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-3,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
                "schedule": {"name": "linear", "warmup": "5%"},
            },
            "log_every": "100 steps",
            "checkpoints": {"every": "1000 steps"},
        }
    )
