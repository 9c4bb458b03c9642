"""Labels: what is asked of them."""

from typing import Any

import numpy as np

from research.errors import UserError


def check_classes(labels: Any, num_classes: int) -> None:
    """Raises UserError, with the first such example, where a label, or one of a map of labels, is
    none of so many classes."""
    if not len(labels):
        return
    low, high = np.min(labels), np.max(labels)
    if low >= 0 and high < num_classes:
        return
    wrong = ~((labels >= 0) & (labels < num_classes)).reshape(len(labels), -1)
    raise UserError(
        f"the labels go from {low} to {high}, but the model has "
        f"objective.model.num_classes = {num_classes}; the first that is no class is that of "
        f"example {np.argmax(wrong.any(1))}"
    )
