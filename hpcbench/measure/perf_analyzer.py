"""The command line of perf_analyzer, the flags that it knows, and how long a run may take."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpcbench.config.load_axes import LoadVariant
from hpcbench.measure.perf_output import CSV_NAME, Outcome
from hpcbench.measure.stop_rule import Observation
from hpcbench.plan.point import Point

_START_ALLOWANCE_S = 60.0
# Windows may have to be three times as long as they were asked for.
_WINDOW_ALLOWANCE = 4.0
# The time that a window of so many requests takes can only be guessed beforehand.
_COUNT_ALLOWANCE = 10.0
_ENDLESS_TRIALS = 1000
_ANY_STABILITY_PERCENT = 999
"""Stability percentage with which any three passes give a report."""

_PASSES = 3
_SHORTEST_S = 0.1
_SHORTEST_OPEN_S = 1.0
"""Seconds of the first reports where a precision is asked for, in closed and in open loops."""

_REQUESTS = 200
"""How many requests such a report shall have."""

_OPEN_LOOP_THREADS = 4
"""perf_analyzer's own default where it is given a rate."""

INTERVALS_NAME = "intervals.txt"
"""The file with intervals, in the folder where perf_analyzer runs."""

_STRETCH = 1.2
"""perf_analyzer sleeps by this factor longer than the interval that it was asked for."""


@dataclass(frozen=True)
class PassPlan:
    """How long perf_analyzer's passes are, and how many of its reports make a window.

    Attributes
    ----------
    interval_ms
        Its ``--measurement-interval``.
    requests
        Its ``--measurement-request-count``; None with windows of time.
    reports_per_window
        A report has three passes.
    """

    interval_ms: int
    requests: int | None
    reports_per_window: int

    @property
    def pass_s(self) -> float:
        """Seconds that a pass takes; with counts, the seconds that are expected."""
        return self.interval_ms / 1000 * _STRETCH


def first_plan(load: LoadVariant) -> PassPlan:
    """Return the passes to begin with.

    Parameters
    ----------
    load
        The load with the window that was asked for.

    Returns
    -------
    PassPlan
        Nine passes, so three reports, fill a window of a closed loop: windows that slide by a third
        of their length show earlier that three in a row agree. At each report an open loop begins
        its schedule anew, so there a report is a whole window. Where a precision is asked for,
        reports are short at first, because many are needed. A step of a search is one report, of
        three windows with arrivals of their own.
    """
    if load.arrivals_seed is not None:
        return _plan(load, load.window_s, 1)
    if load.stop_precision is not None:
        shortest_s = _SHORTEST_S if load.request_rate is None else _SHORTEST_OPEN_S
        return _plan(load, min(load.window_s, shortest_s) / _PASSES, 1)
    counted = load.measurement_mode == "count_windows"
    if counted or load.request_rate is not None:
        return _plan(load, load.window_s / _PASSES, 1)
    return _plan(load, load.window_s / _PASSES / 3, 3)


def better_plan(
    load: LoadVariant, plan: PassPlan, *, gaps: bool, first: Observation | None
) -> PassPlan | None:
    """Return the passes to measure with instead, where these are too short.

    Parameters
    ----------
    load
        The load with the window that was asked for.
    plan
        The passes so far.
    gaps
        Whether a pass had no answer, after others had some.
    first
        The first report; None before it.

    Returns
    -------
    PassPlan or None
        Longer ones, but no pass longer than a window that was asked for; None where these passes
        will do, or longer ones are not allowed.
    """
    if load.measurement_mode == "count_windows" or load.arrivals_seed is not None:
        return None
    if gaps and plan.pass_s < 0.9 * load.window_s:
        return _plan(load, min(load.window_s, 3 * plan.pass_s), 1)
    if load.stop_precision is None or first is None or not first.requests:
        return None
    # As many requests as give a report percentiles, none of them longer than a pass, if all that
    # fits into the window asked for.
    enough_s = max(plan.pass_s * _REQUESTS / first.requests, first.latency / 1e6)
    wanted_s = min(load.window_s / _PASSES, enough_s)
    return _plan(load, wanted_s, 1) if wanted_s > 1.5 * plan.pass_s else None


def _plan(load: LoadVariant, pass_s: float, reports_per_window: int) -> PassPlan:
    if load.request_intervals_s is not None:
        # A report plays the file as a whole.
        plays = math.ceil(_PASSES * pass_s / load.request_intervals_s - 1e-9)
        pass_s = plays * load.request_intervals_s / _PASSES
    interval_ms = max(1, round(1000 * pass_s / _STRETCH))
    count = load.measurement_request_count
    requests = None if count is None else math.ceil(count / _PASSES)
    return PassPlan(interval_ms, requests, reports_per_window)


def arguments(point: Point, *, url: str, plan: PassPlan) -> list[str]:
    """Return the arguments with which perf_analyzer measures a point until it is ended.

    Parameters
    ----------
    point
        What to measure.
    url
        Host and port of Triton, for the protocol of the load.
    plan
        The length of its passes.

    Returns
    -------
    list of str
        Without the name of the program.
    """
    load = point.load
    words = [
        *("-m", point.variant.model.name),
        *("-u", url),
        *("-i", load.protocol),
        "--async" if load.asynchronous else "--sync",
        # perf_analyzer cannot batch a model without a batch dimension; its shapes hold the batch.
        *("-b", str(1 if point.batch_in_shapes else load.batch_size)),
        *_driven(load),
        *_passes(load, plan),
        *("--stability-percentage", str(_ANY_STABILITY_PERCENT)),
        *("--max-trials", str(_ENDLESS_TRIALS)),
        *("--input-data", load.input_data),
    ]
    if point.variant.version is not None:
        words += ["-x", str(point.variant.version)]
    if load.percentile is not None:
        words += [f"--percentile={load.percentile}"]
    words += _sent(load)
    for name, dims in point.lengths:
        words += ["--shape", f"{name}:{','.join(map(str, dims))}"]
    # -v prints the passes, and --verbose-csv the client's and the server's times in reports, too.
    return [*words, "-v", "--verbose-csv", "-f", CSV_NAME]


def _driven(load: LoadVariant) -> list[str]:
    if load.replays:
        return ["--request-intervals", INTERVALS_NAME]
    # With a step of 0 perf_analyzer never reaches the end of the range: it repeats the load.
    if load.request_rate is None:
        return ["--concurrency-range", f"{load.concurrency}:{load.concurrency}:0"]
    rate = f"{load.request_rate:g}"
    return [
        *("--request-rate-range", f"{rate}:{rate}:0"),
        *("--request-distribution", str(load.request_distribution)),
    ]


def _passes(load: LoadVariant, plan: PassPlan) -> list[str]:
    if load.measurement_mode == "time_windows":
        return ["--measurement-interval", str(plan.interval_ms)]
    return [
        *("--measurement-mode", load.measurement_mode),
        *("--measurement-request-count", str(plan.requests)),
    ]


def _sent(load: LoadVariant) -> list[str]:
    """Return how requests are sent and filled, where that differs from perf_analyzer's defaults."""
    words = ["--streaming"] if load.streaming else []
    if load.compression != "none":
        words += ["--grpc-compression-algorithm", load.compression]
    if load.shared_memory != "none":
        words += ["--shared-memory", load.shared_memory]
    for flag, value in (
        ("--output-shared-memory-size", load.output_shared_memory_bytes),
        ("--max-threads", _threads(load)),
        ("--string-length", load.string_length),
    ):
        if value is not None:
            words += [flag, str(value)]
    return words if load.string_data is None else [*words, f"--string-data={load.string_data}"]


def _threads(load: LoadVariant) -> int | None:
    # Without a rate on its command line perf_analyzer would take 16: more of them, and not the
    # arrivals, would tell such a load from the other open loops.
    default = _OPEN_LOOP_THREADS if load.replays else None
    return default if load.max_threads is None else load.max_threads


def inferences_per_request(point: Point) -> int:
    """Return how many inferences perf_analyzer counts as one.

    Parameters
    ----------
    point
        A point. Where its batch is part of its shapes, perf_analyzer does not know of it.

    Returns
    -------
    int
        The batch size for such a point, else 1.
    """
    return point.load.batch_size if point.batch_in_shapes else 1


def in_inferences(outcome: Outcome, of_request: int) -> Outcome:
    """Convert an outcome whose throughputs perf_analyzer counted in requests.

    Parameters
    ----------
    outcome
        What perf_analyzer measured.
    of_request
        Inferences per request, as `inferences_per_request` returns them.

    Returns
    -------
    Outcome
        With throughputs in inferences per second; everything else is the same.
    """
    parts = (replace(p, metrics=_times(p.metrics, of_request)) for p in outcome.composing)
    metrics = _times(outcome.metrics, of_request)
    return replace(outcome, metrics=metrics, composing=tuple(parts))


def _times(metrics: Mapping[str, Any], inferences: int) -> dict[str, Any]:
    found = dict(metrics)
    if "throughput_infer_per_s" in found:
        found["throughput_infer_per_s"] *= inferences
    of_windows = found.get("windows_throughput_infer_per_s")
    if of_windows is not None:
        found["windows_throughput_infer_per_s"] = tuple(inferences * each for each in of_windows)
    return found


def timeout_s(load: LoadVariant) -> float:
    """Return the time after which a run of perf_analyzer is hung rather than slow.

    Parameters
    ----------
    load
        The load, which may set this time itself.

    Returns
    -------
    float
        Seconds.
    """
    if load.timeout_s is not None:
        return load.timeout_s
    allowance = _WINDOW_ALLOWANCE if load.measurement_mode == "time_windows" else _COUNT_ALLOWANCE
    return _START_ALLOWANCE_S + allowance * load.allowed_s


def limit_s(loads: Sequence[LoadVariant]) -> float:
    """Return the time after which a measurement must be hung.

    Parameters
    ----------
    loads
        The loads that are measured at the same time; one that is measured alone.

    Returns
    -------
    float
        Seconds: the time until the slowest has printed windows, and a whole measurement of it.
    """
    others_s = 2 * max(load.estimate_s for load in loads) if len(loads) > 1 else 0.0
    return others_s + max(timeout_s(load) for load in loads)


def known_flags(usage: str) -> frozenset[str]:
    """Return the flags that an installed perf_analyzer knows.

    Parameters
    ----------
    usage
        Its usage text.

    Returns
    -------
    frozenset of str
        With their dashes.
    """
    return frozenset(re.findall(r"(?<![\w-])(--?[a-z][a-z0-9-]*)", usage))


_FLAG = re.compile(r"--?[a-z][a-z0-9-]*")


def unknown_flags(words: Sequence[str], known: frozenset[str]) -> list[str]:
    """Return the flags that a perf_analyzer is to be given and does not know.

    Parameters
    ----------
    words
        The arguments.
    known
        The flags that it knows, with their dashes.

    Returns
    -------
    list of str
        With their dashes; empty where it knows all.
    """
    flags = (word.split("=")[0] for word in words)
    return [each for each in flags if _FLAG.fullmatch(each) and each not in known]
