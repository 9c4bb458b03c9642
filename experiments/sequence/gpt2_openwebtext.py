"""nanoGPT's GPT-2 of 124M parameters on OpenWebText.

12 layers, 12 heads, 768 features, blocks of 1024 tokens, without biases and dropout, the vocabulary
padded from 50,257 tokens to 50,304; 600,000 steps of 480 blocks, the learning rate down from 6e-4
to 6e-5 by a cosine. nanoGPT's README reports a validation loss of about 2.85, on random windows of
0.05 % of the documents; ours is the exact mean over all windows of as many documents, chosen by
their hash. A step's windows begin at every 128th token, nanoGPT's at any.

    python -m research.train --config experiments/sequence/gpt2_openwebtext.py --workdir runs/gpt2
    python -m research.generate --workdir runs/gpt2 --stream --prompt="In the beginning" --top_k=200

A batch is of all devices together, and `micro_batches` splits it: 5 are for 8 GPUs, 40 for one.
`--config.parallelism.fsdp=8` and `--config.parallelism.tensor=2` split the parameters.

Expected: the README's number in about 4 days on 8 A100 with 40 GB, by the README. Has not been run:
needs GPUs. Data: TFDS's `openwebtext` as ArrayRecord below `tfds/` (without it, the first line says
how to prepare it), 9 billion tokens that are encoded once to 18 GB in the cache, and GPT-2's
`gpt2/tokenizer.json` as Hugging Face has it.
"""

from ml_collections import ConfigDict

from research.nn.sharding import transformer_rules

NEEDS_ACCELERATOR = True
BLOCK_SIZE = 1024
VALIDATION = 0.9995  # documents from here on, by their hash


def get_config() -> ConfigDict:
    """The experiment."""
    tokenizer = {"name": "data.tokenizers.Subword", "file": "gpt2/tokenizer.json"}
    corpus = {
        "name": "data.sources.TokenCorpus",
        "documents": {
            "name": "data.sources.Tfds",
            "dataset": "openwebtext",
            "split": "train",
            "keys": ("text",),
        },
        "tokenizer": tokenizer,
        "block_size": BLOCK_SIZE,
        "end_token": "<|endoftext|>",
        "skip_empty": True,
    }
    return ConfigDict(
        {
            "objective": {
                "name": "sequence.LanguageModeling",
                "model": {
                    "name": "sequence.GPT",
                    "vocab_size": 50_304,
                    "block_size": BLOCK_SIZE,
                    "num_layers": 12,
                    "num_heads": 12,
                    "embed_dim": 768,
                    "use_bias": False,
                },
                "tokenizer": tokenizer,
                "end_token": corpus["end_token"],
            },
            "data": {
                "source": {**corpus, "stop": VALIDATION, "stride": 128},
                "batch_size": 480,
            },
            "evaluations": {
                "validation": {
                    "source": {**corpus, "start": VALIDATION, "stride": BLOCK_SIZE},
                    "batch_size": 96,
                    "every": "5000 steps",
                },
            },
            "duration": "600000 steps",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 6e-4,
                "b2": 0.95,
                "weight_decay": 0.1,
                "clip_norm": 1.0,
                "schedule": {"name": "cosine", "warmup": "2000 steps", "final_fraction": 0.1},
            },
            "compute_dtype": "bfloat16",
            "micro_batches": 5,
            "steps_per_call": 10,
            "log_every": "100 steps",
            "log_norms": False,
            "parallelism": {"mode": "mesh", "rules": transformer_rules()},
            "checkpoints": {
                "every": "5000 steps",
                "best_metric": "validation/loss",
                "best_mode": "min",
            },
            "reference": {
                "paper": "nanoGPT (Karpathy 2022), README",
                "metric": "validation/loss",
                "value": 2.85,
                "tolerance": 0.02,
                "mode": "min",
            },
        }
    )
