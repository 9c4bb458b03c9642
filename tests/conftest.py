"""Every test session has caches of its own, empty at the start and shared by its processes."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time goes into compiling programs that run for a moment.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "PYTEST_XDIST_WORKER" not in os.environ:
    cache = tempfile.mkdtemp(prefix="research_tests_")
    os.environ["RESEARCH_CACHE_DIR"] = cache
    atexit.register(shutil.rmtree, cache, ignore_errors=True)


LONG = (
    *("test_distributed", "test_parallel", "test_experiments", "test_resume", "test_train"),
    *("test_slurm", "test_sweep_workers", "test_local", "test_sweep", "test_reproduce"),
    *("test_published_models", "test_pretrained"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests begin first: one that begins last has the other processes wait."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """Spares the garbage collector what is imported by now and stays: the most of all objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_data_dir() -> Iterator[None]:
    """A test's --data_dir is not the next test's."""
    name = "RESEARCH_DATA_DIR"
    before = os.environ.get(name)
    yield
    os.environ.pop(name, None)
    if before is not None:
        os.environ[name] = before


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this session."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """The programs that XLA was asked to compile while the test ran."""
    import jax

    seen: list[str] = []

    def listen(event: str, duration: float, **details: Any) -> None:
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def quickly_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of shapes alone: as one operation a convolution is traced ten times as fast."""
    from research.nn import convolution, pooling

    for module in (convolution, pooling):
        monkeypatch.setattr(module, "is_fast", lambda implementation: False)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out pictures where they are not what is tested."""
    from tests.processes import leave_out_pictures

    leave_out_pictures(monkeypatch)


@pytest.fixture
def evaluate_in_parts() -> Callable:
    """Metrics of a batch of 6 as a whole, and merged from two batches of 4, the rest padding."""
    # Imported late: what is set above must be set before JAX is.
    import jax
    import jax.numpy as jnp

    from research.engine import metrics

    def evaluate(objective, params, collections, batch):
        compiled = jax.jit(objective.evaluate)
        rng = jax.random.key(3)
        padded = {name: jnp.concatenate([x, x[:2]]) for name, x in batch.items()}
        padded["mask"] = padded["mask"].at[6:].set(0)
        parts = [
            compiled(params, collections, {name: x[i : i + 4] for name, x in padded.items()}, rng)
            for i in (0, 4)
        ]
        return compiled(params, collections, batch, rng), metrics.merge(*parts)

    return evaluate
