"""The values of which the metrics of two sides are made: repeats, or means of sessions.

Only sessions that measured enough of the same configurations say how far nights differ. With fewer,
a difference of nights is as little known as with one session.
"""

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.agreement import FEWEST_SHARED
from hpcbench.analysis.decide.sessions import Side, session_samples
from hpcbench.analysis.summary.configuration import Array, Numbers, group_numbers
from hpcbench.analysis.summary.statistics import Sample, group_statistics

MEASURED_AGAIN = 0.5
"""The share of a place's configurations that were measured in several sessions, from which on means
of sessions are the values: with fewer, a handful would say how far all others vary."""


def places_of_pairs(a: Side, b: Side, pairs: pd.DataFrame) -> tuple[Numbers, list[str]]:
    """Return the place of each pair, and the name of each place.

    Parameters
    ----------
    a, b
        Both sides.
    pairs
        Positions ``a`` and ``b`` of configurations.

    Returns
    -------
    tuple
        Shape (m,), numbers from 0; and for each number the site and pool.
    """
    where = pd.concat(
        [
            s.table[["site", "pool"]].iloc[pairs[x]].reset_index(drop=True).add_suffix(f"_{x}")
            for s, x in ((a, "a"), (b, "b"))
        ],
        axis=1,
    )
    numbers = group_numbers(where, [*where])
    first = where.iloc[np.unique(numbers, return_index=True)[1]].astype(str)
    texts = [first[f"site_{x}"] + "/" + first[f"pool_{x}"] for x in ("a", "b")]
    return numbers, [x if x == y else f"{x} -> {y}" for x, y in zip(*texts, strict=True)]


def paired_samples(
    a: Side, b: Side, pairs: pd.DataFrame, places: Numbers, metric: str
) -> tuple[tuple[Sample, Sample], tuple[list[Array], list[Array]], tuple[Numbers, Numbers]]:
    """Return the values of both sides, and by place the effects of each side's sessions.

    Parameters
    ----------
    a, b
        Both sides.
    pairs
        m positions ``a`` and ``b`` of configurations.
    places
        Shape (m,), from `places_of_pairs`.
    metric
        A column.

    Returns
    -------
    tuple
        For A and B a sample of m configurations; for A and B, for each place, what its comparable
        sessions share on logarithms, of mean 0; and for A and B the block of each configuration.

    Notes
    -----
    At a place where a side measured most configurations in several comparable sessions
    (`Side.comparable_sessions`), the means of sessions are the values; elsewhere each repeat is
    one. What configurations share in each session is taken off. Of a configuration that was
    measured in comparable sessions and in others, the others are left out.
    """
    sizes = np.bincount(places)
    known = [
        side.comparable_sessions(pairs[x].to_numpy(), places, metric, FEWEST_SHARED)
        for side, x in ((a, "a"), (b, "b"))
    ]
    shares = zip(*(its.again for its in known), strict=True)
    by_means = np.array([max(again) >= MEASURED_AGAIN for again in shares])
    samples, effects = [], []
    for side, x, its in zip((a, b), "ab", known, strict=True):
        positions = pairs[x].to_numpy()
        whole = side.by_repeats(metric)
        values = [v[positions] for v in (whole.n, whole.mean, whole.std)]
        by_place = [np.zeros(len(there)) for there in its.counted]
        if its.several or by_means.any():
            means, shared = side.by_sessions(metric)
            by_place = [
                shared[there] - (shared[there].mean() if len(there) else 0) for there in its.counted
            ]
            used = np.zeros(len(shared))
            for there, away, size in zip(its.counted, by_place, sizes, strict=True):
                used[there] = away if size >= FEWEST_SHARED else 0.0
            counted = np.concatenate(its.counted)
            by_session = session_samples(_comparable(means, counted), len(side.table), used)
            by_repeat = _repeats(side, metric, counted, used)
            values = [
                np.where(by_means[places], of_means[positions], of_repeats[positions])
                for of_means, of_repeats in (
                    (by_session.n, by_repeat.n),
                    (by_session.mean, by_repeat.mean),
                    (by_session.std, by_repeat.std),
                )
            ]
        samples.append(Sample(*values))
        effects.append(by_place)
    of_a, of_b = (its.blocks for its in known)
    return (samples[0], samples[1]), (effects[0], effects[1]), (of_a, of_b)


def most_comparable(
    a: Side, b: Side, pairs: pd.DataFrame, metric: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how many sessions of each side can be compared, at the place with most.

    Parameters
    ----------
    a, b
        Both sides.
    pairs
        Positions ``a`` and ``b`` of configurations.
    metric
        A column.

    Returns
    -------
    tuple
        For A and B, how many; 0 where nothing is paired. And for A and B, how many measurements of
        other sessions are left out.
    """
    if pairs.empty:
        return (0, 0), (0, 0)
    places, _ = places_of_pairs(a, b, pairs)
    counts, left_out = [], []
    for side, x in ((a, "a"), (b, "b")):
        positions = pairs[x].to_numpy()
        its = side.comparable_sessions(positions, places, metric, FEWEST_SHARED)
        counts.append(max(map(len, its.counted)))
        if not its.several:
            left_out.append(0)
            continue
        there = np.isfinite(side.measured[metric]) & np.isin(side.numbers, positions)
        rows = pd.DataFrame({"configuration": side.numbers[there], "session": side.sessions[there]})
        left_out.append(len(rows) - len(_comparable(rows, np.concatenate(its.counted))))
    return (counts[0], counts[1]), (left_out[0], left_out[1])


def _comparable(values: pd.DataFrame, sessions: Numbers) -> pd.DataFrame:
    """Return the rows of these sessions, and those of configurations that have no others."""
    counted = np.isin(values["session"], sessions)
    has = np.isin(values["configuration"], values["configuration"][counted])
    return values[counted | ~has]


def _repeats(side: Side, metric: str, sessions: Numbers, effects: Array) -> Sample:
    values = side.measured[metric]
    there = np.isfinite(values)
    rows = pd.DataFrame(
        {
            "configuration": side.numbers[there],
            "session": side.sessions[there],
            "value": values[there] / np.exp(effects[side.sessions[there]]),
        }
    )
    rows = _comparable(rows, sessions)
    found = group_statistics(
        rows["value"].to_numpy(), rows["configuration"].to_numpy(), len(side.table)
    )
    return Sample(found["_n"].astype(float), found[""], found["_std"])
