"""Zaremba, Sutskever and Vinyals' LSTM language models on Penn Treebank, word by word.

Two layers, with the state carried from batch to batch through 20 streams of the text (truncated
backpropagation over 20 words, 35 in the larger two). `small` has 200 units and no dropout, 13
epochs; `medium` 650 units and dropout 0.5, 39 epochs; `large` 1500 units and dropout 0.65, 55
epochs. The words are the 10,000 of the training file, "<unk>" and "<eos>" among them.

    python -m research.train --config experiments/sequence/lstm_ptb.py --workdir runs/lstm_ptb
    python -m research.generate --workdir runs/lstm_ptb --output samples/ --prompt="the company"

The paper's loss is a sum over the words of a step, ours their mean: with 20 words its rate of 1 is
20 here, and its largest norm of 5 is 5 / 20. The logits' bias starts at 0. As in the paper the
whole of a split is one sequence, whose state is never reset, and every word but the first is a
target.

Expected: the paper's test perplexities of 114.5, 82.7 and 78.4. Not measured yet but for one epoch
of `small`: validation perplexity 183.9, test 181.6. Its 30,199 steps take 0.17 s of CPU time each,
1.4 hours in all; the larger two need a GPU. Data: `ptb/ptb.{train,valid,test}.txt.xz`.
"""

from ml_collections import ConfigDict

VARIANTS = ("small", "medium", "large")
NEEDS_ACCELERATOR = ("medium", "large")

HIDDEN_DIM = {"small": 200, "medium": 650, "large": 1500}
DROPOUT_RATE = {"small": 0.0, "medium": 0.5, "large": 0.65}
INIT_SCALE = {"small": 0.1, "medium": 0.05, "large": 0.04}
NUM_STEPS = {"small": 20, "medium": 35, "large": 35}
NUM_EPOCHS = {"small": 13, "medium": 39, "large": 55}
CONSTANT_EPOCHS = {"small": 4, "medium": 6, "large": 14}
DECAY = {"small": 2.0, "medium": 1.2, "large": 1.15}
CLIP_NORM = {"small": 5.0, "medium": 5.0, "large": 10.0}
TEST_PERPLEXITY = {"small": 114.5, "medium": 82.7, "large": 78.4}
STREAMS = 20


def get_config(variant: str = "small") -> ConfigDict:
    """The experiment; `variant` is small, medium or large."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    num_steps, num_epochs = NUM_STEPS[variant], NUM_EPOCHS[variant]
    tokenizer = {
        "name": "data.tokenizers.Word",
        "file": "ptb/ptb.train.txt.xz",
        "end_of_line": "<eos>",
    }
    text = {"name": "data.sources.Text", "tokenizer": tokenizer}
    # All of a split is one window, and the state is carried through it.
    whole = {**text, "block_size": 100_000, "stride": 100_000}
    decays = range(CONSTANT_EPOCHS[variant], num_epochs)
    return ConfigDict(
        {
            "objective": {
                "name": "sequence.LanguageModeling",
                "model": {
                    "name": "sequence.RecurrentLanguageModel",
                    "vocab_size": 10_000,
                    "hidden_dim": HIDDEN_DIM[variant],
                    "dropout_rate": DROPOUT_RATE[variant],
                    "init_scale": INIT_SCALE[variant],
                },
                "tokenizer": tokenizer,
                "streams": STREAMS,
            },
            "data": {
                "source": {
                    **text,
                    "file": "ptb/ptb.train.txt.xz",
                    "block_size": num_steps,
                    "streams": STREAMS,
                },
                "batch_size": STREAMS,
                "shuffle": False,
            },
            "evaluations": {
                "validation": {
                    "source": {**whole, "file": "ptb/ptb.valid.txt.xz"},
                    "every": "1 epochs",
                },
                "test": {
                    "source": {**whole, "file": "ptb/ptb.test.txt.xz"},
                    "every": "100%",
                },
            },
            "duration": f"{num_epochs} epochs",
            "optimizer": {
                "name": "sgd",
                "learning_rate": float(num_steps),
                "clip_norm": CLIP_NORM[variant] / num_steps,
                "schedule": {
                    "name": "step",
                    "boundaries": [f"{epoch} epochs" for epoch in decays],
                    "factor": 1 / DECAY[variant],
                },
            },
            "steps_per_call": 20,
            "log_every": "200 steps",
            "log_norms": False,
            "checkpoints": {
                "every": "1 epochs",
                "best_metric": "validation/loss",
                "best_mode": "min",
            },
            "reference": {
                "paper": "Zaremba et al. 2014, table 1",
                "metric": "test/perplexity",
                "value": TEST_PERPLEXITY[variant],
                "tolerance": 0.5,
                "mode": "min",
            },
        }
    )
