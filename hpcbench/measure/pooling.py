"""Several reports of perf_analyzer as one, and what its percentiles are worth.

perf_analyzer pools requests within a report only, and `--profile-export-file`, which would have
each request, stays empty in versions that are in use. So percentiles over reports are computed from
the percentiles of each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from hpcbench.measure.perf_output import ComposingModel

Metrics = Mapping[str, Any]

PERCENTILES = (50, 90, 95, 99)
"""Those that perf_analyzer prints."""

BOUND_CONFIDENCE = 0.95
"""A bound that holds with less is left out."""

_SUMS = {"request_count", "inference_count", "execution_count", "success_count"}
_RATES = {
    *("throughput_infer_per_s", "response_throughput_per_s", "send_request_rate"),
    "client_overhead_percent",
}
_ITS_OWN = {
    *("latency_std_us", "latency_percentile_us"),
    *(f"latency_p{percent}_us" for percent in PERCENTILES),
}


def pooled(reports: Sequence[Metrics], percentile: int | None) -> dict[str, Any]:
    """Return the metrics of all requests of several reports.

    Parameters
    ----------
    reports
        The metrics of each report by the names of their columns; at least one.
    percentile
        The percentile that perf_analyzer was asked for, in percent; None for the mean latency.

    Returns
    -------
    dict of str to Any
        Counts are sums, rates are weighted by time, the server's times by the requests that it
        answered, and others by the client's requests. A metric that a report lacks is that of the
        others.
    """
    names = dict.fromkeys(name for report in reports for name in report)
    found = {name: _pooled(name, reports) for name in names if name not in _ITS_OWN}
    if std := _std(reports):
        found["latency_std_us"] = std
    asked = {} if percentile is None else {percentile: "latency_percentile_us"}
    columns = {percent: f"latency_p{percent}_us" for percent in PERCENTILES}
    for percent, column in (*columns.items(), *asked.items()):
        points = [_points(report, percentile) for report in reports]
        if all(percent in each for each in points):
            counts = [report["request_count"] for report in reports]
            found[column] = pooled_percentile(percent, points, counts)
    return found


def _pooled(name: str, reports: Sequence[Metrics]) -> Any:
    having = [report for report in reports if name in report]
    values = [report[name] for report in having]
    if name in _SUMS:
        return sum(values)
    weigh: Callable[[Metrics], float] = _requests
    if name in _RATES:
        weigh = _time
    elif name.startswith("server_"):
        weigh = _answered
    weights = [weigh(report) for report in having]
    total = sum(weights)
    if not total:
        return values[-1]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / total


def _requests(report: Metrics) -> float:
    return float(report.get("request_count", 0))


def _answered(report: Metrics) -> float:
    return float(report.get("success_count", _requests(report)))


def _time(report: Metrics) -> float:
    """The time of a report, in units that are the same for all reports of a run."""
    rate = report.get("throughput_infer_per_s", 0)
    return _requests(report) / rate if rate else 0.0


def _std(reports: Sequence[Metrics]) -> float | None:
    """The standard deviation of the requests of all reports."""
    if not all({"latency_std_us", "latency_avg_us"} <= report.keys() for report in reports):
        return None
    counts = np.array([_requests(report) for report in reports])
    means = np.array([report["latency_avg_us"] for report in reports])
    variances = np.array([report["latency_std_us"] for report in reports]) ** 2
    if counts.sum() <= 1:
        return None
    within = ((counts - 1) * variances).sum()
    between = (counts * (means - np.average(means, weights=counts)) ** 2).sum()
    return float(np.sqrt((within + between) / (counts.sum() - 1)))


def _points(report: Metrics, percentile: int | None) -> dict[int, float]:
    """The percentiles of a report, by percent."""
    found = {
        percent: report[f"latency_p{percent}_us"]
        for percent in PERCENTILES
        if f"latency_p{percent}_us" in report
    }
    if percentile is not None and "latency_percentile_us" in report:
        found[percentile] = report["latency_percentile_us"]
    return found


def rank(percent: float, count: int) -> int:
    """Return which of the sorted latencies perf_analyzer prints as a percentile.

    Parameters
    ----------
    percent
        The percentile.
    count
        Number of latencies.

    Returns
    -------
    int
        From 1 to ``count``, as InferenceProfiler::SummarizeLatency of perf_analyzer computes it.
    """
    return int(percent / 100 * (count - 1) + 0.5) + 1


def pooled_percentile(
    percent: int, reports: Sequence[Mapping[int, float]], counts: Sequence[int]
) -> float:
    """Return a percentile of the requests of several reports together.

    Each report gives some points of its distribution: above the latency of rank r of n lies a share
    of requests whose logarithm is psi(n - r + 1) - psi(n + 1) in the mean (Renyi 1953, Acta Math.
    Hung. 4). Between the points, and beyond the last, this logarithm is taken as a straight line,
    as it is for an exponential tail. The percentile is where the mean of the shares, weighted by
    the requests, is what it must be.

    Parameters
    ----------
    percent
        The percentile.
    reports
        Latencies by percentile, of each report.
    counts
        Requests of each report.

    Returns
    -------
    float
        In the unit of the latencies; between the smallest and the largest of the reports'.
    """
    own = [each[percent] for each in reports]
    low, high = min(own), max(own)
    if high - low < 1e-9 * high:
        return float(high)
    total = sum(counts)
    wanted = math.exp(_log_share(rank(percent, total), total))
    tails = [_tail(each, count) for each, count in zip(reports, counts, strict=True)]
    # Printed percentiles are whole microseconds: forty halvings are far below that.
    for _ in range(40):
        middle = (low + high) / 2
        longer = sum(c * tail(middle) for tail, c in zip(tails, counts, strict=True)) / total
        low, high = (middle, high) if longer > wanted else (low, middle)
    return float((low + high) / 2)


def _tail(points: Mapping[int, float], count: int) -> Callable[[float], float]:
    """Return the share of a report's requests that takes longer than a latency."""
    # Where there are few requests, several percentiles are the same request.
    by_rank = {rank(percent, count): points[percent] for percent in sorted(points)}
    log_shares = np.array([_log_share(r, count) for r in by_rank])
    latencies = np.maximum.accumulate(np.array(list(by_rank.values()), dtype=float))
    latencies = latencies + 1e-6 * np.arange(len(latencies))  # a slope needs a distance

    def share(latency: float) -> float:
        if len(latencies) == 1:
            return float(latency < latencies[0])
        place = int(np.clip(np.searchsorted(latencies, latency), 1, len(latencies) - 1))
        x, y = latencies[place - 1 : place + 1], log_shares[place - 1 : place + 1]
        # Far below two latencies that are nearly the same, the line goes beyond what exp can hold.
        return float(np.exp(min(0.0, y[0] + (latency - x[0]) * (y[1] - y[0]) / (x[1] - x[0]))))

    return share


def _log_share(r: int, count: int) -> float:
    """Return the mean logarithm of the share that lies above the r-th of so many sorted values."""
    return float(special.digamma(count - r + 1) - special.digamma(count + 1))


def p99_columns(reports: Sequence[Metrics]) -> dict[str, float]:
    """Return the largest p99 of a report, and whether it bounds the true p99 from above.

    A sample's p99 of n independent requests is below the true one with probability 1 - q, where
    q = P(B <= r - 1), B binomial with n and 0.99, and r its rank. The largest of k is below with
    probability (1 - q)^k.

    Parameters
    ----------
    reports
        The metrics of each report.

    Returns
    -------
    dict of str to float
        ``latency_p99_max_us``; ``latency_p99_bound_us``, which is the same number, and
        ``latency_p99_bound_confidence`` only where the bound holds with 95 %.
    """
    known = [r for r in reports if "latency_p99_us" in r and r.get("request_count")]
    if not known:
        return {}
    largest = float(max(report["latency_p99_us"] for report in known))
    below = 1.0
    for report in known:
        n = report["request_count"]
        below *= 1 - float(special.bdtr(rank(99, n) - 1, n, 0.99))
    if 1 - below < BOUND_CONFIDENCE:
        return {"latency_p99_max_us": largest}
    return {
        "latency_p99_max_us": largest,
        "latency_p99_bound_us": largest,
        "latency_p99_bound_confidence": 1 - below,
    }


def pooled_composing(
    reports: Sequence[tuple[ComposingModel, ...]], throughput: float | None
) -> tuple[ComposingModel, ...]:
    """Return the metrics of the models that an ensemble called, over several reports.

    Parameters
    ----------
    reports
        What each report says of them.
    throughput
        The ensemble's, in inferences per second; each model is called once per inference.

    Returns
    -------
    tuple of ComposingModel
        In the order of the last report.
    """
    found = []
    for model in reports[-1] if reports else ():
        same = [
            part.metrics
            for report in reports
            for part in report
            if (part.model, part.version) == (model.model, model.version)
        ]
        metrics = pooled(same, None)
        if throughput is not None:
            metrics["throughput_infer_per_s"] = throughput
        found.append(ComposingModel(model.model, model.version, metrics))
    return tuple(found)
