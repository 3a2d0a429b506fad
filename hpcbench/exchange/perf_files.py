"""What perf_analyzer left: its CSV, its printed report, the JSON of its profile export.

Each reader returns the measurements of one file as values by column. A value that the file does
not have is not there; ``percentile: None`` says that the mean was asked for.
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcbench.measure import perf_output
from hpcbench.records.columns import COLUMNS, Status

Values = Mapping[str, Any]
"""One measurement: values by column."""

_ALWAYS_WRITTEN = {50, 90, 95, 99}
"""The percentiles that perf_analyzer writes in any case."""

_KNOWN_HEADERS = {column.header for column in COLUMNS if column.header}


class UnknownFile(Exception):
    """Says why a file cannot be imported."""


@dataclass(frozen=True)
class PerfFile:
    """What a file of perf_analyzer holds.

    Attributes
    ----------
    measurements
        Its measurements in their order.
    unknown
        Headers that no column takes.
    """

    measurements: Sequence[Values]
    unknown: Sequence[str] = field(default_factory=tuple)


def read_perf_file(text: str, *, is_named: bool) -> PerfFile:
    """Read a file that perf_analyzer wrote, whichever it is.

    Parameters
    ----------
    text
        Its content.
    is_named
        Whether its name says which model and batch size it is about: then an empty file, too, is
        one of perf_analyzer's.

    Returns
    -------
    PerfFile
        Its measurements. A CSV file without rows has none.

    Raises
    ------
    UnknownFile
        Where perf_analyzer wrote nothing like it.
    """
    if text.lstrip().startswith("{"):
        return PerfFile(tuple(_export_measurements(text)))
    if _LOAD.search(text) and ("  Client:" in text or "  Pass [" in text):
        return PerfFile(tuple(_report_measurements(text)))
    headers = next(csv.reader(text.splitlines()[:1]), [])
    if "Inferences/Second" in headers and {"Concurrency", "Request Rate"} & set(headers):
        rows = perf_output.csv_rows(text)
        unknown = [h for h in headers if h not in _KNOWN_HEADERS and not _PERCENTILE.fullmatch(h)]
        return PerfFile(tuple(map(_csv_measurement, rows)), tuple(filter(None, unknown)))
    if headers or not is_named:
        raise UnknownFile("has columns of neither perf_analyzer nor Model Analyzer")
    return PerfFile(())


_PERCENTILE = re.compile(r"p(\d+) latency")


def _csv_measurement(cells: Mapping[str, str]) -> Values:
    # With a percentile, perf_analyzer leaves the mean out.
    has_mean = "Avg latency" in cells
    named = {int(m[1]) for header in cells if (m := _PERCENTILE.fullmatch(header))}
    percentile = None if has_mean else next(iter(named - _ALWAYS_WRITTEN), None)
    found = {
        "concurrency": whole(cells.get("Concurrency")),
        "request_rate": perf_output.parse_number(cells.get("Request Rate", "")),
        **perf_output.csv_metrics(cells, percentile),
    }
    return found | ({"percentile": percentile} if has_mean or percentile is not None else {})


def whole(text: str | None) -> int | None:
    """Return the count in a cell.

    Parameters
    ----------
    text
        The cell.

    Returns
    -------
    int or None
        None if it holds no integer from 0 to a billion.
    """
    value = perf_output.parse_number(text or "")
    return int(value) if value is not None and value == int(value) and 0 <= value < 1e9 else None


# The printed report

_LOAD = re.compile(r"^Request (?:concurrency: (\d+)|Rate: ([\d.e+]+) inference)", re.MULTILINE)
_PASS = re.compile(
    r"^  Pass \[\d+\] throughput: ([\d.e+]+) infer/sec\. (?:Avg|p\d+) latency: (\d+) usec",
    re.MULTILINE,
)
_SETTINGS: tuple[tuple[str, str, Any], ...] = (
    ("batch_size", r"^  Batch size: (\d+)", int),
    ("percentile", r"^  Stabilizing using p(\d+)", int),
    ("measurement_interval_ms", r"^  Measurement window: (\d+) msec", int),
    ("measurement_mode", r'^  Using "(time_windows|count_windows)" mode', str),
    ("asynchronous", r"^  Using (asynchronous|synchronous) calls", "asynchronous".__eq__),
    ("request_distribution", r"^  Using (poisson) distribution", str),
)


def _report_measurements(text: str) -> Iterator[Values]:
    # A log of a loop holds the settings of each run before its loads.
    for run in re.split(r"^(?=\*\*\* Measurement Settings \*\*\*)", text, flags=re.MULTILINE):
        settings: dict[str, Any] = {}
        for name, pattern, kind in _SETTINGS:
            match = re.search(pattern, run, re.MULTILINE)
            if match:
                settings[name] = kind(match[1])
        if re.search(r"^  Stabilizing using average", run, re.MULTILINE):
            settings["percentile"] = None
        begins = list(_LOAD.finditer(run))
        ends = [*(begin.start() for begin in begins[1:]), len(run)]
        for begin, end in zip(begins, ends[: len(begins)], strict=True):
            yield settings | _section(begin, run[begin.start() : end], settings.get("percentile"))


def _section(load: re.Match[str], text: str, percentile: int | None) -> dict[str, Any]:
    rate = float(load[2]) if load[2] else None
    found: dict[str, Any] = {
        "concurrency": int(load[1]) if load[1] else None,
        "request_rate": rate,
    }
    if rate is not None:
        found["request_distribution"] = "constant"
    if protocol := re.search(r"^    Avg (gRPC|HTTP) time", text, re.MULTILINE):
        found["protocol"] = protocol[1].lower()
    windows = _PASS.findall(text)
    if "  Client:" in text:
        return found | perf_output.parse_report(text, percentile) | _gpu_metrics(text)
    latest = windows[-3:]
    if latest:
        # As perf_analyzer's last judgement: what the three windows have on average.
        name = "latency_avg_us" if percentile is None else "latency_percentile_us"
        found["throughput_infer_per_s"] = math.fsum(float(t) for t, _ in latest) / len(latest)
        found[name] = math.fsum(float(us) for _, us in latest) / len(latest)
        found["status"] = Status.UNSTABLE
        found["reason"] = "perf_analyzer printed windows, and no report: it did not settle"
    return found


_GPU = (
    ("gpu_utilization_avg", "Avg GPU Utilization", 0.01),
    ("gpu_power_avg_w", "Avg GPU Power Usage", 1),
    ("gpu_memory_max_bytes", "Max GPU Memory Usage", 1),
    ("gpu_memory_total_bytes", "Total GPU Memory", 1),
)


def _gpu_metrics(text: str) -> dict[str, Any]:
    """Return the metrics of --collect-metrics, which the report lists GPU by GPU."""
    found: dict[str, Any] = {}
    for name, title, factor in _GPU:
        block = re.search(rf"^    {title}:\n((?:      \S+ : .*\n)+)", text, re.MULTILINE)
        values = re.findall(r" : ([\d.e+]+)", block[1]) if block else []
        if values:
            total = factor * math.fsum(map(float, values))
            found[name] = round(total) if name.endswith("_bytes") else total / len(values)
    return found


# The profile export


def _export_measurements(text: str) -> Iterator[Values]:
    try:
        experiments = json.loads(text)["experiments"]
        for each in experiments:
            yield _experiment(each)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UnknownFile("is no JSON of perf_analyzer --profile-export-file") from error


def _experiment(content: Mapping[str, Any]) -> Values:
    """Return the metrics of all requests that ended within the windows that perf_analyzer kept."""
    mode, value = content["experiment"]["mode"], content["experiment"]["value"]
    bounds = content.get("window_boundaries") or []
    ended = [
        (request["timestamp"], request["response_timestamps"][-1])
        for request in content["requests"]
        if request["response_timestamps"]
    ]
    begin = min(bounds) if bounds else min(start for start, _ in ended)
    end = max(bounds) if bounds else max(stop for _, stop in ended)
    times_us = sorted((stop - start) / 1e3 for start, stop in ended if begin <= stop <= end)
    found: dict[str, Any] = {
        "concurrency": int(value) if mode == "concurrency" else None,
        "request_rate": float(value) if mode == "request_rate" else None,
    }
    if not times_us or end <= begin:
        return found
    # Of requests; perf_analyzer does not write the batch size.
    found["_requests_per_s"] = len(times_us) / ((end - begin) / 1e9)
    found["request_count"] = len(times_us)
    found["latency_avg_us"] = math.fsum(times_us) / len(times_us)
    for percent in sorted(_ALWAYS_WRITTEN):
        # Nearest rank, as perf_analyzer takes it.
        found[f"latency_p{percent}_us"] = times_us[math.ceil(percent / 100 * len(times_us)) - 1]
    return found
