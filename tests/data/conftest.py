"""Fixtures of the data tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are shared: an example may take any time.
settings.register_profile("research", deadline=None)
settings.load_profile("research")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of decoded data for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RESEARCH_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = os.environ.get("RESEARCH_DATA_DIR")
    if not folder:
        pytest.skip("RESEARCH_DATA_DIR is not set: no real data sets here")
    return Path(folder)
