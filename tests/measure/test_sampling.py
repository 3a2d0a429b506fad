"""Readings at regular times, and those that lie within an interval."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from hpcbench.measure.sampling import Sampler
from tests.helpers.waiting import wait_until


@dataclass
class Counter:
    """A source that says how often it was read; every third reading fails."""

    period_s: float = 0.01
    numbers: Any = field(default_factory=itertools.count)

    def read(self) -> int:
        number: int = next(self.numbers)
        if number % 3 == 2:
            raise OSError("the driver is busy")
        return number


def test_a_source_is_read_until_the_block_is_left() -> None:
    with Sampler(Counter()) as sampler:
        assert wait_until(lambda: len(sampler.within(0, time.monotonic())) >= 5)
    left = sampler.within(0, time.monotonic())
    time.sleep(0.1)
    assert sampler.within(0, time.monotonic()) == left
    assert [each.at for each in left] == sorted(each.at for each in left)


def test_a_reading_that_fails_is_left_out_and_the_next_is_taken() -> None:
    with Sampler(Counter()) as sampler:
        assert wait_until(lambda: len(sampler.within(0, time.monotonic())) >= 4)
    values = [each.value for each in sampler.within(0, time.monotonic())]
    assert values[:4] == [0, 1, 3, 4]


def test_only_what_was_read_in_an_interval_is_selected() -> None:
    with Sampler(Counter()) as sampler:
        assert wait_until(lambda: len(sampler.within(0, time.monotonic())) >= 6)
    read = sampler.within(0, time.monotonic())
    assert sampler.within(read[1].at, read[4].at) == read[1:5]
    assert sampler.within(0, read[0].at - 1) == ()


def test_a_source_that_hangs_does_not_hold_up_the_measurement() -> None:
    class Hanging:
        period_s = 0.01

        def read(self) -> None:
            time.sleep(30)

    began = time.monotonic()
    with Sampler(Hanging()):
        pass
    assert time.monotonic() - began < 10
