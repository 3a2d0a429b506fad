"""Read what perf_analyzer printed and the CSV file that it wrote.

Whether a point was measured is decided by the CSV row and the lines of the windows, never by the
exit code alone: perf_analyzer exits with 0 without a row, and with 2 after minutes of measuring.
"""

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from hpcbench.records.columns import COLUMNS, Status

CSV_NAME = "result.csv"

_BY_HEADER = {column.header: column for column in COLUMNS if column.header}
_PER_GPU_SUM = {"gpu_memory_max_bytes", "gpu_memory_total_bytes"}


@dataclass(frozen=True)
class ComposingModel:
    """What a run says of a model that the measured ensemble calls.

    Attributes
    ----------
    model
        Its name.
    version
        Its version.
    metrics
        Values by the names of their columns.
    """

    model: str
    version: int
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a run of perf_analyzer measured.

    Attributes
    ----------
    status
        Whether the point was measured, and settled.
    reason
        Why it is not ok; None if it is.
    metrics
        Values by the names of their columns; empty if nothing was measured.
    composing
        The models that an ensemble calls.
    """

    status: Status
    reason: str | None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    composing: tuple[ComposingModel, ...] = ()


def parse_composing_models(text: str, metrics: Mapping[str, Any]) -> tuple[ComposingModel, ...]:
    """Return the models that an ensemble called, from the printed report.

    Parameters
    ----------
    text
        What perf_analyzer printed.
    metrics
        The ensemble's metrics.

    Returns
    -------
    tuple of ComposingModel
        With the server's times only. The throughput is the ensemble's, which calls each model once
        per inference.
    """
    found = []
    for match in _COMPOSING.finditer(text.partition(_CALLED)[2]):
        block = re.sub("^  ", "", match[3], flags=re.MULTILINE)
        its = {**_report(block), **_stages(block)}
        if "throughput_infer_per_s" in metrics:
            its["throughput_infer_per_s"] = metrics["throughput_infer_per_s"]
        found.append(ComposingModel(match[1], int(match[2]), its))
    return tuple(found)


def _compute_of_called(text: str) -> dict[str, float]:
    """Return what the models that an ensemble calls compute together, as in perf_analyzer's CSV."""
    models = [_stages(match[3]) for match in _COMPOSING.finditer(text)]
    names = {name for stages in models for name in stages if name.startswith("server_compute_")}
    return {name: sum(stages.get(name, 0.0) for stages in models) for name in names}


_CALLED = "\n  Composing models:"
_COMPOSING = re.compile(r"^  (\S+), version: (\d+)\n((?:      .*\n)+)", re.MULTILINE)


_REPORT: tuple[tuple[str, str, type], ...] = (
    ("request_count", r"^    Request count: (\d+)", int),
    ("send_request_rate", r"^    Avg send request rate: ([\d.e+]+)", float),
    ("delayed_requests_percent", r"([\d.]+)% of the requests were delayed", float),
    ("client_overhead_percent", r"^    Avg client overhead: ([\d.]+)%", float),
    ("latency_avg_us", r"^    Avg latency: (\d+) usec", float),
    ("latency_std_us", r"^    Avg latency: \d+ usec \(standard deviation (\d+) usec\)", float),
    ("_transfer_us", r"^    Avg (?:gRPC|HTTP) time: (\d+) usec", float),
    ("inference_count", r"^    Inference count: (\d+)", int),
    ("execution_count", r"^    Execution count: (\d+)", int),
    ("success_count", r"^    Successful request count: (\d+)", int),
    ("server_request_us", r"^    Avg request latency: (\d+) usec", float),
    ("server_overhead_us", r"^    Avg request latency: .*\(overhead (\d+) usec", float),
)


def _report(stdout: str) -> dict[str, Any]:
    """Return the metrics that stand in the printed report only."""
    found: dict[str, Any] = {}
    for name, pattern, kind in _REPORT:
        match = re.search(pattern, stdout, re.MULTILINE)
        if match:
            found[name] = kind(match[1])
    return found


_STAGES: tuple[tuple[str, str], ...] = (
    ("throughput_infer_per_s", r"^    Throughput: ([\d.e+]+) infer/sec"),
    ("response_throughput_per_s", r"^    Response Throughput: ([\d.e+]+) infer/sec"),
    *((f"latency_p{p}_us", rf"^    p{p} latency: (\d+) usec") for p in (50, 90, 95, 99)),
    ("client_send_us", r"\((?:marshal|send) (\d+) usec \+ response wait"),
    ("client_response_wait_us", r"response wait (\d+) usec"),
    ("client_recv_us", r"(?:unmarshal|receive) (\d+) usec\)"),
    ("server_queue_us", r"^    Avg request latency: .*queue (\d+) usec"),
    ("server_compute_us", r"^    Avg request latency: .*compute (\d+) usec"),
    ("server_compute_input_us", r"compute input (\d+) usec"),
    ("server_compute_infer_us", r"compute infer (\d+) usec"),
    ("server_compute_output_us", r"compute output (\d+) usec"),
    ("server_cache_hit_us", r"Average Cache Hit Latency: (\d+) usec"),
    ("server_cache_miss_us", r"Average Cache Miss Latency: (\d+) usec"),
)
"""What stands in its CSV, too, which perf_analyzer writes only when it ends by itself."""


def _stages(text: str) -> dict[str, Any]:
    matches = ((name, re.search(pattern, text, re.MULTILINE)) for name, pattern in _STAGES)
    return {name: float(match[1]) for name, match in matches if match}


_COMPUTE = ("input", "infer", "output")


def parse_report(text: str, percentile: int | None) -> dict[str, Any]:
    """Return the metrics of one printed report.

    Parameters
    ----------
    text
        The part of the output that holds them.
    percentile
        The percentile that perf_analyzer was asked for, in percent; None for the mean latency.

    Returns
    -------
    dict of str to Any
        Values by the names of their columns. Times are whole microseconds; a CSV has more digits.
    """
    own, _, called = text.partition(_CALLED)
    found = {**_report(own), **_stages(own), **_compute_of_called(called)}
    if percentile is not None:
        match = re.search(rf"^    p{percentile} latency: (\d+) usec", text, re.MULTILINE)
        found |= {"latency_percentile_us": float(match[1])} if match else {}
    transfer_us = found.pop("_transfer_us", None)
    if "latency_avg_us" not in found and transfer_us is not None:
        found["latency_avg_us"] = transfer_us
    ends = ("client_send_us", "client_recv_us")
    stages = (*ends, "server_queue_us", *(f"server_compute_{x}_us" for x in _COMPUTE))
    if {"latency_avg_us", *stages} <= found.keys():
        spent_us = sum(found[name] for name in stages)
        found["network_us"] = max(0.0, found["latency_avg_us"] - spent_us)
        found["client_request_response_us"] = sum(found[name] for name in ends)
    return found


def csv_rows(csv_text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file of perf_analyzer.

    Parameters
    ----------
    csv_text
        Its content.

    Returns
    -------
    list of dict
        The cells of each row by their headers, without a row that was cut off.
    """
    # In a line without a newline the last number may be cut, and would still look like one.
    lines = [line for line in csv_text.splitlines(keepends=True) if line.endswith("\n")]
    table = [next(csv.reader([line]), []) for line in lines]
    return [
        dict(zip(table[0], cells, strict=True))
        for cells in table[1:]
        if len(cells) == len(table[0])
    ]


def csv_metrics(cells: Mapping[str, str], percentile: int | None) -> dict[str, Any]:
    """Return the metrics of a CSV row.

    Parameters
    ----------
    cells
        The cells of the row by their headers.
    percentile
        The percentile that perf_analyzer was asked for, in percent; None for the mean latency.

    Returns
    -------
    dict of str to Any
        Values by the names of their columns, without the load that was asked for.
    """
    found: dict[str, Any] = {}
    for header, text in cells.items():
        if percentile is not None and header == f"p{percentile} latency" and text:
            value = parse_number(text)
            if value is not None:
                found["latency_percentile_us"] = value
        column = _BY_HEADER.get(header)
        if column is None or not text or column.name in ("concurrency", "request_rate"):
            continue
        value = _per_gpu(column.name, text) if ":" in text else parse_number(text)
        if value is not None:
            found[column.name] = int(value) if column.type == pa.int64() else value
    return found


def parse_number(text: str) -> float | None:
    """Return the number in a cell.

    Parameters
    ----------
    text
        The cell.

    Returns
    -------
    float or None
        None if it holds no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _per_gpu(column: str, text: str) -> float | None:
    """Return ``GPU-uuid:value;GPU-uuid:value;`` as one number."""
    parts = [part for part in text.split(";") if part.strip()]
    values = [v for v in (parse_number(part.rpartition(":")[2]) for part in parts) if v is not None]
    if not values or len(values) < len(parts):
        return None
    return sum(values) if column in _PER_GPU_SUM else sum(values) / len(values)


def printed_warning(text: str) -> str | None:
    """Return what perf_analyzer itself holds against its metrics.

    Parameters
    ----------
    text
        What it printed.

    Returns
    -------
    str or None
        A sentence for the record; None where it has no doubts.
    """
    for words, reason in _WARNINGS.items():
        if words in text:
            return f"perf_analyzer warns: {reason}"
    return None


_WARNINGS = {
    "is not able to keep up with the desired load": (
        "it is not able to keep up with the desired load; the client is the limit"
    ),
    "Request latency is not stabilizing": "request latency is not stabilizing",
}

NO_ANSWER = (
    "no request was answered within a window; give measurement.measurement_interval_ms "
    "more time than four requests need"
)


def failure_reason(stdout: str, stderr: str, returncode: int) -> str:
    """Return why there are no metrics, in perf_analyzer's own words where possible.

    Parameters
    ----------
    stdout, stderr
        What perf_analyzer printed.
    returncode
        Its exit code; negative if a signal ended it.

    Returns
    -------
    str
        A sentence for the record.
    """
    text = f"{stdout}\n{stderr}"
    for pattern in (
        r"Thread \[\d+\] had error: (.+)",
        r"^error: (.+)",
        r"(\S*unrecognized option .+)",
        r"^(terminate called .+(?:\n.*what\(\).+)?)",
        r"^(cannot start .+)",
        r"^FATAL:\s*(.+)",
        r"^(Failed to maintain requested inference load\..*)",
    ):
        match = re.search(pattern, text, re.MULTILINE)
        if match:
            return match[1].strip()
    # A shell or a container runtime reports the signal as 128 plus its number.
    if returncode < 0 or returncode > 128:
        return f"perf_analyzer was ended by signal {abs(returncode) % 128}"
    if "No valid requests recorded" in text:
        return NO_ANSWER
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if returncode == 0:
        return "perf_analyzer exited with 0, but wrote no metrics"
    last = f": {lines[-1]}" if lines else ""
    return f"perf_analyzer exited with {returncode}{last}"
