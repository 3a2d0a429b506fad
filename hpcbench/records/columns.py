"""The table of columns: every result of hpcbench is a row of these, and nothing else.

One frozen dataclass is the table. A field's annotation gives the type on disk; its metadata gives
the role, the unit, the header under which perf_analyzer prints it, and the meaning. The Parquet
schema, the parser of perf_analyzer's CSV, the columns that separate configurations and the
reference of columns are all read from it. A column's place among the others decides nothing.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import partial

import pyarrow as pa

from hpcbench.records.roles import Column, Role, arrow_type, column

SCHEMA_VERSION = 2
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
"""(point_id, pool, repeat): names one measurement."""


_model = partial(column, Role.MODEL)
_server = partial(column, Role.SERVER)
_load = partial(column, Role.LOAD)
_call = partial(column, Role.CALL)
_window = partial(column, Role.WINDOW)
_place = partial(column, Role.PLACE)
_software = partial(column, Role.SOFTWARE)
_hardware = partial(column, Role.HARDWARE)
_resolved = partial(column, Role.RESOLVED)
_version = partial(column, Role.VERSION)
_identity = partial(column, Role.IDENTITY)
_outcome = partial(column, Role.OUTCOME)
_metric = partial(column, Role.METRIC)
_provenance = partial(column, Role.PROVENANCE)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measurement of one point: what was asked, what came out, where and with what.

    A value that is missing is None, never 0 or "".
    """

    # What it is
    point_id: str = _identity(
        "hash of everything that defines the point; the same on every site", required=True
    )
    campaign: str = _identity("name of the campaign that measured it", required=True)
    site: str = _place("name of the site", required=True)
    pool: str = _place("name of the pool: one kind of node at the site", required=True)
    repeat: int = _identity(
        "0 for the first measurement of the point, 1 for the second, ...", required=True
    )
    placement_id: str = _identity(
        "the Triton launch it belongs to; its server log has this name", required=True
    )
    together_id: str | None = _identity(
        "shared by the rows of models that were measured at the same time; missing: measured alone"
    )
    status: str = _outcome("ok | unstable | failed | timeout | not_applicable", required=True)
    reason: str | None = _outcome("why the status is not ok, in a sentence")

    part_of: str | None = _identity(
        "point_id of the ensemble that called this model; missing: it was measured itself"
    )

    # What was asked for
    model: str = _model("name of the model in its repository", required=True)
    model_label: str = _model("name of the model in figures", required=True)
    model_position: int | None = _provenance(
        "place of the model in its campaign, from 0; figures compare with the first", unit="1"
    )
    model_version: int | None = _model("the version asked for; missing: the server's choice")
    model_digest: str | None = _model("hash of the model's files and its config.pbtxt")
    variant: str | None = _server(
        "the server axes that the campaign changes, as JSON; others are as in config.pbtxt"
    )
    variant_name: str | None = _call("the campaign's name for this variant, if it has named ones")
    beside: str | None = _call(
        "what else the server held, as JSON: each model with its server axes and the load that "
        "ran at the same time, null where it had none; missing: nothing"
    )
    shapes: str | None = _model(
        "the lengths given to the inputs, without the batch dimension, as JSON"
    )
    shapes_name: str | None = _call("the campaign's name for these shapes, if it has named ones")
    batch_size: int | None = _load(
        "inferences per request: perf_analyzer's -b, or the leading dimension of the inputs where "
        "max_batch_size is 0",
        unit="1",
    )
    concurrency: int | None = _load(
        "requests kept in flight: closed loop", unit="1", header="Concurrency"
    )
    request_rate: float | None = _load(
        "requests sent per second: open loop", unit="1/s", header="Request Rate"
    )
    request_distribution: str | None = _load(
        "constant | poisson, of the times between them; missing: closed loop"
    )
    protocol: str | None = _call("grpc | http")
    asynchronous: bool | None = _call("perf_analyzer used its asynchronous calls")
    streaming: bool | None = _call("requests and responses went through one gRPC stream")
    compression: str | None = _call("none | gzip | deflate, of gRPC requests")
    shared_memory: str | None = _call("none | system | cuda: how tensors reached the server")
    output_shared_memory_bytes: int | None = _call(
        "shared memory for each output whose size varies; missing: 100 KB",
        unit="B",
    )
    max_threads: int | None = _call(
        "most threads of perf_analyzer; missing: its own choice", unit="1"
    )
    measurement_mode: str | None = _window("time_windows | count_windows: what ends a window")
    measurement_interval_ms: int | None = _window(
        "length of a window; with count_windows, the length that is expected", unit="ms"
    )
    measurement_request_count: int | None = _window(
        "requests in a window at least, with count_windows", unit="1"
    )
    stability_percentage: float | None = _window("spread allowed among three windows", unit="%")
    max_trials: int | None = _window("windows tried before the point is unstable", unit="1")
    percentile: int | None = _window(
        "the percentile of latency that was asked to settle; missing: the mean", unit="%"
    )
    input_data: str | None = _call("random | zero | the path of the file or folder")
    input_data_digest: str | None = _provenance("hash of the file or folder")
    string_length: int | None = _call(
        "characters of each random string, BYTES inputs only", unit="1"
    )
    string_data: str | None = _call("the string sent as each element, BYTES inputs only")

    # What the server says that it loaded
    platform: str | None = _provenance("the model's platform or backend")
    max_batch_size: int | None = _resolved("largest batch the model takes", unit="1")
    instance_count: int | None = _resolved("model instances, over all groups", unit="1")
    instance_kind: str | None = _resolved("KIND_CPU | KIND_GPU | ..., of the instances")
    gpus: tuple[int, ...] | None = _resolved(
        "GPUs of the instances, counted from 0 among those of the job", unit="1"
    )
    dynamic_batching: bool | None = _resolved("the server combines requests into batches")
    preferred_batch_size: tuple[int, ...] | None = _resolved(
        "batch sizes that the server prefers; missing: no dynamic batching", unit="1"
    )
    max_queue_delay_us: int | None = _resolved(
        "how long the server waits for a preferred batch", unit="us"
    )
    preserve_ordering: bool | None = _resolved("responses in the order of requests")
    priority_levels: int | None = _resolved("priorities that requests may have; 0: none", unit="1")
    default_priority_level: int | None = _resolved("that of a request that names none", unit="1")
    default_queue_policy: str | None = _resolved("what happens to requests that wait, as JSON")
    accelerator: str | None = _resolved(
        "execution accelerator with its parameters, as JSON; folder and profile of its engines "
        "stand in server_config"
    )
    accelerator_nodes: str | None = _provenance(
        "nodes of the optimized model by what runs them, as JSON; a whole engine is one node"
    )
    engine_build_s: float | None = _metric(
        "time until a server that found no engines was ready; it logged everything", unit="s"
    )
    engine_cached: bool | None = _provenance("the engines of an earlier placement were used")
    graph_level: int | None = _resolved(
        "how far the backend optimizes the model; missing: its default", unit="1"
    )
    cuda_graphs: bool | None = _resolved("the tensorrt backend captures CUDA graphs")
    response_cache: bool | None = _resolved("the server answers repeated requests from a cache")
    rate_limiter: str | None = _resolved("resources and priority of an instance, as JSON")
    warmup_batch_sizes: tuple[int, ...] | None = _provenance(
        "batches that ran before the server was ready, so that no measurement waits for what is "
        "built at first use; missing: none",
        unit="1",
    )
    server_config: str | None = _provenance("the whole config.pbtxt that the server was given")
    own_config: bool | None = _provenance(
        "whether that is the model's own: no axis changes anything in it, as with "
        "accelerator: null of a model that has none"
    )
    server_ready_s: float | None = _metric(
        "from the start of Triton until ready; of a variant that replaced another one, from the "
        "order to load it",
        unit="s",
    )
    server_fresh: bool | None = _provenance("nothing else had been loaded on this server before")

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
    send_request_rate: float | None = _metric("rate at which requests were really sent", unit="1/s")
    delayed_requests_percent: float | None = _metric("requests sent too late", unit="%")
    request_count: int | None = _metric("requests completed in the windows counted", unit="1")

    # Time inside the server, mean per request
    server_request_us: float | None = _metric("whole request inside the server", unit="us")
    server_overhead_us: float | None = _metric("part of it that belongs to no stage", unit="us")
    server_queue_us: float | None = _metric(
        "waiting for an instance", unit="us", header="Server Queue"
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

    # Stability
    windows_throughput_infer_per_s: tuple[float, ...] | None = _metric(
        "throughput of each window until perf_analyzer stopped", unit="infer/s"
    )
    windows_latency_us: tuple[float, ...] | None = _metric(
        "latency of each window: mean, or the percentile asked for", unit="us"
    )

    overlap: float | None = _metric(
        "share of the counted time in which all models that were measured together were under "
        "their load; missing: measured alone",
        unit="1",
    )

    # The device meanwhile
    gpu_utilization_avg: float | None = _metric(
        "0 to 1, mean over GPUs, from Triton", unit="1", header="Avg GPU Utilization"
    )
    gpu_power_avg_w: float | None = _metric(
        "mean over GPUs, from Triton", unit="W", header="Avg GPU Power Usage"
    )
    gpu_memory_max_bytes: int | None = _metric(
        "sum over GPUs, from Triton; missing where server_fresh is false: Triton keeps some of "
        "the memory of what it held before",
        unit="B",
        header="Max GPU Memory Usage",
    )
    gpu_memory_total_bytes: int | None = _metric(
        "sum over GPUs, from Triton", unit="B", header="Total GPU Memory"
    )
    gpu_energy_j: float | None = _metric(
        "energy of the GPUs while perf_analyzer ran, from NVML; missing where several models "
        "were measured at the same time, because it cannot be divided among them",
        unit="J",
    )

    # Where, when and with what
    node: str | None = _provenance("host name")
    gpu_name: str | None = _hardware("name of the GPU, from NVML; missing: none")
    gpu_uuid: str | None = _provenance("its UUID; several are joined by commas")
    gpu_count: int | None = _hardware("GPUs that this worker saw", unit="1")
    gpu_driver: str | None = _hardware("version of NVIDIA's driver")
    pool_gpu: str | None = _provenance("the GPU that the site file promises; missing: none named")
    pool_gpu_count: int | None = _provenance("how many of it a job is promised", unit="1")
    cpu_name: str | None = _hardware("model of the CPU")
    cpu_count: int | None = _hardware("CPUs this worker was allowed to use", unit="1")
    memory_bytes: int | None = _provenance("main memory of the node", unit="B")
    kernel: str | None = _provenance("operating system and kernel")
    job_id: str | None = _provenance("id of the batch job")
    cuda_visible_devices: str | None = _provenance("the GPUs that the batch system gave to the job")
    runtime: str | None = _software("native | apptainer")
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
    command: str | None = _provenance("perf_analyzer's command line, as the campaign asks for it")
    figures_command: str | None = _provenance(
        "the command line of the three more windows that an unstable point's metrics come from"
    )
    exit_code: int | None = _outcome("perf_analyzer's; 128 + signal where a signal ended it")
    log_tail: str | None = _outcome("last lines of what went wrong")
    perf_analyzer_s: float | None = _metric("wall time inside perf_analyzer", unit="s")
    started_at: datetime | None = _provenance("start of the measurement, UTC")
    ended_at: datetime | None = _provenance("end of the measurement, UTC")
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
