"""What all configurations share from one session to the next, and what is left without it.

A night differs from the next: another temperature, neighbour, clock or file system. That moves all
configurations of a place (one pool of a site) together, so it can be estimated from all of them and
taken off, and its spread between sessions is the error of a shift that all share.

References
----------
.. [1] J. W. Tukey, "Exploratory Data Analysis" (1977), chapter 11: median polish.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpcbench.analysis.summary.configuration import Array, Numbers, as_floats, group_numbers
from hpcbench.analysis.summary.statistics import Sample, group_statistics

SESSION = ("site", "pool", "run_id")
"""Rows that agree in these are of one session at one place."""

_POLISHES = 5


@dataclass(frozen=True)
class PlaceSessions:
    """The sessions of each place that can be compared with each other.

    Attributes
    ----------
    counted
        For each place the numbers of these sessions.
    again
        For each place the share of its configurations that two or more of these measured.
    several
        Whether any place has more than one session, comparable or not.
    blocks
        Shape (m,), for each of the configurations that were asked for: 0 where one of these
        sessions measured it; else a number of sessions that can be compared with each other, and
        not with these.
    """

    counted: Sequence[Numbers]
    again: Sequence[float]
    several: bool
    blocks: Numbers


@dataclass(frozen=True)
class Side:
    """One of the two sets of results that are compared.

    Attributes
    ----------
    table
        Its c configurations, from `statistics.join_groups`.
    numbers
        Shape (n,), the configuration of each measurement.
    sessions
        Shape (n,), the number of its session, from 0.
    measured
        By metric, shape (n,), what was measured; NaN where nothing was.
    """

    table: pd.DataFrame
    numbers: Numbers
    sessions: Numbers
    measured: dict[str, Array]

    def comparable_sessions(
        self, configurations: Numbers, places: Numbers, metric: str, fewest: int
    ) -> "PlaceSessions":
        """Return the sessions of each place that measured enough of the same configurations.

        Parameters
        ----------
        configurations
            Shape (m,), positions in the table.
        places
            Shape (m,), the place of each, from 0.
        metric
            A column.
        fewest
            Configurations that two sessions share, so that they can be compared; of a place with
            few, two thirds of them.

        Returns
        -------
        PlaceSessions
            Those of the session with most configurations and of those that can be compared with it
            or with one that can, and so on.
        """
        place_of = np.full(len(self.table), -1)
        place_of[configurations] = places
        values = self.measured[metric]
        at = place_of[self.numbers]
        there = (at >= 0) & np.isfinite(values) & (values > 0)
        at, session, configuration = (x[there] for x in (at, self.sessions, self.numbers))
        sizes = np.bincount(places)
        count = int(session.max(initial=-1)) + 1
        rows = np.bincount(at * count + session, minlength=len(sizes) * count)
        measured = rows.reshape(len(sizes), count) > 0
        counted, again = [np.flatnonzero(its) for its in measured], [0.0] * len(sizes)
        block_of = np.zeros(len(self.table), dtype=np.int64)
        # Most results have one session at each place, and a million rows take long to look at.
        for place in np.flatnonzero(measured.sum(axis=1) > 1):
            its = at == place
            found = pd.DataFrame(
                {"session": session[its], "configuration": configuration[its]}
            ).drop_duplicates()
            enough = min(fewest, int(np.ceil(2 / 3 * sizes[place])))
            counted[place], repeated, blocks = _connected(found, enough)
            again[place] = repeated / sizes[place]
            block_of[blocks.index.to_numpy()] = blocks.to_numpy()
        several = bool((measured.sum(axis=1) > 1).any())
        return PlaceSessions(counted, again, several, block_of[configurations])

    def by_repeats(self, metric: str) -> Sample:
        """Return a metric with its repeats as independent values.

        Parameters
        ----------
        metric
            A column.

        Returns
        -------
        Sample
            An element per configuration.
        """
        return Sample.from_table(self.table, metric)

    def by_sessions(self, metric: str) -> tuple[pd.DataFrame, Array]:
        """Return the mean of a metric in each session, and what each session shares.

        Parameters
        ----------
        metric
            A column.

        Returns
        -------
        tuple
            A frame with ``configuration``, ``session`` and ``mean``, and for each session the
            logarithm by which it is above the mean of its place's sessions.
        """
        values = self.measured[metric]
        there = np.isfinite(values) & (values > 0)
        keys = pd.DataFrame({"configuration": self.numbers[there], "session": self.sessions[there]})
        cells = group_numbers(keys, ["configuration", "session"])
        count = int(cells.max()) + 1 if len(cells) else 0
        first = np.unique(cells, return_index=True)[1]
        means = keys.iloc[first].assign(
            mean=np.bincount(cells, values[there], minlength=count)
            / np.bincount(cells, minlength=count)
        )
        means = means.reset_index(drop=True)
        return means, _effects(means, int(self.sessions.max()) + 1 if len(self.sessions) else 0)


def _connected(rows: pd.DataFrame, fewest: int) -> tuple[Numbers, int, pd.Series]:
    """Return the sessions that share configurations, and how many of these two or more have.

    And the block of each configuration, as in `PlaceSessions`.
    """
    from scipy import sparse  # Only here: it takes long to import.

    numbers, session = np.unique(rows["session"], return_inverse=True)
    configuration = np.unique(rows["configuration"], return_inverse=True)[1]
    measured = sparse.csr_array((np.ones(len(rows), dtype=np.int64), (session, configuration)))
    shared = (measured @ measured.T).toarray()
    labels = sparse.csgraph.connected_components(shared >= fewest, directed=False)[1]
    ours = labels == labels[np.argmax(shared.diagonal())]
    blocks = pd.Series(np.where(ours, 0, labels + 1)[session])
    first = blocks.groupby(rows["configuration"].to_numpy()).min()
    return numbers[ours], int((measured[np.flatnonzero(ours)].sum(axis=0) >= 2).sum()), first


def session_numbers(frame: pd.DataFrame) -> Numbers:
    """Return the session of each measurement.

    Parameters
    ----------
    frame
        n measurements with ``site`` and ``pool``, and where it is known ``run_id``.

    Returns
    -------
    numpy.ndarray
        Shape (n,), numbers from 0.
    """
    return group_numbers(frame, [name for name in SESSION if name in frame])


def _effects(means: pd.DataFrame, count: int) -> Array:
    """Return what each session shares, by a median polish of the logarithms [1]_."""
    log = np.log(as_floats(means["mean"]))
    sessions = means["session"]
    effects = np.zeros(count)
    for _ in range(_POLISHES):
        own = pd.Series(log - effects[sessions]).groupby(means["configuration"].to_numpy())
        away = log - own.transform("mean").to_numpy()
        found = pd.Series(away).groupby(sessions.to_numpy()).median()
        effects[found.index.to_numpy()] = found.to_numpy()
    return effects


def session_samples(means: pd.DataFrame, configurations: int, effects: Array) -> Sample:
    """Return a metric with its means in sessions as independent values.

    Parameters
    ----------
    means
        From `Side.by_sessions`.
    configurations
        How many there are.
    effects
        Of each session, what is taken off its logarithms.

    Returns
    -------
    Sample
        An element per configuration.
    """
    values = as_floats(means["mean"]) / np.exp(effects[means["session"]])
    found = group_statistics(values, means["configuration"].to_numpy(), configurations)
    return Sample(found["_n"].astype(float), found[""], found["_std"])
