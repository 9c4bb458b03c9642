"""Small Llamas on TinyStories, as llama2.c trains them.

`15m` has 6 layers, 6 heads, 288 features and blocks of 256 tokens, `42m` 8, 8 and 512, `110m` 12,
12 and 768, both with blocks of 1024; embeddings are tied. The settings of training are the defaults
of its train.py, 100,000 steps of 131,072 tokens at a rate of 5e-4; for the larger two its README
gives no others. It reports validation losses of 1.072, 0.847 and 0.760, on the first of 50 parts of
the stories; ours are of the validation file. A "<s>" stands between two stories.

    python -m research.train --config experiments/sequence/llama_tiny.py --workdir runs/llama
    python -m research.generate --workdir runs/llama --stream --prompt="Once upon a time"

Expected: not measured yet; needs a GPU. Data: `tinystories/TinyStories-{train,valid}.txt`, with
"<|endoftext|>" between stories (a billion characters, encoded once), and Llama 2's
`llama2/tokenizer.json`.
"""

from ml_collections import ConfigDict

from research.nn.sharding import transformer_rules

VARIANTS = ("15m", "42m", "110m")
NEEDS_ACCELERATOR = True
SIZES = {
    "15m": {"num_layers": 6, "num_heads": 6, "embed_dim": 288, "mlp_dim": 768},
    "42m": {"num_layers": 8, "num_heads": 8, "embed_dim": 512, "mlp_dim": 1376},
    "110m": {"num_layers": 12, "num_heads": 12, "embed_dim": 768, "mlp_dim": 2048},
}
VALIDATION_LOSS = {"15m": 1.072, "42m": 0.847, "110m": 0.760}
TOKENS_A_STEP = 131_072
END = "<s>"


def get_config(variant: str = "15m") -> ConfigDict:
    """The experiment; `variant` is 15m, 42m or 110m."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    block_size = 256 if variant == "15m" else 1024
    tokenizer = {"name": "data.tokenizers.Subword", "file": "llama2/tokenizer.json"}

    def stories(file: str) -> dict[str, object]:
        return {
            "name": "data.sources.TokenCorpus",
            "documents": {
                "name": "data.sources.TextFiles",
                "paths": (f"tinystories/{file}",),
                "separator": "<|endoftext|>",
                "strip": True,
            },
            "tokenizer": tokenizer,
            "block_size": block_size,
            "stride": block_size,
            "end_token": END,
            "skip_empty": True,
        }

    return ConfigDict(
        {
            "objective": {
                "name": "sequence.LanguageModeling",
                "model": {
                    "name": "sequence.Llama",
                    "vocab_size": 32_000,
                    "block_size": block_size,
                    "tie_embeddings": True,
                    **SIZES[variant],
                },
                "tokenizer": tokenizer,
                "end_token": END,
            },
            "data": {
                "source": stories("TinyStories-train.txt"),
                "batch_size": TOKENS_A_STEP // block_size,
            },
            "evaluations": {
                "validation": {
                    "source": stories("TinyStories-valid.txt"),
                    "batch_size": TOKENS_A_STEP // block_size // 4,
                    "every": "2000 steps",
                },
            },
            "duration": "100000 steps",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 5e-4,
                "b2": 0.95,
                "weight_decay": 0.1,
                "clip_norm": 1.0,
                "schedule": {"name": "cosine", "warmup": "1000 steps"},
            },
            "compute_dtype": "bfloat16",
            "micro_batches": 4,
            "steps_per_call": 20,
            "log_every": "100 steps",
            "log_norms": False,
            "parallelism": {"mode": "mesh", "rules": transformer_rules()},
            "checkpoints": {
                "every": "2000 steps",
                "best_metric": "validation/loss",
                "best_mode": "min",
            },
            "reference": {
                "paper": "llama2.c (Karpathy 2023), README",
                "metric": "validation/loss",
                "value": VALIDATION_LOSS[variant],
                "tolerance": 0.02,
                "mode": "min",
            },
        }
    )
