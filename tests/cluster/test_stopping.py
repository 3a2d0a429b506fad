"""How a run is stopped: politely at first, at once the second time, and always with an answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcbench.cluster import driver
from hpcbench.cluster.events import Event, Stopping
from hpcbench.cluster.stopping import ENDING, WAITING, Stop, signals_interrupt
from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Site
from hpcbench.errors import Interrupted
from tests.helpers.builders import workplace

SCRIPT = """
import os, signal, sys
from hpcbench.errors import Interrupted
from hpcbench.cluster.stopping import signals_interrupt
try:
    with signals_interrupt():
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        print("went on")
except Interrupted as error:
    print(error.message)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_signal_ends_the_run_unless_it_was_to_be_ignored(name: str, ignored: bool) -> None:
    """As nohup has it for SIGHUP, and a shell's & in a script for SIGINT."""
    number = signal.Signals[name]

    def prepare() -> None:
        # These tests may run under nohup, too.
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    expected = "went on" if ignored else f"stopped by {name}; what was measured is kept"
    assert done.stdout.strip() == expected


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


class Said:
    """What the user reads."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, event: Event) -> None:
        assert isinstance(event, Stopping)
        self.texts.append(event.text)


def test_the_first_ctrl_c_waits_where_points_are_under_way_and_the_second_one_does_not() -> None:
    said = Said()

    def run() -> None:
        with signals_interrupt(said) as stop, stop.after_points(lambda: True):
            send(signal.SIGINT)
            assert stop.is_asked
            assert said.texts == [WAITING]
            send(signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        run()
    assert said.texts == [WAITING, ENDING]


def test_the_first_ctrl_c_ends_a_run_of_which_nothing_is_under_way() -> None:
    said = Said()
    with (
        pytest.raises(Interrupted),
        signals_interrupt(said) as stop,
        stop.after_points(lambda: False),
    ):
        send(signal.SIGINT)
    assert said.texts == [ENDING]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_batch_system_and_a_lost_terminal_wait_for_no_point(number: signal.Signals) -> None:
    with (
        pytest.raises(Interrupted, match=f"stopped by {number.name}"),
        signals_interrupt(Said()) as stop,
        stop.after_points(lambda: True),
    ):
        send(number)


def test_after_the_second_one_signals_change_nothing() -> None:
    said = Said()

    def run() -> None:
        try:
            send(signal.SIGINT)
        finally:
            send(signal.SIGINT)
            send(signal.SIGTERM)

    with pytest.raises(Interrupted, match="SIGINT"), signals_interrupt(said):
        run()
    assert said.texts == [ENDING]


def test_what_compiled_code_makes_of_the_interruption_is_an_interruption_all_the_same() -> None:
    """pyarrow takes an error in the handler for a wrong type of its argument."""

    def lost() -> None:
        try:
            send(signal.SIGINT)
        except Interrupted:
            raise TypeError("Got unexpected argument type <class 'str'>") from None

    with pytest.raises(Interrupted, match="stopped by SIGINT"), signals_interrupt(Said()):
        lost()


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(TypeError, match="mine"), signals_interrupt(Said()):
        raise TypeError("mine")


def test_a_script_without_a_listener_of_its_own_prints_what_ctrl_c_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def at_work(*given: Any) -> None:
        stop: Stop = given[-1]
        with stop.after_points(lambda: True):
            send(signal.SIGINT)
            assert capfd.readouterr().err == f"{WAITING}\n"
            send(signal.SIGINT)

    monkeypatch.setattr(driver, "dispatch", at_work)
    campaign, site = workplace(tmp_path)
    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        driver.run(Campaign.load(campaign), Site.load(str(site)), tmp_path / "results")
    assert capfd.readouterr() == ("", f"{ENDING}\n")
