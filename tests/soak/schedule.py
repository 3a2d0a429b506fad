"""Which faults come when, drawn from a seed: the same ones again for whoever repeats a soak."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_AT_ONCE = (1, 1, 1, 1, 1, 1, 2, 2, 2, 3)
"""How many faults come at once."""

_PAUSE_S = 3.0
_AFTER_A_ROW = 0.7
"""So many bursts wait until the one before is overcome; the others come while it is not."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    kind
        Its name in `FAULTS`.
    pick
        Which of those that it can hit: from 0, the oldest, to 1.
    lasts_s
        How long it lasts, where it ends.
    """

    kind: str
    pick: float
    lasts_s: float


@dataclass(frozen=True)
class Burst:
    """Faults that come at once.

    Attributes
    ----------
    waits
        Whether a row must have been written since the burst before.
    pause_s
        Seconds to wait then.
    faults
        One, two or three.
    """

    waits: bool
    pause_s: float
    faults: tuple[Fault, ...]


def bursts(
    seed: int, weights: Mapping[str, float], longest_s: Mapping[str, Sequence[float]]
) -> Iterator[Burst]:
    """Draw bursts without end.

    Parameters
    ----------
    seed
        Of the random numbers.
    weights
        How often each kind comes, in proportion.
    longest_s
        For kinds that last, the seconds from which theirs are drawn.

    Yields
    ------
    Burst
        The same ones for the same arguments.
    """
    chance = random.Random(seed)
    names = sorted(weights)
    while True:
        kinds = chance.choices(names, [weights[name] for name in names], k=chance.choice(_AT_ONCE))
        faults = tuple(
            Fault(kind, chance.random(), chance.choice(longest_s.get(kind, (0.0,))))
            for kind in kinds
        )
        yield Burst(chance.random() < _AFTER_A_ROW, _PAUSE_S * chance.random(), faults)
