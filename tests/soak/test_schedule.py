"""The schedule of a soak: the same for a seed, and of every kind."""

import itertools
from collections import Counter

from tests.soak.faults import FAULTS
from tests.soak.schedule import Burst, bursts

WEIGHTS = {name: kind.weight for name, kind in FAULTS.items()}
LONGEST_S = {name: kind.lasts_s for name, kind in FAULTS.items()}


def drawn(seed: int, count: int) -> list[Burst]:
    return list(itertools.islice(bursts(seed, WEIGHTS, LONGEST_S), count))


def test_a_seed_gives_the_same_faults_again_and_another_seed_others() -> None:
    assert drawn(1, 50) == drawn(1, 50)
    assert drawn(1, 50) != drawn(2, 50)


def test_a_thousand_faults_have_every_kind_also_two_and_three_at_once() -> None:
    its = drawn(1, 700)
    kinds = Counter(fault.kind for burst in its for fault in burst.faults)
    assert kinds.total() >= 900
    assert kinds.keys() == FAULTS.keys()
    assert {len(burst.faults) for burst in its} == {1, 2, 3}
    assert {burst.waits for burst in its} == {True, False}


def test_every_kind_comes_on_some_site_and_lasts_as_long_as_it_says() -> None:
    for burst in drawn(3, 300):
        for fault in burst.faults:
            kind = FAULTS[fault.kind]
            assert fault.lasts_s in kind.lasts_s
            assert kind.schedulers
            assert 0 <= fault.pick < 1
