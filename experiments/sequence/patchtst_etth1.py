"""draft"""

from ml_collections import ConfigDict

VARIANTS = ("96", "192", "336", "720")
INPUT_LENGTH = 336
# Twelve months of 30 days, then four and four.
VALIDATION, TEST, END = 8640, 11_520, 14_400
PUBLISHED = {"96": 0.375, "192": 0.414, "336": 0.431, "720": 0.449}


def get_config(variant: str = "96") -> ConfigDict:
    """The experiment; `variant` is the horizon."""
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {', '.join(VARIANTS)}, not {variant!r}")
    series = {
        "name": "data.sources.TimeSeries",
        "file": "ett/ETTh1.csv",
        "input_length": INPUT_LENGTH,
        "horizon": int(variant),
        "normalize_by": (0, VALIDATION),
    }
    return ConfigDict(
        {
            "objective": {
                "name": "sequence.Forecasting",
                "model": {
                    "name": "sequence.PatchTST",
                    "horizon": int(variant),
                    "num_heads": 4,
                    "embed_dim": 16,
                    "mlp_dim": 128,
                    "dropout_rate": 0.3,
                },
            },
            "data": {"source": {**series, "stop": VALIDATION}, "batch_size": 32},
            "evaluations": {
                "test": {
                    "source": {**series, "start": TEST, "stop": END},
                    "batch_size": 500,
                    "every": "100%",
                },
                "validation": {
                    "source": {**series, "start": VALIDATION, "stop": TEST},
                    "batch_size": 500,
                },
            },
            "duration": "3 epochs",
            "optimizer": {
                "name": "adam",
                "learning_rate": 1e-3,
                "schedule": {"name": "cosine", "warmup": "5%"},
            },
            "steps_per_call": 8,
            "log_every": "32 steps",
            "checkpoints": {"best_metric": "validation/mse", "best_mode": "min"},
            "reference": {
                "paper": f"Nie et al. 2023, table 3, PatchTST/42: {PUBLISHED[variant]}",
                "metric": "test/mse",
                "value": 0.38 if variant == "96" else PUBLISHED[variant],
                "mode": "min",
            },
        }
    )
