"""nanoGPT's character-level GPT on tiny Shakespeare.

The default is nanoGPT's setting for a CPU (4 layers, 4 heads, 128 features, blocks of 64, batches
of 12, 2000 steps); `gpu` is its setting for one GPU (6 layers, 6 heads, 384 features, blocks of
256, batches of 64, 5000 steps, dropout 0.2). nanoGPT's README reports validation losses of 1.88
and 1.4697, estimated on random windows; ours is the exact mean over the whole validation split, in
windows that follow each other.

    python -m research.train --config experiments/sequence/gpt_shakespeare.py --workdir runs/gpt
    python -m research.generate --workdir runs/gpt --output samples/ --prompt="ROMEO:"

The learning rate of the small model is three times nanoGPT's: chosen between the two on the tenth
of the text before the validation split.

Expected: validation loss 1.792 (205 s of CPU time); with nanoGPT's learning rate 1.913. `gpu` has
not been run yet. Data: `tinyshakespeare/input.txt`.
"""

from ml_collections import ConfigDict

VARIANTS = ("cpu", "gpu")
NEEDS_ACCELERATOR = ("gpu",)
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def get_config(variant: str = "cpu") -> ConfigDict:
    """The experiment; `variant` is cpu or gpu."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    gpu = variant == "gpu"
    block_size = 256 if gpu else 64
    tokenizer = {"name": "data.tokenizers.Char", "alphabet": ALPHABET}
    text = {
        "name": "data.sources.Text",
        "file": "tinyshakespeare/input.txt",
        "tokenizer": tokenizer,
        "block_size": block_size,
    }
    return ConfigDict(
        {
            "objective": {
                "name": "sequence.LanguageModeling",
                "model": {
                    "name": "sequence.GPT",
                    "vocab_size": len(ALPHABET),
                    "block_size": block_size,
                    "num_layers": 6 if gpu else 4,
                    "num_heads": 6 if gpu else 4,
                    "embed_dim": 384 if gpu else 128,
                    "dropout_rate": 0.2 if gpu else 0.0,
                    "use_bias": False,
                },
                "tokenizer": tokenizer,
            },
            "data": {
                "source": {**text, "stop": 0.9},
                "batch_size": 64 if gpu else 12,
            },
            "evaluations": {
                "validation": {
                    "source": {**text, "start": 0.9, "stride": block_size},
                    "batch_size": 64,
                    "every": "500 steps",
                },
            },
            "duration": "5000 steps" if gpu else "2000 steps",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-3 if gpu else 3e-3,
                "b2": 0.99,
                "weight_decay": 0.1,
                "clip_norm": 1.0,
                "schedule": {"name": "cosine", "warmup": "100 steps", "final_fraction": 0.1},
            },
            "compute_dtype": "bfloat16" if gpu else "float32",
            "steps_per_call": 50 if gpu else 20,
            "log_every": "100 steps",
            "checkpoints": {
                "every": "500 steps",
                "best_metric": "validation/loss",
                "best_mode": "min",
            },
            "reference": {
                "paper": "nanoGPT (Karpathy 2022), README",
                "metric": "validation/loss",
                "value": 1.4697 if gpu else 1.88,
                "tolerance": 0.02 if gpu else 0.0,
                "mode": "min",
            },
        }
    )
