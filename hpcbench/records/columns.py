"""The table of columns: every result of hpcbench is a row of these, and nothing else.

One frozen dataclass is the table. A field's annotation gives the type on disk, its metadata the
unit, the header under which perf_analyzer prints it, and the meaning. The Parquet schema, the
parser of perf_analyzer's CSV and the reference of columns are all read from it.
"""

import types
import typing
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa

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
"""What a later run does not try again."""

Key = tuple[str, str, int]
"""(point_id, pool, repeat): names one measurement."""


@dataclass(frozen=True)
class Column:
    """One column. ``header`` is perf_analyzer's name for it in its CSV, "" where it has none."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    header: str = ""


def _column(meaning: str, *, unit: str = "", header: str = "", default: Any = None) -> Any:
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "header": header})


def _key(meaning: str) -> Any:
    return field(metadata={"meaning": meaning, "unit": "", "header": ""})


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measurement of one point: what was asked, what came out, where and with what.

    A figure that is missing is None, never 0 or "".
    """

    # What it is
    point_id: str = _key("hash of everything that defines the point; the same on every site")
    campaign: str = _key("name of the campaign that measured it")
    site: str = _key("name of the site")
    pool: str = _key("name of the pool: one kind of node at the site")
    repeat: int = _key("0 for the first measurement of the point, 1 for the second, ...")
    placement_id: str = _key("the Triton launch it belongs to; its server log has this name")
    together_id: str | None = _column(
        "shared by the rows of models that were measured at the same time; missing: alone"
    )
    status: str = _key("ok | unstable | failed | timeout | not_applicable")
    reason: str | None = _column("why the status is not ok, in a sentence")

    part_of: str | None = _column(
        "point_id of the ensemble that called this model meanwhile; missing: measured itself"
    )

    # What was asked for
    model: str = _key("name of the model in its repository")
    model_label: str = _key("name of the model in figures")
    model_position: int | None = _column(
        "place of the model in its campaign, from 0; figures compare with the first", unit="1"
    )
    model_version: int | None = _column("the version asked for; missing: the server's choice")
    model_digest: str | None = _column("hash of the model's files and its config.pbtxt")
    variant: str | None = _column(
        "the server axes that the campaign changes, as JSON; others are as in config.pbtxt"
    )
    variant_name: str | None = _column("the campaign's name for this variant, if it has named ones")
    beside: str | None = _column(
        "what else the server held, as JSON: each model with its server axes and the load that "
        "ran at the same time, null where it was idle; missing: nothing"
    )
    shapes: str | None = _column(
        "the lengths given to the inputs, without the batch dimension, as JSON"
    )
    shapes_name: str | None = _column("the campaign's name for these shapes, if it has named ones")
    batch_size: int | None = _column(
        "inferences per request: perf_analyzer's -b, or the leading dimension of the inputs where "
        "max_batch_size is 0",
        unit="1",
    )
    concurrency: int | None = _column(
        "requests kept in flight: closed loop", unit="1", header="Concurrency"
    )
    request_rate: float | None = _column(
        "requests sent per second: open loop", unit="1/s", header="Request Rate"
    )
    request_distribution: str | None = _column(
        "constant | poisson, of the times between them; missing: closed loop"
    )
    protocol: str | None = _column("grpc | http")
    asynchronous: bool | None = _column("perf_analyzer used its asynchronous calls")
    streaming: bool | None = _column("requests and responses went through one gRPC stream")
    compression: str | None = _column("none | gzip | deflate, of gRPC requests")
    shared_memory: str | None = _column("none | system | cuda: how tensors reached the server")
    output_shared_memory_bytes: int | None = _column(
        "room for each output whose size varies, in shared memory; missing: 100 KB",
        unit="B",
    )
    max_threads: int | None = _column(
        "most threads of perf_analyzer; missing: its own choice", unit="1"
    )
    measurement_mode: str | None = _column("time_windows | count_windows: what ends a window")
    measurement_interval_ms: int | None = _column(
        "length of a window; with count_windows, the length that is expected", unit="ms"
    )
    measurement_request_count: int | None = _column(
        "requests in a window at least, with count_windows", unit="1"
    )
    stability_percentage: float | None = _column("spread allowed among three windows", unit="%")
    max_trials: int | None = _column("windows tried before the point is unstable", unit="1")
    percentile: int | None = _column("the percentile by which it was asked to settle", unit="%")
    input_data: str | None = _column("random | zero | the path of the file or folder")
    input_data_digest: str | None = _column("hash of the file or folder")
    string_length: int | None = _column("letters of each random text, BYTES inputs only", unit="1")
    string_data: str | None = _column("the text sent as each element, BYTES inputs only")

    # What the server says that it loaded
    platform: str | None = _column("the model's platform or backend")
    max_batch_size: int | None = _column("largest batch the model takes", unit="1")
    instance_count: int | None = _column("model instances, over all groups", unit="1")
    instance_kind: str | None = _column("KIND_CPU | KIND_GPU | ..., of the instances")
    gpus: tuple[int, ...] | None = _column(
        "GPUs of the instances, counted from 0 among those of the job", unit="1"
    )
    dynamic_batching: bool | None = _column("the server joins requests into batches")
    preferred_batch_size: tuple[int, ...] | None = _column(
        "batches the server tries to form; missing: no dynamic batching", unit="1"
    )
    max_queue_delay_us: int | None = _column("how long the server waits for them", unit="us")
    preserve_ordering: bool | None = _column("responses in the order of requests")
    priority_levels: int | None = _column("priorities that requests may have; 0: none", unit="1")
    default_priority_level: int | None = _column("that of a request that names none", unit="1")
    default_queue_policy: str | None = _column("what happens to requests that wait, as JSON")
    accelerator: str | None = _column(
        "execution accelerator with its parameters, as JSON; folder and profile of its engines "
        "stand in server_config"
    )
    accelerator_nodes: str | None = _column(
        "nodes of the optimized model by what runs them, as JSON; a whole engine is one node"
    )
    engine_build_s: float | None = _column(
        "time until a server was ready that found no engines; it logged all that it did", unit="s"
    )
    engine_cached: bool | None = _column("engines were there already, of an earlier placement")
    graph_level: int | None = _column(
        "how far the backend optimizes the model; missing: its default", unit="1"
    )
    cuda_graphs: bool | None = _column("the tensorrt backend captures CUDA graphs")
    response_cache: bool | None = _column("the server answers repeated requests from a cache")
    rate_limiter: str | None = _column("resources and priority of an instance, as JSON")
    warmup_batch_sizes: tuple[int, ...] | None = _column(
        "batches that ran before the server was ready, so that no measurement waits for what is "
        "built at first use; missing: none",
        unit="1",
    )
    server_config: str | None = _column("the whole config.pbtxt that the server was given")
    own_config: bool | None = _column(
        "whether that is the model's own: no axis changes anything in it, as accelerator: null of "
        "a model that has none"
    )
    server_ready_s: float | None = _column(
        "from the start of Triton until ready; of a variant that came in the place of another, "
        "from the order to swap them",
        unit="s",
    )
    server_fresh: bool | None = _column("nothing else had been loaded on this server before")

    # Throughput and latency, as perf_analyzer saw them
    throughput_infer_per_s: float | None = _column(
        "inferences completed per second: requests times batch_size; where max_batch_size is 0, "
        "perf_analyzer itself prints requests",
        unit="infer/s",
        header="Inferences/Second",
    )
    response_throughput_per_s: float | None = _column(
        "responses per second, decoupled models only", unit="1/s", header="Response Throughput"
    )
    latency_avg_us: float | None = _column(
        "mean time of a request; where a percentile was asked for, perf_analyzer leaves this "
        "column out and its mean gRPC or HTTP time stands here",
        unit="us",
        header="Avg latency",
    )
    latency_std_us: float | None = _column("its standard deviation over requests", unit="us")
    latency_p50_us: float | None = _column("median", unit="us", header="p50 latency")
    latency_p90_us: float | None = _column("90th percentile", unit="us", header="p90 latency")
    latency_p95_us: float | None = _column("95th percentile", unit="us", header="p95 latency")
    latency_p99_us: float | None = _column("99th percentile", unit="us", header="p99 latency")
    latency_percentile_us: float | None = _column(
        "the percentile named in the column percentile", unit="us"
    )
    client_send_us: float | None = _column("client: sending", unit="us", header="Client Send")
    client_recv_us: float | None = _column("client: receiving", unit="us", header="Client Recv")
    network_us: float | None = _column(
        "between client and server, both ways", unit="us", header="Network+Server Send/Recv"
    )
    client_request_response_us: float | None = _column(
        "client: packing and unpacking", unit="us", header="request/response"
    )
    client_response_wait_us: float | None = _column(
        "client: waiting for the response", unit="us", header="response wait"
    )
    client_overhead_percent: float | None = _column(
        "share of the time that perf_analyzer spent on itself", unit="%"
    )
    send_request_rate: float | None = _column("rate that was really sent", unit="1/s")
    delayed_requests_percent: float | None = _column("requests sent too late", unit="%")
    request_count: int | None = _column("requests completed in the windows counted", unit="1")

    # Time inside the server, mean per request
    server_request_us: float | None = _column("whole request inside the server", unit="us")
    server_overhead_us: float | None = _column("of it, accounted to no stage", unit="us")
    server_queue_us: float | None = _column(
        "waiting for an instance", unit="us", header="Server Queue"
    )
    server_compute_input_us: float | None = _column(
        "preparing the inputs", unit="us", header="Server Compute Input"
    )
    server_compute_infer_us: float | None = _column(
        "the model itself", unit="us", header="Server Compute Infer"
    )
    server_compute_output_us: float | None = _column(
        "preparing the outputs", unit="us", header="Server Compute Output"
    )
    server_cache_hit_us: float | None = _column(
        "response cache, hits", unit="us", header="Server Cache Hit"
    )
    server_cache_miss_us: float | None = _column(
        "response cache, misses", unit="us", header="Server Cache Miss"
    )
    inference_count: int | None = _column("inferences the server says it made", unit="1")
    execution_count: int | None = _column("batches it made them in", unit="1")
    success_count: int | None = _column("requests it answered", unit="1")

    # Stability
    windows_throughput_infer_per_s: tuple[float, ...] | None = _column(
        "throughput of each window until it settled or gave up", unit="infer/s"
    )
    windows_latency_us: tuple[float, ...] | None = _column(
        "latency of each window: mean, or the percentile asked for", unit="us"
    )

    overlap: float | None = _column(
        "share of the counted time in which all models that were measured together were under "
        "their load; missing: measured alone",
        unit="1",
    )

    # The device meanwhile
    gpu_utilization_avg: float | None = _column(
        "0 to 1, mean over GPUs, from Triton", unit="1", header="Avg GPU Utilization"
    )
    gpu_power_avg_w: float | None = _column(
        "mean over GPUs, from Triton", unit="W", header="Avg GPU Power Usage"
    )
    gpu_memory_max_bytes: int | None = _column(
        "sum over GPUs, from Triton; missing where server_fresh is false: Triton keeps some of "
        "the memory of what it held before",
        unit="B",
        header="Max GPU Memory Usage",
    )
    gpu_memory_total_bytes: int | None = _column(
        "sum over GPUs, from Triton", unit="B", header="Total GPU Memory"
    )
    gpu_energy_j: float | None = _column(
        "drawn by the GPUs while perf_analyzer ran, from NVML; missing where several models "
        "were measured at the same time, as it cannot be told whose it was",
        unit="J",
    )

    # Where, when and with what
    node: str | None = _column("host name")
    gpu_name: str | None = _column("name of the GPU, from NVML; missing: none")
    gpu_uuid: str | None = _column("its UUID; several are joined by commas")
    gpu_count: int | None = _column("GPUs that this worker saw", unit="1")
    gpu_driver: str | None = _column("version of NVIDIA's driver")
    cpu_name: str | None = _column("model of the processor")
    cpu_count: int | None = _column("processors this worker was allowed to use", unit="1")
    memory_bytes: int | None = _column("main memory of the node", unit="B")
    kernel: str | None = _column("operating system and kernel")
    job_id: str | None = _column("id of the batch job")
    cuda_visible_devices: str | None = _column("the GPUs that the batch system gave to the job")
    runtime: str | None = _column("native | apptainer")
    server_image: str | None = _column("Triton's image as the site file names it; missing: none")
    sdk_image: str | None = _column("perf_analyzer's image, likewise")
    server_image_digest: str | None = _column("digest of the image or prefix Triton ran from")
    sdk_image_digest: str | None = _column("digest of the one perf_analyzer ran from")
    triton_version: str | None = _column("as the server says")
    backend_versions: str | None = _column(
        "of Triton's backends and what they run on, as JSON; null where the image does not say it"
    )
    cuda_version: str | None = _column(
        "CUDA in the server's image, as the image says; missing: none"
    )
    tensorrt_version: str | None = _column("TensorRT in it, likewise")
    perf_analyzer_version: str | None = _column("as it says itself")
    command: str | None = _column("perf_analyzer's command line, as the campaign asks for it")
    figures_command: str | None = _column(
        "the command line of the three more windows that an unstable point's figures come from"
    )
    exit_code: int | None = _column("perf_analyzer's; 128 + signal where a signal ended it")
    log_tail: str | None = _column("last lines of what went wrong")
    perf_analyzer_s: float | None = _column("wall time inside perf_analyzer", unit="s")
    started_at: datetime | None = _column("start of the measurement, UTC")
    ended_at: datetime | None = _column("end of the measurement, UTC")
    hpcbench_version: str | None = _column("version of hpcbench")

    @property
    def key(self) -> Key:
        """What names this measurement among all others."""
        return self.point_id, self.pool, self.repeat


_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
    tuple[int, ...]: pa.list_(pa.int64()),
    tuple[float, ...]: pa.list_(pa.float64()),
}


def _arrow_type(annotation: Any) -> pa.DataType:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return _TYPES[annotation]


COLUMNS: tuple[Column, ...] = tuple(
    Column(
        name=entry.name,
        type=_arrow_type(entry.type),
        unit=entry.metadata["unit"],
        meaning=entry.metadata["meaning"],
        header=entry.metadata["header"],
    )
    for entry in fields(Record)
)

SCHEMA = pa.schema(
    [pa.field(c.name, c.type, metadata={"unit": c.unit, "meaning": c.meaning}) for c in COLUMNS],
    metadata={"hpcbench_schema": str(SCHEMA_VERSION)},
)
