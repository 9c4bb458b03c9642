"""The rules for transformers on a mesh: the same numbers, and nothing large on every device."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import sharded_transformers

from tests import processes

SPLIT_TWICE = r".*(attention/(qkv|query|key_value|out)|mlp/(up|gate|down)|head)/kernel|.*embedding"
BY_DEFAULT = r".*(position|type)_embedding/.*"


@pytest.mark.timeout(900)  # seconds when the machine is busy
def test_transformers_on_eight_devices_are_as_on_one(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    started = processes.start(sharded_transformers.report, tmp_path, num_devices=8)
    processes.finish(started, timeout=800)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["devices"] == 8
    for name in sharded_transformers.MODELS:
        with subtests.test("three steps end where one device ends", model=name):
            assert report[name]["difference"] < 1e-5
            one, eight = report[name]["losses"]
            assert abs(one[0] - one[-1]) > 1e-3, "nothing is learnt, so nothing is compared"
            np.testing.assert_allclose(eight, one, rtol=1e-5)
        for path, (size, parts) in report[name]["parts"].items():
            if size >= sharded_transformers.LARGE:
                with subtests.test("large parameters are split", model=name, path=path):
                    assert parts > 1
            if re.fullmatch(SPLIT_TWICE, path) and not re.fullmatch(BY_DEFAULT, path):
                with subtests.test("over tensor and fsdp", model=name, path=path):
                    assert parts == (1 if "_bias/" in path else 4)
