"""The shared small experiment as a config file, for runs of several processes."""

import small
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Six steps with everything that could depend on how a batch is split."""
    return ConfigDict(small.settings(**small.HARD, duration="6 steps", log_every="2 steps"))
