"""Builds one command line of perf_analyzer, and says how long a run of it may take."""

import re

from hpcbench.config.load_axes import REST_WINDOWS, LoadVariant
from hpcbench.measure.perf_output import CSV_NAME
from hpcbench.plan.point import Point

START_ALLOWANCE_S = 60.0
WINDOW_ALLOWANCE = 2.0
COUNT_ALLOWANCE = 10.0
"""How long a window of so many requests takes, nobody knows before."""
ENDLESS_TRIALS = 1000


def arguments(
    point: Point,
    *,
    url: str,
    metrics_url: str | None,
    settle: bool = True,
    endless: bool = False,
) -> list[str]:
    """The arguments that measure one point.

    ``metrics_url`` is where Triton tells about its GPUs, None where it has none. With
    ``settle=False`` it measures three windows and ends, however far apart they are: that
    is how a point that does not settle keeps its percentiles and the server's times. With
    ``endless`` it goes on with such rounds of three windows until it is ended, and prints what
    each of them gave.
    """
    load = point.load
    stability = load.stability_percentage if settle and not endless else 999
    trials = ENDLESS_TRIALS if endless else load.max_trials if settle else REST_WINDOWS
    words = [
        *("-m", point.variant.model.name),
        *("-u", url),
        *("-i", load.protocol),
        "--async" if load.asynchronous else "--sync",
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
    return [*words, "-v", "--verbose-csv", "-f", CSV_NAME]


def _driven(load: LoadVariant, endless: bool) -> list[str]:
    # A range that is walked in steps of nothing has no end.
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
    """How requests are sent and what is in them, where it is not perf_analyzer's own choice."""
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
    """Inferences in what perf_analyzer, which knows nothing of such a batch, counts as one."""
    return point.load.batch_size if point.batch_in_shapes else 1


def timeout_s(load: LoadVariant, *, settle: bool = True) -> float:
    """Seconds after which a run of perf_analyzer is hung rather than slow."""
    if load.timeout_s is not None:
        return load.timeout_s
    windows = load.max_trials if settle else REST_WINDOWS
    allowance = WINDOW_ALLOWANCE if load.measurement_mode == "time_windows" else COUNT_ALLOWANCE
    return START_ALLOWANCE_S + allowance * windows * load.window_s


def known_flags(usage: str) -> frozenset[str]:
    """The flags that an installed perf_analyzer names in its usage text."""
    return frozenset(re.findall(r"(?<![\w-])(--?[a-z][a-z0-9-]*)", usage))


OPTIONAL = {"--collect-metrics": 1, "--metrics-url": 2, "--metrics-interval": 2}
"""Flags that an older perf_analyzer may lack, with the words that go when they do."""


def drop_unknown_flags(words: list[str], known: frozenset[str]) -> tuple[list[str], list[str]]:
    """(arguments that the installed version knows, the indispensable flags that it lacks)."""
    kept: list[str] = []
    lacking: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        flag = word.split("=")[0]
        width = OPTIONAL.get(flag, 1)
        is_flag = re.fullmatch(r"--?[a-z][a-z0-9-]*", flag) is not None
        if is_flag and flag not in known:
            if flag in OPTIONAL:
                position += width
                continue
            lacking.append(flag)
        kept.append(word)
        position += 1
    return kept, lacking
