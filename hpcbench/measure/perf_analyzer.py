"""The command line of perf_analyzer, the flags that it knows, and how long a run may take."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpcbench.config.load_axes import REST_WINDOWS, LoadVariant
from hpcbench.measure.perf_output import CSV_NAME, Outcome
from hpcbench.plan.point import Point

_START_ALLOWANCE_S = 60.0
_WINDOW_ALLOWANCE = 2.0
# The time that a window of so many requests takes can only be guessed beforehand.
_COUNT_ALLOWANCE = 10.0
_ENDLESS_TRIALS = 1000
_ANY_STABILITY_PERCENT = 999
"""Stability percentage with which any three windows count as stable, so the run ends."""


def arguments(
    point: Point,
    *,
    url: str,
    metrics_url: str | None,
    settle: bool = True,
    endless: bool = False,
) -> list[str]:
    """Return the arguments with which perf_analyzer measures a point.

    Parameters
    ----------
    point
        What to measure.
    url
        Host and port of Triton, for the protocol of the load.
    metrics_url
        Where Triton shows the metrics of its GPUs; None to leave them out.
    settle
        Whether to measure until three windows agree. Otherwise it measures three windows and ends:
        perf_analyzer reports nothing of a point that did not settle, and this gives its percentiles
        and the server's times.
    endless
        Whether to repeat three windows and a report until it is ended, whatever ``settle`` says.

    Returns
    -------
    list of str
        Without the name of the program.
    """
    load = point.load
    stability = load.stability_percentage if settle and not endless else _ANY_STABILITY_PERCENT
    trials = _ENDLESS_TRIALS if endless else load.max_trials if settle else REST_WINDOWS
    words = [
        *("-m", point.variant.model.name),
        *("-u", url),
        *("-i", load.protocol),
        "--async" if load.asynchronous else "--sync",
        # perf_analyzer cannot batch a model without a batch dimension; its shapes hold the batch.
        *("-b", str(1 if point.batch_in_shapes else load.batch_size)),
        *_driven(load, endless),
        *_window(load),
        *("--stability-percentage", f"{stability:g}"),
        *("--max-trials", str(trials)),
        *("--input-data", load.input_data),
    ]
    if point.variant.version is not None:
        words += ["-x", str(point.variant.version)]
    if load.percentile is not None:
        words += [f"--percentile={load.percentile}"]
    words += _sent(load)
    for name, dims in point.lengths:
        words += ["--shape", f"{name}:{','.join(map(str, dims))}"]
    if metrics_url is not None:
        words += ["--collect-metrics", "--metrics-url", metrics_url, "--metrics-interval", "500"]
    # -v prints the windows, and --verbose-csv writes the client's and the server's times.
    return [*words, "-v", "--verbose-csv", "-f", CSV_NAME]


def _driven(load: LoadVariant, endless: bool) -> list[str]:
    # With a step of 0 perf_analyzer never reaches the end of the range: it repeats the load.
    step = ":0" if endless else ""
    if load.request_rate is None:
        return ["--concurrency-range", f"{load.concurrency}:{load.concurrency}{step}"]
    rate = f"{load.request_rate:g}"
    return [
        *("--request-rate-range", f"{rate}:{rate}{step}"),
        *("--request-distribution", str(load.request_distribution)),
    ]


def _window(load: LoadVariant) -> list[str]:
    if load.measurement_mode == "time_windows":
        return ["--measurement-interval", str(load.measurement_interval_ms)]
    return [
        *("--measurement-mode", load.measurement_mode),
        *("--measurement-request-count", str(load.measurement_request_count)),
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
        ("--max-threads", load.max_threads),
        ("--string-length", load.string_length),
    ):
        if value is not None:
            words += [flag, str(value)]
    return words if load.string_data is None else [*words, f"--string-data={load.string_data}"]


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


def timeout_s(load: LoadVariant, *, settle: bool = True) -> float:
    """Return the time after which a run of perf_analyzer is hung rather than slow.

    Parameters
    ----------
    load
        The load, which may set this time itself.
    settle
        Whether the run may take all its windows to settle, as in `arguments`.

    Returns
    -------
    float
        Seconds.
    """
    if load.timeout_s is not None:
        return load.timeout_s
    windows = load.max_trials if settle else REST_WINDOWS
    allowance = _WINDOW_ALLOWANCE if load.measurement_mode == "time_windows" else _COUNT_ALLOWANCE
    return _START_ALLOWANCE_S + allowance * windows * load.window_s


def limit_s(loads: Sequence[LoadVariant]) -> float:
    """Return the time after which a concurrent measurement must be hung.

    Parameters
    ----------
    loads
        The loads that are measured at the same time.

    Returns
    -------
    float
        Seconds: the time until the slowest has printed windows, and a whole measurement of it.
    """
    first_s = max(2 * REST_WINDOWS * load.window_s for load in loads)
    return first_s + max(timeout_s(load) for load in loads)


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


_OPTIONAL = {"--collect-metrics": 1, "--metrics-url": 2, "--metrics-interval": 2}
"""Flags that an older perf_analyzer may lack, with the words that go when they do."""


def drop_unknown_flags(words: list[str], known: frozenset[str]) -> tuple[list[str], list[str]]:
    """Leave out what an older perf_analyzer does not know and can do without.

    Parameters
    ----------
    words
        The arguments.
    known
        The flags that it knows, with their dashes.

    Returns
    -------
    tuple of list of str
        The arguments that are left, and the flags among them that it needs but does not know.
    """
    kept: list[str] = []
    lacking: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        flag = word.split("=")[0]
        width = _OPTIONAL.get(flag, 1)
        is_flag = re.fullmatch(r"--?[a-z][a-z0-9-]*", flag) is not None
        if is_flag and flag not in known:
            if flag in _OPTIONAL:
                position += width
                continue
            lacking.append(flag)
        kept.append(word)
        position += 1
    return kept, lacking
