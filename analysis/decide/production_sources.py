"""The head of each file for production: its rows, how sure they are, and what is missing.

It is made of names in results of anybody, so each line stays one.
"""

from collections.abc import Iterator, Sequence

from hpcbench.analysis.decide.production import (
    MEMORY_MARGIN,
    MEMORY_STEP_MIB,
    READY_MARGIN,
    TIMEOUT_MARGIN,
    Production,
)
from hpcbench.analysis.decide.recommend import Recommendation, Row
from hpcbench.analysis.summary.configuration_names import (
    describe_configuration,
    device_name,
    load_text,
    model_text,
    server_text,
)
from hpcbench.analysis.summary.number_format import format_with_error
from hpcbench.errors import one_line

CMSSW_TIMEOUT_S = 30
"""What the parser of HeterogeneousCore/SonicTriton/python/customize.py has by default."""

_MOST_NAMED = 8


def comment(one: Recommendation, best: Row, numbers: Production) -> str:
    """Return the head of a file.

    Parameters
    ----------
    one
        The recommendation.
    best
        Its configuration.
    numbers
        Its numbers.

    Returns
    -------
    str
        Lines that begin with ``#``.
    """
    lines = [*_rows(best, numbers), *(f"Note: {note}." for note in one.notes)]
    lines += [*_load(numbers), *_server(numbers), *_needed(numbers)]
    return "".join(f"# {one_line(line)}\n" for line in lines)


def _rows(best: Row, numbers: Production) -> Iterator[str]:
    """Say which measurements these are."""
    digest = best.get("model_digest")
    version = best["model_version"] or "chosen by its version_policy"
    yield (
        f"{model_text(best)} on {device_name(best)}: model {best['model']}, version {version}, "
        f"{f'digest of its files {digest}' if digest else 'digest of its files not known'}; "
        f"site {best['site']}, pool {best['pool']}."
    )
    calls = describe_configuration(best).get("protocol", "")
    load = ", ".join(filter(None, [load_text(best), calls]))
    yield f"Server: {server_text(best)}. Clients: {load}."
    ids = f"point_id {_few(numbers.point_ids)}"
    if numbers.sessions is None:
        yield f"From {_counted(numbers.rows)} of the recommended configuration: {ids}."
        yield "Not known: in which sessions; old and imported results do not say."
    else:
        yield (
            f"From {_counted(numbers.rows)} of the recommended configuration in "
            f"{numbers.sessions} session{'s' * (numbers.sessions != 1)}: {ids}, "
            f"run_id {_few(numbers.run_ids)}."
        )
    for source in numbers.sources:
        yield f"Published in {source}"
    yield (
        f"Throughput {format_with_error(best, 'throughput_infer_per_s')} infer/s, p99 latency "
        f"{format_with_error(best, 'latency_p99_ms')} ms (after ±: 95 % confidence)."
    )


def _load(numbers: Production) -> Iterator[str]:
    """Say what the threshold and the timeout are made of."""
    if numbers.beside is not None:
        yield f"Measured on a shared server, {numbers.beside}: it has to load these models, too."
    yield "Starting values: network and proxy between clients and servers were not measured."
    if numbers.queue_ms_per_execution is not None:
        load = f"concurrency {numbers.concurrency}" if numbers.concurrency else "the measured rate"
        yield (
            f"Queue per executed batch: {numbers.queue_ms_per_execution:.3g} ms at {load}, "
            f"{numbers.queue_ms_low:.3g} to {numbers.queue_ms_high:.3g} in "
            f"{_counted(numbers.load_rows)}, point_id {_few(numbers.load_point_ids)}."
        )
    else:
        yield "Not known: the time in the queue per executed batch."
    if numbers.latency_p99_ms is not None:
        kind = "an upper bound" if numbers.latency_is_bound else "as measured, no bound"
        yield (
            f"p99 latency {numbers.latency_p99_ms:.3g} ms at most ({kind}); a client waits "
            f"{TIMEOUT_MARGIN:g} times that, 1 s at least."
        )
    else:
        yield f"Not known: the p99 latency; a client of CMSSW waits {CMSSW_TIMEOUT_S} s."


def _server(numbers: Production) -> Iterator[str]:
    """Say what the probes and the resources are made of."""
    if numbers.ready_max_s is not None:
        starts = f"{numbers.ready_starts} start{'s' * (numbers.ready_starts != 1)}"
        yield (
            f"Ready after {numbers.ready_median_s:.1f} s (median), {numbers.ready_max_s:.1f} s at "
            f"most, of {starts}; {READY_MARGIN:g} times that is waited for."
        )
    else:
        yield "Not known: how long a server needs until it is ready."
    if numbers.memory_max_bytes is not None:
        yield (
            f"Resident memory {numbers.memory_max_bytes / 2**20:.0f} MiB at most; the limit is "
            f"{MEMORY_MARGIN:g} times that, rounded up to a multiple of {MEMORY_STEP_MIB} MiB: "
            f"{numbers.memory_mib} MiB. CPUs: {numbers.cpus or 'not known'}."
        )
    else:
        yield "Not known: the memory of the server; resources are left as they are."
    if numbers.ready_max_s is not None or numbers.memory_max_bytes is not None:
        yield (
            f"Starts, memory and CPUs are of {_counted(numbers.server_rows)} of this server and "
            f"batch size under any load: point_id {_few(numbers.server_point_ids)}."
        )


def _needed(numbers: Production) -> Iterator[str]:
    """Say what has to be added or chosen."""
    if numbers.servers is None:
        yield "Not computed: how many servers are needed; recommend --rate says it."
    if numbers.image is None and numbers.triton_version is None:
        yield "Not known: the image and the version of Triton; choose one that serves your model."
    elif numbers.image is None:
        yield (
            "No image of a registry was measured; "
            f"Triton was {numbers.triton_version}: choose that one."
        )
    if numbers.mig_profile is not None:
        yield (
            f"Measured on a MIG slice, {numbers.mig_profile}, not on a whole GPU. Where a cluster "
            "names slices, one is nvidia.com/mig-" + numbers.mig_profile + ": 1; there "
            "nvidia.com/gpu: 1 is a whole GPU."
        )


def _counted(rows: int) -> str:
    return f"{rows} measurement{'s' * (rows != 1)}"


def _few(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    rest = f" and {more} more, in recommendation.json" if more > 0 else ""
    return ", ".join(names[:_MOST_NAMED]) + rest
