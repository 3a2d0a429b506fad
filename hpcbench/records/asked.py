"""The columns of a record that say what was asked for, and what the server loaded."""

from dataclasses import dataclass
from functools import partial

from hpcbench.records.roles import Role, column

_model = partial(column, Role.MODEL)
_server = partial(column, Role.SERVER)
_load = partial(column, Role.LOAD)
_call = partial(column, Role.CALL)
_window = partial(column, Role.WINDOW)
_place = partial(column, Role.PLACE)
_resolved = partial(column, Role.RESOLVED)
_identity = partial(column, Role.IDENTITY)
_outcome = partial(column, Role.OUTCOME)
_metric = partial(column, Role.METRIC)
_provenance = partial(column, Role.PROVENANCE)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One measurement before its metrics: which one it is, and what was asked for and loaded.

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
    run_id: str | None = _identity(
        "the session: one run of a campaign into a folder; the same in a run that continues it"
    )
    placement_id: str = _identity(
        "the Triton launch it belongs to; its server log has this name", required=True
    )
    together_id: str | None = _identity(
        "shared by the rows of models that were measured at the same time; missing: measured alone"
    )
    status: str = _outcome("ok | unstable | failed | timeout | not_applicable", required=True)
    reason: str | None = _outcome("why the status is not ok, in a sentence")

    placement_position: int | None = _provenance(
        "place of the point in the order of its placement, from 0", unit="1"
    )
    session_s: float | None = _provenance(
        "from the beginning of the session to the start of the measurement", unit="s"
    )
    part_of: str | None = _identity(
        "point_id of the ensemble that called this model, or of the search for a capacity whose "
        "step this is; missing: a measurement of its own"
    )
    capacity_step: int | None = _identity(
        "number of the step in that search, from 0; missing: no step"
    )

    # What was asked for
    model: str = _model("name of the model in its repository", required=True)
    model_label: str = _model("name of the model in figures", required=True)
    model_position: int | None = _provenance(
        "place of the model in its campaign, from 0; figures compare with the first", unit="1"
    )
    model_version: int | None = _model("the version asked for; missing: the server's choice")
    model_digest: str | None = _model(
        "hash of the model's files and its config.pbtxt, without caches"
    )
    variant: str | None = _server(
        "the server axes that the campaign changes, as JSON; others are as in config.pbtxt"
    )
    server_flags: str | None = _server(
        "options that tritonserver was started with besides hpcbench's own, as JSON; missing: none"
    )
    variant_name: str | None = _call("the campaign's name for this variant, if it has named ones")
    beside: str | None = _call(
        "what else the server held, as JSON: each model with its server axes and the load that "
        "ran at the same time, null where it had none; missing: nothing"
    )
    needs: str | None = _provenance(
        "models that it calls and that the server held for it, as JSON: the config.pbtxt of each "
        "by its name, as the server held it; missing: none, or an ensemble's only"
    )
    beside_configs: str | None = _provenance(
        "the config.pbtxt to deploy of each model of `beside`, and of those that it needs, as JSON "
        "by name; missing: nothing shared the server"
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
        "constant | poisson, of the times between them; intervals: those of a file, with the mean "
        "request_rate; missing: closed loop"
    )
    request_intervals: str | None = _provenance("the path of that file")
    request_intervals_digest: str | None = _load("hash of the intervals in it")
    request_intervals_s: float | None = _provenance(
        "how long it takes to play them as often as a window must, so that no third of it is empty",
        unit="s",
    )
    capacity_max_latency_p99_ms: float | None = _load(
        "the limit for which the highest rate is searched; missing: no search", unit="ms"
    )
    capacity_within: float | None = _load(
        "by how much the next rate that is tried is higher, as a fraction", unit="1"
    )
    arrivals_seed: int | None = _provenance(
        "seed from which hpcbench drew the arrivals of a step of a search, or of its end"
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
    stability_percentage: float | None = _window(
        "spread allowed among three windows; missing: stop_precision decides", unit="%"
    )
    max_trials: int | None = _window(
        "windows tried before the point is unstable; missing: stop_max_s decides", unit="1"
    )
    stop_precision: float | None = _window(
        "half of the 95 % intervals, over their means, that ends a point; missing: three windows "
        "that agree do",
        unit="1",
    )
    stop_max_s: float | None = _window("time after which it is unstable, likewise", unit="s")
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
    deploy_config: str | None = _provenance(
        "the config.pbtxt to deploy: the model's own with the server axes; the versions and the "
        "response cache, which measuring replaces, are as in the model's own"
    )
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
