"""The latest session against all that came before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpcbench.analysis.decide.compare import METRICS, side_of_results
from hpcbench.analysis.decide.sessions import Side
from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    SOFTWARE,
    VERSIONS,
    Array,
    Numbers,
    as_floats,
)
from hpcbench.analysis.summary.invalid_rows import without_invalid
from hpcbench.analysis.summary.limits import Metric
from hpcbench.analysis.summary.same_servers import ALSO, with_one_name_in_both
from hpcbench.analysis.summary.statistics import Sample, t_quantile
from hpcbench.analysis.summary.variance import moderated_spread
from hpcbench.errors import BadInput

HISTORY_COLUMNS = ("ended_at",)
"""The columns, beside those of a comparison, that order sessions in time."""

SAME_WORK = tuple(
    name
    for name in CONFIGURATION
    if name not in {*SOFTWARE, *VERSIONS, "gpu_driver", "model_digest"}
)
"""In what sessions must agree to be one history: not in what an update changes."""


@dataclass(frozen=True)
class History:
    """Sessions in the order of time.

    Attributes
    ----------
    earlier
        Measurements of all sessions but the last.
    latest
        Those of the last session.
    names
        The names of all sessions, the last one included.
    latest_path
        The results that the last session comes from.
    """

    earlier: pd.DataFrame
    latest: pd.DataFrame
    names: tuple[str, ...]
    latest_path: Path


def split_history(results: Sequence[tuple[Path, pd.DataFrame]]) -> History:
    """Return the latest session, and all that came before it.

    Parameters
    ----------
    results
        Results with the path that they come from; measurements with HISTORY_COLUMNS. Where they do
        not say their ``run_id``, each path is a session.

    Returns
    -------
    History
        Sessions are ordered by when their first measurement ended.

    Raises
    ------
    BadInput
        There is only one session.
    """
    frames = []
    paths: dict[str, Path] = {}
    for path, frame in results:
        known = frame["run_id"].astype(object) if "run_id" in frame else None
        named = [str(path)] * len(frame) if known is None else known.fillna(str(path))
        frames.append(frame.assign(run_id=pd.array(list(named), dtype="string")))
        paths |= dict.fromkeys(frames[-1]["run_id"].unique(), path)
    whole = pd.concat(frames, ignore_index=True)
    first = whole.groupby("run_id", sort=False)["ended_at"].min()
    # A session without a time is as old as its place among the paths says.
    order = first.sort_values(kind="stable", na_position="first").index
    if len(order) < 2:
        raise BadInput(
            f"there is only one session in {', '.join(str(path) for path, _ in results)}",
            "name the folders of earlier sessions, too",
        )
    is_latest = (whole["run_id"] == order[-1]).to_numpy(dtype=bool)
    return History(
        whole[~is_latest].reset_index(drop=True),
        whole[is_latest].reset_index(drop=True),
        tuple(str(name) for name in order),
        paths[str(order[-1])],
    )


def session_trends(history: History) -> dict[Metric, pd.DataFrame]:
    """Return what each session measured of each configuration, with the band of the earlier ones.

    Parameters
    ----------
    history
        The sessions.

    Returns
    -------
    dict of Metric to pandas.DataFrame
        By each of `compare.METRICS` a row per configuration and session: the columns of the
        configuration, and ALSO; ``configuration``, its number; ``session``, a position in
        ``history.names``; ``mean``; ``low`` and ``high``, between which the next session is
        expected with 95 %: the prediction interval of Student's t with the moderated spread of the
        earlier sessions; and ``beyond``, by how many half widths the last session is away from
        their mean. Only what the last session and an earlier one measured. Rows that are not valid
        are left out.
    """
    named = with_one_name_in_both(history.earlier, history.latest)
    whole = pd.concat(named, ignore_index=True)
    side = side_of_results(without_invalid(whole), SAME_WORK)
    place = {name: number for number, name in enumerate(history.names)}
    first = np.unique(side.sessions, return_index=True)[1]
    at = np.array([place[str(name)] for name in whole["run_id"].iloc[first]])
    return {metric: _trend(side, at, len(history.names) - 1, metric) for metric in METRICS}


def _trend(side: Side, at: Numbers, last: int, metric: Metric) -> pd.DataFrame:
    """Return the trend of one metric; ``at`` is the place in time of each number of a session."""
    means, _ = side.by_sessions(metric.column)
    # A session at two places is one session of each configuration.
    means["session"] = at[means["session"]]
    grouped = means[means["session"] < last].groupby("configuration")["mean"]
    count = len(side.table)
    n, mean, std = (_by_number(x, count) for x in (grouped.size(), grouped.mean(), grouped.std()))
    spread = moderated_spread(Sample(np.nan_to_num(n), mean, std))
    with np.errstate(divide="ignore", invalid="ignore"):
        half = t_quantile(spread.freedom, 0.975) * spread.std * np.sqrt(1 + 1 / n)
        latest = means[means["session"] == last].set_index("configuration")["mean"]
        beyond = np.abs(np.log(_by_number(latest, count) / mean)) / half
    of = means["configuration"].to_numpy()
    known = np.isfinite(beyond[of])
    bands = {"low": mean * np.exp(-half), "high": mean * np.exp(half), "beyond": beyond}
    found = means.assign(**{name: values[of] for name, values in bands.items()})[known]
    words = side.table[[*CONFIGURATION, ALSO]].iloc[found["configuration"]].reset_index(drop=True)
    trend: pd.DataFrame = pd.concat([found.reset_index(drop=True), words], axis=1)
    return trend


def _by_number(values: pd.Series, count: int) -> Array:
    return as_floats(values.reindex(range(count)))
