"""What results say they were measured on."""

import os

import pytest

from launch.reproduction.machine import cores, processor, this_machine
from research.errors import UserError


def test_this_machine(monkeypatch):
    machine = this_machine()
    assert (machine.platform, machine.device_kind) == ("cpu", "cpu"), "as tests/conftest.py sets"
    assert machine.device_count >= 1
    assert machine.processor == processor() != ""
    assert 1 <= machine.cores == cores() <= os.cpu_count()

    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    with pytest.raises(UserError, match=r"JAX finds no device: .*abacus"):
        this_machine()
