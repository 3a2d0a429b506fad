"""Results of campaigns whose truth is known, written to a folder and read as commands read them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd

from hpcbench import load_results, save_results
from hpcbench.analysis.decide.compare import COMPARE_COLUMNS
from tests.helpers.measurements import loaded, measured


@dataclass(frozen=True)
class Night:
    """How a campaign was measured: so many configurations and repeats, in so many sessions.

    ``cv`` is the spread between repeats, of each metric by itself; ``night_sd`` what all
    configurations share in a session; ``slow`` the true factor of the throughput of the first
    ``share`` of configurations (of one, where that is 0), and ``gradient`` that of the last, with
    all between on a line; ``outliers`` the share of repeats that take twice as long; ``rho`` how
    much each repeat resembles the one before; ``failing`` the share of measurements that fail, and
    ``dead`` whether all of the first configuration do.
    """

    configurations: int = 100
    repeats: int = 3
    sessions: int = 1
    cv: float = 0.02
    p99_cv: float = 0.04
    night_sd: float = 0.0
    slow: float = 1.0
    share: float = 0.0
    gradient: float = 1.0
    outliers: float = 0.0
    rho: float = 0.0
    failing: float = 0.0
    dead: bool = False
    name: str = field(default="a")


@cache
def _template(configurations: int, repeats: int, sessions: int, name: str) -> pd.DataFrame:
    """Rows with all columns that are known, each configuration's repeats side by side."""
    one = loaded([measured(1.0, 1.0, latency_avg_us=None, node=f"node-{name}")])
    # Not pd.concat of so many, which takes longer than all that is simulated with them.
    first = np.zeros(configurations * sessions * repeats, dtype=int)
    frame = one.dropna(axis="columns", how="all").take(first).reset_index(drop=True)
    number = np.repeat(np.arange(configurations), sessions * repeats)
    session = np.tile(np.repeat(np.arange(sessions), repeats), configurations)
    return frame.assign(
        concurrency=pd.array(1 + number, dtype="Int64"),
        point_id=pd.array([f"p{n}" for n in number], dtype="string"),
        repeat=pd.array(np.tile(np.arange(repeats), configurations * sessions), dtype="Int64"),
        run_id=pd.array([f"{name}{s}" for s in session], dtype="string"),
    )


def results(night: Night, chance: np.random.Generator) -> pd.DataFrame:
    """A frame of the results of one campaign."""
    shape = (night.configurations, night.sessions, night.repeats)
    frame = _template(night.configurations, night.repeats, night.sessions, night.name)
    level = np.geomspace(100, 20_000, night.configurations)[:, None, None]
    # A night slows all metrics of all configurations alike.
    slower = np.exp(night.night_sd * chance.normal(size=(1, night.sessions, 1)))
    slower = np.broadcast_to(slower, shape).copy()
    slower[: max(1, round(night.share * night.configurations))] /= night.slow
    slower /= np.linspace(1, night.gradient, night.configurations)[:, None, None]
    slower *= np.where(chance.random(shape) < night.outliers, 2, 1)

    def noise(cv: float) -> np.ndarray:
        values = chance.normal(size=shape)
        for repeat in range(1, night.repeats if night.rho else 0):
            fresh = np.sqrt(1 - night.rho**2) * values[..., repeat]
            values[..., repeat] = night.rho * values[..., repeat - 1] + fresh
        return np.exp(cv * values)

    # By Little's law: configuration n has n clients with a request of 8 inferences each.
    request_us = 8e6 * np.arange(1, night.configurations + 1)[:, None, None] / level
    p50_us = request_us * slower * noise(night.cv)
    p99_us = 1.5 * request_us * slower * noise(night.p99_cv)
    frame = frame.assign(
        throughput_infer_per_s=(level / slower * noise(night.cv)).ravel(),
        latency_p50_us=np.round(p50_us.ravel()),
        latency_p99_us=np.round(p99_us.ravel()),
    )
    failed = chance.random(shape) < night.failing if night.failing else np.zeros(shape, dtype=bool)
    failed[0] |= night.dead
    return as_read(_failed(frame, failed.ravel()) if failed.any() else frame, COMPARE_COLUMNS)


def _failed(frame: pd.DataFrame, which: np.ndarray) -> pd.DataFrame:
    """The measurements, of which some failed."""
    metrics = ("throughput_infer_per_s", "latency_p50_us", "latency_p99_us", "request_count")
    changed = {name: frame[name].mask(which) for name in metrics}
    status = frame["status"].astype(object).mask(which, "failed").astype("string")
    reason = pd.Series(np.where(which, "the server died", None), frame.index, dtype="string")
    return frame.assign(**changed, status=status, reason=reason)


def as_read(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """What a command reads of measurements that somebody saved."""
    with tempfile.TemporaryDirectory() as folder:
        save_results(frame, folder)
        return load_results(folder, columns, categories=True)
