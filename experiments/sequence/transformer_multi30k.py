"""English captions to German: the Transformer, and a GRU with attention, on Multi30k.

`transformer` is a small one (Vaswani et al. 2017), pre-norm, with one embedding for both languages'
tokens and the logits; `gru` is that of Bahdanau, Cho and Bengio (2015). Tokens are 6,000 pieces
that byte-level BPE learns from the training captions of both languages. BLEU is that of cased,
detokenised text by sacrebleu, whose signature the run logs, on test_2016_flickr, by a beam of 4.
Pictures show what is attended to.

    python -m research.train --config experiments/sequence/transformer_multi30k.py \\
        --workdir runs/transformer_multi30k
    python -m research.train --config experiments/sequence/transformer_multi30k.py:gru \\
        --workdir runs/gru_multi30k
    python -m research.generate --workdir runs/transformer_multi30k --output samples/ \\
        --prompt="A man rides a red bike."

Expected: BLEU 37.84 on the test captions, 37.85 on the validation captions (`transformer`, seed 0;
117 minutes on one busy CPU core; 37.5 after 8 of the 10 epochs). `gru`: 32.04 on the test captions
(seed 0; 90 minutes on one busy CPU core). Data: `multi30k/`.

Settings are chosen on the validation captions:

    --config.probes.test.probe.source.source=multi30k/val.en.gz \\
    --config.probes.test.probe.source.target=multi30k/val.de.gz
"""

from ml_collections import ConfigDict

VARIANTS = ("transformer", "gru")
VOCAB_SIZE = 6000


def get_config(variant: str = "transformer") -> ConfigDict:
    """The experiment; `variant` is transformer or gru."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    transformer = variant == "transformer"
    tokenizer = {
        "name": "data.tokenizers.TrainedSubword",
        "files": ("multi30k/train.en.gz", "multi30k/train.de.gz"),
        "size": VOCAB_SIZE,
        "special_tokens": ("<s>", "</s>"),
    }

    def pairs(split: str) -> dict:
        return {
            "name": "data.sources.TextPairs",
            "source": f"multi30k/{split}.en.gz",
            "target": f"multi30k/{split}.de.gz",
            "source_tokenizer": tokenizer,
            "target_tokenizer": tokenizer,
            "max_length": 62,
        }

    if transformer:
        model = {
            "name": "sequence.TranslationTransformer",
            "vocab_size": VOCAB_SIZE,
            "num_layers": 3,
            "num_heads": 4,
            "embed_dim": 192,
            "mlp_dim": 384,
            "norm_first": True,
            "dropout_rate": 0.1,
            "block_size": 64,
        }
    else:
        model = {
            "name": "sequence.RecurrentTranslator",
            "vocab_size": VOCAB_SIZE,
            "hidden_dim": 256,
            "bidirectional": True,
            "dropout_rate": 0.3,
        }
    return ConfigDict(
        {
            "objective": {
                "name": "sequence.SequenceToSequence",
                "model": model,
                "source_tokenizer": tokenizer,
                "target_tokenizer": tokenizer,
                "label_smoothing": 0.1,
            },
            "data": {
                "source": pairs("train"),
                "batch_size": 64,
                "length_buckets": (16, 20, 24, 32, 64),
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
                    },
                },
            },
            "duration": "10 epochs",
            "optimizer": {
                "name": "adamw",
                "learning_rate": 2e-3 if transformer else 1e-3,
                "b2": 0.98,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
                "schedule": {"name": "cosine", "warmup": "10%"},
            },
            "ema_decay": 0.995,
            "checkpoints": {"every": "2 epochs"},
            "reference": {
                "paper": "our own bar: 35 BLEU" if transformer else "our own bar: 28 BLEU",
                "metric": "test/bleu",
                "value": 35.0 if transformer else 28.0,
            },
        }
    )
