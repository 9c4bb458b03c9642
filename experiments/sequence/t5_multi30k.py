"""English captions to German as text to text: a small T5 (Raffel et al. 2020) from scratch.

Every source begins with "translate English to German: ". The encoder, the decoder and the logits
share 6,000 pieces that a unigram model learns from the training captions of both languages. There
is no pre-training: this is the form of T5, on the data of transformer_multi30k.

    python -m research.train --config experiments/sequence/t5_multi30k.py --workdir runs/t5_multi30k
    python -m research.generate --workdir runs/t5_multi30k --output samples/ \\
        --prompt="translate English to German: A man rides a red bike."

Not measured yet. Data: `multi30k/`.
"""

from ml_collections import ConfigDict

VOCAB_SIZE = 6000


def get_config() -> ConfigDict:
    """The experiment."""
    tokenizer = {
        "name": "data.tokenizers.TrainedSubword",
        "files": ("multi30k/train.en.gz", "multi30k/train.de.gz"),
        "size": VOCAB_SIZE,
        "model": "unigram",
        "special_tokens": ("<pad>", "</s>"),
    }

    def pairs(split: str) -> dict:
        return {
            "name": "data.sources.TextPairs",
            "source": f"multi30k/{split}.en.gz",
            "target": f"multi30k/{split}.de.gz",
            "source_tokenizer": tokenizer,
            "target_tokenizer": tokenizer,
            "prefix": "translate English to German: ",
            "start_token": "<pad>",
            "max_length": 62,
        }

    return ConfigDict(
        {
            "objective": {
                "name": "sequence.SequenceToSequence",
                "model": {
                    "name": "sequence.T5",
                    "vocab_size": VOCAB_SIZE,
                    "num_layers": 3,
                    "num_heads": 4,
                    "head_dim": 48,
                    "embed_dim": 192,
                    "mlp_dim": 384,
                    "gated": True,
                    "activation": "gelu_tanh",
                    "dropout_rate": 0.1,
                },
                "source_tokenizer": tokenizer,
                "target_tokenizer": tokenizer,
                "start_token": "<pad>",
                "label_smoothing": 0.1,
            },
            "data": {
                "source": pairs("train"),
                "batch_size": 64,
                "length_buckets": (24, 28, 32, 64),
            },
            "evaluations": {
                "validation": {
                    "source": pairs("val"),
                    "batch_size": 128,
                    "every": "2 epochs",
                },
            },
            "probes": {
                "test": {
                    "probe": {
                        "name": "sequence.TranslationReport",
                        "source": pairs("test_2016_flickr"),
                        "max_new_tokens": 62,
                    },
                },
            },
            "duration": "10 epochs",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-3,
                "b2": 0.98,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
                "schedule": {"name": "cosine", "warmup": "10%"},
            },
            "ema_decay": 0.995,
            "checkpoints": {"every": "2 epochs"},
            "reference": {
                "paper": "our own bar: the GRU with attention on the same data",
                "metric": "test/bleu",
                "value": 28.0,
            },
        }
    )
