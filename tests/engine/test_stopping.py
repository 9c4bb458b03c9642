"""Requests to stop, as people and schedulers send them."""

import os
import signal

import pytest

from research.engine.stopping import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_is_noted(number, capfd):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.agreed()
        os.kill(os.getpid(), number)
        assert stop.agreed()
        assert "Stopping after this step" in capfd.readouterr().err
    assert signal.getsignal(number) is before


def test_schedulers_repeat_themselves_and_people_mean_it(capfd):
    with StopSignal() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.agreed()
        assert capfd.readouterr().err.count("Stopping after this step") == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
