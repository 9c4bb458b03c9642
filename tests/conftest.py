"""Every test session has caches of its own, empty at the start and shared by its processes."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time goes into compiling programs that run for a moment.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "PYTEST_XDIST_WORKER" not in os.environ:
    cache = tempfile.mkdtemp(prefix="research_tests_")
    os.environ["RESEARCH_CACHE_DIR"] = cache
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
