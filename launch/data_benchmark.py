"""How fast the host makes batches."""

import time
from pathlib import Path
from typing import Any


def measure_data(experiment: Any, data_dir: Path, steps: int, repeats: int) -> dict[str, Any]:
    """Rates of gathering batches from the training source, and of the same through the prefetching
    feed of training, without a device; after the first steps, which open files."""
    from contextlib import closing

    import numpy as np

    from research.data.order import Order
    from research.data.pipeline import Feed
    from research.engine.evaluation import open_dataset

    data = experiment.data
    dataset = open_dataset(data.source, data_dir, "data")
    order = Order(dataset.size, data.batch_size, experiment.seed, data.shuffle)
    batch = dataset.gather(dataset.arrays, order.indices(0))
    gathered, fed = [], []
    for repeat in range(repeats):
        places = [order.indices(repeat * steps + step) for step in range(steps)]
        started = time.perf_counter()
        for indices in places:
            dataset.gather(dataset.arrays, indices)
        gathered.append(steps / (time.perf_counter() - started))
        with closing(
            Feed(dataset, order, 0, steps + 1, prefetch=data.prefetch, workers=data.workers)
        ) as feed:
            next(feed)
            started = time.perf_counter()
            for _ in range(steps):
                next(feed)
            fed.append(steps / (time.perf_counter() - started))
    gather_rate, feed_rate = float(np.median(gathered)), float(np.median(fed))
    targets = tokens_a_step(batch)
    return {
        "examples": dataset.size,
        "gathered_batches_per_second": gather_rate,
        "fed_batches_per_second": feed_rate,
        "fed_examples_per_second": feed_rate * data.batch_size,
        "gathered_tokens_per_second": None if targets is None else gather_rate * targets,
        "fed_tokens_per_second": None if targets is None else feed_rate * targets,
        "fed_bytes_per_second": feed_rate * sum(x.nbytes for x in batch.values()),
    }


def tokens_a_step(batch: Any) -> int | None:
    """How many targets a batch of a language model has; None for other batches."""
    if "tokens" not in batch:
        return None
    rows, length = batch["tokens"].shape
    return rows * (length - 1)
