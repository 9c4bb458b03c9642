"""BERT-base (Devlin et al. 2019) on Wikipedia: 12 layers, 12 heads, 768 features, 512 tokens.

One million steps of 256 blocks of 512 tokens, Adam at 1e-4 with decoupled weight decay of 0.01, a
warm-up of 10,000 steps and a linear decay, dropout 0.1; 15 % of the tokens are hidden. It differs
from the paper in the data (no BooksCorpus), in that there is no second sentence to be told from a
random one, in that all steps have long blocks (there, those of the first nine tenths have 128
tokens), and in that blocks go on into the next document behind its "[SEP]" and begin anywhere, not
with "[CLS]". The paper's table 6 has a perplexity of hidden tokens, held out of its own data, of
3.99.

    python -m research.train --config experiments/sequence/bert_base.py --workdir runs/bert_base
    python -m research.generate --workdir runs/bert_base --output samples/ \\
        --prompt="The capital of France is [MASK]."

`micro_batches` 4 are for 8 devices of 16 GB; `--config.parallelism.fsdp=8` and
`--config.parallelism.tensor=2` split the parameters.

Expected: not measured yet; needs accelerators (the paper: 4 days on 16 TPU chips). Data: TFDS's
`wikipedia/20230601.en` as ArrayRecord below `tfds/` (without it, the first line says how to prepare
it), encoded once, and `bert/tokenizer.json`, that of bert-base-uncased as Hugging Face has it.
"""

from ml_collections import ConfigDict

from research.nn.sharding import transformer_rules

NEEDS_ACCELERATOR = True
BLOCK_SIZE = 512
VALIDATION = 0.999  # documents from here on, by their hash


def get_config() -> ConfigDict:
    """The experiment."""
    tokenizer = {"name": "data.tokenizers.Subword", "file": "bert/tokenizer.json"}
    corpus = {
        "name": "data.sources.TokenCorpus",
        "documents": {
            "name": "data.sources.Tfds",
            "dataset": "wikipedia/20230601.en",
            "split": "train",
            "keys": ("text",),
        },
        "tokenizer": tokenizer,
        "block_size": BLOCK_SIZE,
        "stride": BLOCK_SIZE,
        "end_token": "[SEP]",
        "skip_empty": True,
    }
    return ConfigDict(
        {
            "objective": {
                "name": "sequence.MaskedLanguageModeling",
                "model": {"name": "sequence.BERT"},
                "tokenizer": tokenizer,
                "start_token": "[SEP]",  # what is before a document is the end of another
                "end_token": "[SEP]",
            },
            "data": {"source": {**corpus, "stop": VALIDATION}, "batch_size": 256},
            "evaluations": {
                "validation": {
                    "source": {**corpus, "start": VALIDATION},
                    "batch_size": 128,
                    "every": "10000 steps",
                },
            },
            "duration": "1000000 steps",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-4,
                "eps": 1e-6,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
                "schedule": {"name": "linear", "warmup": "10000 steps"},
            },
            "compute_dtype": "bfloat16",
            "micro_batches": 4,
            "steps_per_call": 20,
            "log_every": "100 steps",
            "log_norms": False,
            "parallelism": {"mode": "mesh", "rules": transformer_rules()},
            "checkpoints": {
                "every": "10000 steps",
                "best_metric": "validation/loss",
                "best_mode": "min",
            },
            "reference": {
                "paper": "Devlin et al. 2019, table 6",
                "metric": "validation/perplexity",
                "value": 3.99,
                "mode": "min",
            },
        }
    )
