"""The table of columns: every result of hpcbench is a row of these, and nothing else.

One frozen dataclass is the table, with the one that it extends. A field's annotation gives the type
on disk; its metadata gives the role, the unit, the header under which perf_analyzer prints it, and
the meaning. The Parquet schema, the parser of perf_analyzer's CSV, the columns that separate
configurations and the reference of columns are all read from it. A column's place among the others
decides nothing.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import partial

import pyarrow as pa

from hpcbench.records.asked import Asked
from hpcbench.records.roles import Column, Role, arrow_type, column

SCHEMA_VERSION = 3
"""Raised whenever a column changes its name, type, unit or meaning; stored in every file."""


class Status(StrEnum):
    """How a point ended. Every point of a campaign ends in one of these."""

    OK = "ok"
    UNSTABLE = "unstable"
    FAILED = "failed"
    TIMEOUT = "timeout"
    NOT_APPLICABLE = "not_applicable"


MEASURED = frozenset({Status.OK, Status.UNSTABLE})
FINAL = MEASURED | {Status.NOT_APPLICABLE}
"""What a later run does not measure again."""

Key = tuple[str, str, int]
"""(point_id, pool, repeat): names one measurement of a session."""


_software = partial(column, Role.SOFTWARE)
_hardware = partial(column, Role.HARDWARE)
_version = partial(column, Role.VERSION)
_outcome = partial(column, Role.OUTCOME)
_metric = partial(column, Role.METRIC)
_provenance = partial(column, Role.PROVENANCE)


@dataclass(frozen=True, kw_only=True)
class Record(Asked):
    """One measurement of one point: what was asked, what came out, where and with what.

    A value that is missing is None, never 0 or "".
    """

    # Throughput and latency, as perf_analyzer saw them
    throughput_infer_per_s: float | None = _metric(
        "inferences completed per second: requests times batch_size; where max_batch_size is 0, "
        "perf_analyzer itself prints requests",
        unit="infer/s",
        header="Inferences/Second",
    )
    response_throughput_per_s: float | None = _metric(
        "responses per second, decoupled models only", unit="1/s", header="Response Throughput"
    )
    latency_avg_us: float | None = _metric(
        "mean time of a request; where a percentile was asked for, perf_analyzer leaves this "
        "column out and its mean gRPC or HTTP time stands here",
        unit="us",
        header="Avg latency",
    )
    latency_std_us: float | None = _metric("its standard deviation over requests", unit="us")
    latency_p50_us: float | None = _metric("median", unit="us", header="p50 latency")
    latency_p90_us: float | None = _metric("90th percentile", unit="us", header="p90 latency")
    latency_p95_us: float | None = _metric("95th percentile", unit="us", header="p95 latency")
    latency_p99_us: float | None = _metric("99th percentile", unit="us", header="p99 latency")
    latency_p99_max_us: float | None = _metric(
        "the largest 99th percentile of a report among those that count", unit="us"
    )
    latency_p99_bound_us: float | None = _metric(
        "the same, where it is an upper bound of the true 99th percentile with 95 % confidence at "
        "least, for independent requests; missing: too few reports for a bound",
        unit="us",
    )
    latency_p99_bound_confidence: float | None = _metric("confidence of that bound", unit="1")
    latency_percentile_us: float | None = _metric(
        "the percentile named in the column percentile", unit="us"
    )
    client_send_us: float | None = _metric("client: sending", unit="us", header="Client Send")
    client_recv_us: float | None = _metric("client: receiving", unit="us", header="Client Recv")
    network_us: float | None = _metric(
        "between client and server, both ways", unit="us", header="Network+Server Send/Recv"
    )
    client_request_response_us: float | None = _metric(
        "client: packing and unpacking", unit="us", header="request/response"
    )
    client_response_wait_us: float | None = _metric(
        "client: waiting for the response", unit="us", header="response wait"
    )
    client_overhead_percent: float | None = _metric(
        "share of the time that perf_analyzer spent on itself", unit="%"
    )
    send_request_rate: float | None = _metric(
        "open loop: rate at which requests were sent; where perf_analyzer does not print it, "
        "because at most 10 % were delayed, the rate at which they were answered",
        unit="1/s",
    )
    delayed_requests_percent: float | None = _metric(
        "open loop: requests sent too late; perf_analyzer prints it from 10 % on", unit="%"
    )
    overloaded: bool | None = _outcome(
        "open loop: less than 98 % of the rate was sent or answered, or more than 1 % of the "
        "requests were delayed; missing: closed loop"
    )
    schedule_lag_s: float | None = _metric(
        "open loop: how far the sending was behind its schedule at the end", unit="s"
    )
    capacity_infer_per_s: float | None = _metric(
        "the highest rate of Poisson arrivals that keeps capacity_max_latency_p99_ms, times "
        "batch_size; the metrics beside it were measured at this rate",
        unit="infer/s",
    )
    request_count: int | None = _metric("requests completed in the windows counted", unit="1")

    # Time inside the server, mean per request
    server_request_us: float | None = _metric("whole request inside the server", unit="us")
    server_overhead_us: float | None = _metric("part of it that belongs to no stage", unit="us")
    server_queue_us: float | None = _metric(
        "waiting for an instance", unit="us", header="Server Queue"
    )
    server_compute_us: float | None = _metric(
        "computing, where it is not divided into the next three: perf_client before 2020",
        unit="us",
        header="Server Compute",
    )
    server_compute_input_us: float | None = _metric(
        "preparing the inputs", unit="us", header="Server Compute Input"
    )
    server_compute_infer_us: float | None = _metric(
        "the model itself", unit="us", header="Server Compute Infer"
    )
    server_compute_output_us: float | None = _metric(
        "preparing the outputs", unit="us", header="Server Compute Output"
    )
    server_cache_hit_us: float | None = _metric(
        "response cache, hits", unit="us", header="Server Cache Hit"
    )
    server_cache_miss_us: float | None = _metric(
        "response cache, misses", unit="us", header="Server Cache Miss"
    )
    inference_count: int | None = _metric("inferences, as the server counts them", unit="1")
    execution_count: int | None = _metric("batches that they ran in", unit="1")
    success_count: int | None = _metric("requests that it answered", unit="1")

    failure_count: int | None = _metric("requests that it answered with an error", unit="1")
    cache_hit_count: int | None = _metric(
        "requests that it answered from the response cache", unit="1"
    )
    executed_batch_sizes: tuple[int, ...] | None = _metric(
        "sizes of the batches that ran, in ascending order", unit="1"
    )
    executed_batch_counts: tuple[int, ...] | None = _metric(
        "how many batches of each of these sizes ran", unit="1"
    )
    foreign_requests: int | None = _metric(
        "requests of somebody else: those that the server answered, to any of its models, over "
        "what this measurement sent",
        unit="1",
    )

    # Stability
    windows_throughput_infer_per_s: tuple[float, ...] | None = _metric(
        "throughput of each window; the last ones count, see windows_counted", unit="infer/s"
    )
    windows_latency_us: tuple[float, ...] | None = _metric(
        "latency of each window: mean, or the percentile asked for", unit="us"
    )
    windows_counted: int | None = _metric(
        "from how many of the last windows throughput, latencies and counts come", unit="1"
    )
    precision_reached: float | None = _metric(
        "half of the 95 % interval over the mean, of throughput or of latency, the larger one; "
        "missing: no precision was asked for",
        unit="1",
    )
    warm_up_s: float | None = _metric(
        "time at the beginning whose reports differ from the rest; it never counts", unit="s"
    )

    overlap: float | None = _metric(
        "share of the counted time in which all models that were measured together were under "
        "their load; missing: measured alone",
        unit="1",
    )

    # The outputs
    output_reference: str | None = _provenance(
        "the model whose outputs were taken as right, and how many events were compared, or why "
        "none were; missing: compare_outputs was not asked for"
    )
    output_max_difference: float | None = _metric(
        "largest absolute difference from its outputs, over all of them", unit="1"
    )
    output_relative_difference: float | None = _metric(
        "largest difference over the value of the reference, where that is not 0", unit="1"
    )
    output_rms_difference: float | None = _metric(
        "root of the mean square difference, of the output where it is largest", unit="1"
    )
    output_differences: str | None = _provenance(
        "the three of each output (max, relative, rms), as JSON"
    )

    # The device meanwhile
    device_source: str | None = _provenance(
        "where power and energy come from: nvml, triton (its metrics, where NVML is missing), or "
        "rapl, of the CPUs, where there is no GPU; missing: nowhere, or an older version"
    )
    gpu_utilization_avg: float | None = _metric(
        "0 to 1, mean over GPUs: share of the time in which a kernel ran",
        unit="1",
        header="Avg GPU Utilization",
    )
    gpu_power_avg_w: float | None = _metric(
        "mean over GPUs", unit="W", header="Avg GPU Power Usage"
    )
    gpu_memory_max_bytes: int | None = _metric(
        "sum over GPUs; missing where server_fresh is false, because Triton keeps some of the "
        "memory of what it held before, and where several models were under load",
        unit="B",
        header="Max GPU Memory Usage",
    )
    gpu_memory_total_bytes: int | None = _metric(
        "sum over GPUs", unit="B", header="Total GPU Memory"
    )
    gpu_sm_clock_avg_mhz: float | None = _metric("clock of the GPUs, mean", unit="MHz")
    gpu_sm_clock_min_mhz: float | None = _metric("clock of the GPUs, lowest", unit="MHz")
    gpu_memory_clock_avg_mhz: float | None = _metric("clock of their memory, mean", unit="MHz")
    gpu_temperature_max_c: float | None = _metric("temperature of the hottest", unit="Cel")
    gpu_throttle_reasons: str | None = _provenance(
        "why the clocks were lower than they could be, joined by commas: power_cap, hw_slowdown, "
        "thermal, hw_thermal, hw_power_brake; empty: for no reason; missing: not known"
    )
    gpu_other_processes: int | None = _metric(
        "most processes on a GPU, less server and perf_analyzer; missing: not known", unit="1"
    )
    gpu_energy_j: float | None = _metric(
        "energy of the GPUs while perf_analyzer ran, with its start; older results only", unit="J"
    )
    idle_power_w: float | None = _metric(
        "power of all GPUs, or else of the CPUs, before the server's first load", unit="W"
    )
    cpu_power_avg_w: float | None = _metric("power of all CPU packages, from RAPL", unit="W")
    energy_j_per_infer: float | None = _metric(
        "energy of all GPUs, or else of the CPUs, for one inference; missing where several models "
        "were under load and where an ensemble called the model, because it cannot be divided",
        unit="J",
    )
    energy_j_per_infer_net: float | None = _metric(
        "the same without the idle power in that time", unit="J"
    )

    # What the programs took of the CPUs
    cpu_sampled_s: float | None = _metric(
        "the time within the counted windows that the next columns are about", unit="s"
    )
    server_cpu_s: float | None = _metric("CPU time of the server's processes", unit="s")
    server_cpu_wait_s: float | None = _metric(
        "time in which they could have run and had no CPU, summed over threads", unit="s"
    )
    server_memory_max_bytes: int | None = _metric("their resident memory, at most", unit="B")
    server_context_switches: int | None = _metric("how often their threads got a CPU", unit="1")
    client_cpu_s: float | None = _metric("CPU time of perf_analyzer", unit="s")
    client_cpu_wait_s: float | None = _metric(
        "time in which it could have run and had no CPU, summed over threads", unit="s"
    )
    client_memory_max_bytes: int | None = _metric("its resident memory, at most", unit="B")
    client_context_switches: int | None = _metric("how often its threads got a CPU", unit="1")
    client_cpu_share: float | None = _metric(
        "its CPU time over that of all CPUs that it may use", unit="1"
    )
    client_busiest_thread: float | None = _metric(
        "CPU time of its busiest thread over that of one CPU", unit="1"
    )
    client_threads: int | None = _metric("its threads", unit="1")
    client_cpu_limited: bool | None = _provenance(
        "one of the two shares is 0.9 or more: the client may be the limit"
    )
    cpus_shared: bool | None = _provenance("server and client may use the same CPUs")
    other_cpu_s: float | None = _metric(
        "time that others kept these CPUs busy, hpcbench itself included", unit="s"
    )

    # Where, when and with what
    node: str | None = _provenance("host name")
    gpu_name: str | None = _hardware("name of the GPU, from NVML; missing: none")
    gpu_uuid: str | None = _provenance("its UUID; several are joined by commas")
    gpu_count: int | None = _hardware("GPUs that this worker saw", unit="1")
    gpu_driver: str | None = _hardware("version of NVIDIA's driver")
    pool_gpu: str | None = _provenance("the GPU that the site file promises; missing: none named")
    pool_gpu_count: int | None = _provenance("how many of it a job is promised", unit="1")
    gpu_mig_instance: str | None = _provenance(
        "GPU instance and compute instance, such as 7/0, where the GPU is divided (MIG)"
    )
    gpu_mig_profile: str | None = _provenance("its size, such as 1g.5gb; also part of gpu_name")
    gpu_persistence_mode: bool | None = _provenance("the driver stays loaded for all of its GPUs")
    gpu_ecc: bool | None = _provenance("the memory of all of its GPUs corrects errors (ECC)")
    gpu_numa_node: str | None = _provenance("the NUMA node that the GPU is attached to")
    gpu_pcie_generation: int | None = _provenance(
        "generation of PCIe that the GPU has on this node; the least of several", unit="1"
    )
    gpu_pcie_width: int | None = _provenance("lanes of PCIe, likewise", unit="1")
    cpu_name: str | None = _hardware("model of the CPU")
    cpu_count: int | None = _hardware("CPUs this worker was allowed to use", unit="1")
    cpu_governor: str | None = _provenance(
        "how the frequency of these CPUs is chosen, such as performance; missing: not known"
    )
    numa_nodes: str | None = _provenance("the NUMA nodes of these CPUs")
    memory_bytes: int | None = _provenance("main memory of the node", unit="B")
    kernel: str | None = _provenance("operating system and kernel")
    job_id: str | None = _provenance("id of the batch job")
    network_isolated: bool | None = _provenance(
        "whether server and clients had a loopback of their own, which no other user of the node "
        "reaches; missing: not known"
    )
    cuda_visible_devices: str | None = _provenance("the GPUs that the batch system gave to the job")
    runtime: str | None = _software("native | apptainer | podman-hpc")
    server_image: str | None = _provenance(
        "Triton's image as the site file names it; missing: none"
    )
    sdk_image: str | None = _provenance("perf_analyzer's image, likewise")
    server_image_digest: str | None = _software("digest of the image or prefix Triton ran from")
    sdk_image_digest: str | None = _software("digest of the one perf_analyzer ran from")
    triton_version: str | None = _version("as the server says")
    backend_versions: str | None = _provenance(
        "of Triton's backends and what they run on, as JSON; null where the image does not say it"
    )
    cuda_version: str | None = _provenance(
        "CUDA in the server's image, as the image says; missing: none"
    )
    tensorrt_version: str | None = _provenance("TensorRT in it, likewise")
    perf_analyzer_version: str | None = _version("as it says itself")
    command: str | None = _provenance("perf_analyzer's command line")
    figures_command: str | None = _provenance(
        "results of hpcbench 0.1: the second command line, which an unstable point came from"
    )
    exit_code: int | None = _outcome(
        "perf_analyzer's, where it ended by itself; 128 + signal where a signal ended it; missing: "
        "hpcbench ended it, having seen enough"
    )
    log_tail: str | None = _outcome("last lines of what went wrong")
    perf_analyzer_s: float | None = _metric("wall time inside perf_analyzer", unit="s")
    started_at: datetime | None = _provenance("start of the measurement, UTC")
    ended_at: datetime | None = _provenance("end of the measurement, UTC")
    source: str | None = _provenance(
        "where the numbers were published, for those of others; missing: measured by hpcbench, or "
        "imported from files; ended_at is its date then"
    )
    hpcbench_version: str | None = _provenance("version of hpcbench")

    @property
    def key(self) -> Key:
        """What names this measurement among all others."""
        return self.point_id, self.pool, self.repeat


COLUMNS: tuple[Column, ...] = tuple(
    Column(
        name=entry.name,
        type=arrow_type(entry.type),
        unit=entry.metadata["unit"],
        meaning=entry.metadata["meaning"],
        role=entry.metadata["role"],
        header=entry.metadata["header"],
    )
    for entry in fields(Record)
)

SCHEMA = pa.schema(
    [pa.field(c.name, c.type, metadata={"unit": c.unit, "meaning": c.meaning}) for c in COLUMNS],
    metadata={"hpcbench_schema": str(SCHEMA_VERSION)},
)


def names_with(*roles: Role) -> tuple[str, ...]:
    """Return the columns that have one of these roles.

    Parameters
    ----------
    *roles
        The roles asked for.

    Returns
    -------
    tuple of str
        Their names, in the order of `Record`.
    """
    return tuple(each.name for each in COLUMNS if each.role in roles)
