"""``measure(placement, site)``: the only function that does work on a worker."""

import logging
import shlex
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpcbench.config.site import Site
from hpcbench.config.triton_messages import ModelConfig
from hpcbench.errors import ServerFailed
from hpcbench.measure import (
    concurrent,
    engines,
    loaded_config,
    model_repository,
    node,
    outputs,
    perf_analyzer,
    perf_output,
    preflight,
    server_log,
    variants,
)
from hpcbench.measure import server as triton
from hpcbench.measure.meanwhile import Watch, observing_run, watch
from hpcbench.measure.perf_output import Outcome
from hpcbench.measure.preflight import InstalledPerfAnalyzer, check_scratch, installed_perf_analyzer
from hpcbench.measure.server import ServerOptions
from hpcbench.plan.initial_record import initial_record
from hpcbench.plan.model import GENERATED_INPUT, hash_id
from hpcbench.plan.placement import Placement, PointGroup
from hpcbench.plan.point import Point
from hpcbench.records.columns import Record, Status
from hpcbench.runtime import command as container
from hpcbench.runtime import process
from hpcbench.runtime.command import NodeAccess

log = logging.getLogger(__name__)


def measure(placement: Placement, site: Site, logs: Path) -> Generator[Record, None, None]:
    """Serve the variants of a placement and measure its points on this node.

    Each record is yielded before the next point starts. The caller can write it to disk first,
    or stop between two points by closing the iterator. Records of points that are measured
    together come one after the other. A point that cannot be measured is a record with a reason.

    Parameters
    ----------
    placement
        What to serve and which points to measure on it.
    site
        The site with the pool that this node belongs to.
    logs
        The folder for the server's log, named after the placement.

    Yields
    ------
    Record
        One for each point; before an ensemble's, one for each model that the ensemble calls.

    Raises
    ------
    UnusableNode
        If nothing can be measured on this node.
    """
    try:
        yield from _measure(placement, site, logs)
    finally:
        container.runtime_of(site.container).kill_orphans()


def _measure(placement: Placement, site: Site, logs: Path) -> Generator[Record, None, None]:
    site = site.with_server_image(placement.server_image)
    pool = site.pools[placement.pool]
    gpus = pool.gpus_per_job > 0
    check_scratch(container.scratch_folder(site.container))
    contents = preflight.check_images(site.container, gpus=gpus)
    # Read once: if a GPU fails later, the records that say so must still have its name.
    columns = {**node.node_columns(), **contents.columns}
    cpus = node.divided_cpus(pool.cpus)
    options = ServerOptions(
        cpus=cpus.server, pinned=cpus.server_cpus, gpus=gpus, requests=dict(placement.requests)
    )
    log_path = logs / f"{placement.id}.server.log"
    waiting = deque(placement.point_groups)
    with ThreadPoolExecutor(1) as background:
        # In the background, because starting a server is mostly waiting. No record is made before
        # its result: if perf_analyzer does not run, the node is to blame, not the point.
        tool = background.submit(installed_perf_analyzer, site.container)
        while waiting:
            served = waiting[0][0].served
            preflight.check_unchanged(site.container)
            try:
                built = {
                    variant: engines.prepare_engines(
                        variant, site.container, log_path, options, contents.tensorrt
                    )
                    for variant in served
                }
                folders = {v.model.name: e.folder for v, e in built.items() if e.folder}
                right = outputs.references(served, site.container, log_path, options)
                swaps = waiting[-1][0].served != served
                own = replace(options, engines=folders, poll_repository=swaps)
                with triton.serve(served, site.container, log_path, own) as server:
                    compared = outputs.output_columns(server, right)
                    watched = watch(server, gpus=gpus)
                    own_columns = {**columns, **watched.columns}
                    work = _Work(placement, site, own_columns, tool.result(), watched, cpus)
                    for point, record in _measure_on(server, waiting, work):
                        engine = built[point.variant].columns if point.variant in built else {}
                        yield replace(record, **engine, **compared.get(record.model_label, {}))
            except ServerFailed as error:
                # Raises UnusableNode if perf_analyzer does not run either.
                tool.result()
                status = Status.NOT_APPLICABLE if error.not_applicable else Status.FAILED
                while waiting and waiting[0][0].served == served:
                    for point in waiting.popleft():
                        record = initial_record(point, placement, site, status, error.message)
                        yield replace(record, log_tail=error.log_tail or None, **columns)


def _measure_on(
    server: triton.Server, waiting: deque[PointGroup], work: "_Work"
) -> Iterator[tuple[Point, Record]]:
    """Measure waiting points until they need a server that this one cannot be swapped to.

    After a failed point the next variant gets a new server, because this one may be broken.
    """
    failed = False
    while waiting and server.alive:
        served = waiting[0][0].served
        if served != server.variants:
            if failed:
                return
            try:
                server = variants.swap_variants(server, served)
            except ServerFailed as error:
                log.warning("variants not swapped, starting a new server: %s", error)
                return
        check_scratch(container.scratch_folder(work.site.container))
        preflight.check_unchanged(work.site.container)
        points = waiting.popleft()
        for point, record in _measure_points(points, server, work):
            failed |= record.status in (Status.FAILED, Status.TIMEOUT)
            yield point, record


@dataclass(frozen=True)
class _Work:
    """What every measurement of a placement needs, with the columns of the node."""

    placement: Placement
    site: Site
    columns: Mapping[str, Any]
    tool: InstalledPerfAnalyzer
    watch: Watch
    cpus: node.CpuSets


def _measure_points(
    points: PointGroup, server: triton.Server, work: _Work
) -> Iterator[tuple[Point, Record]]:
    """Measure points at the same time and yield their records, each with its point.

    The models that an ensemble calls come first: the ensemble's record says that the point is done,
    so the others must be on disk by then.
    """
    started_at = datetime.now(UTC)
    if points[0].together_id is None:
        outcomes = [_measure_isolated(points[0], server, work)]
    else:
        outcomes = _measure_concurrent(points, server, work)
    for point, (outcome, extra) in zip(points, outcomes, strict=True):
        record = _record(point, outcome, extra | {"started_at": started_at}, server, work)
        for part in outcome.composing if server.alive else ():
            yield (
                point,
                _composing_record(record, point, part, server.config_of(part.model, part.version)),
            )
        metrics = dict(outcome.metrics)
        # Triton keeps some of the memory of the variants that it served before.
        if not server.fresh:
            metrics.pop("gpu_memory_max_bytes", None)
        yield point, replace(record, **metrics)


def _record(
    point: Point, outcome: Outcome, extra: dict[str, Any], server: triton.Server, work: _Work
) -> Record:
    """Return the record of a point without the metrics."""
    status, reason = outcome.status, outcome.reason
    if not server.alive:
        status = Status.FAILED
        reason = f"the server died during this point; {reason or 'no metrics were lost'}"
        extra["log_tail"] = server.log_tail
    place = server.variants.index(point.variant)
    return replace(
        initial_record(point, work.placement, work.site, status, reason),
        **work.columns,
        **loaded_config.resolved_columns(server.configs[place]),
        server_config=model_repository.config_pbtxt(server.asked[place]),
        server_ready_s=server.ready_s,
        server_fresh=server.fresh,
        triton_version=server.version,
        perf_analyzer_version=work.tool.version,
        **extra,
        ended_at=datetime.now(UTC),
    )


def _composing_record(
    record: Record, point: Point, part: perf_output.ComposingModel, config: ModelConfig
) -> Record:
    """Return the record of a model that an ensemble called while it was measured."""
    called = next((m for m in point.variant.model.composing if m.name == part.model), None)
    text = f"{record.point_id}/{part.model}/{part.version}"
    return replace(
        record,
        **loaded_config.resolved_columns(config),
        **part.metrics,
        point_id=hash_id(text),
        part_of=record.point_id,
        model=part.model,
        model_label=f"{record.model_label} / {part.model}",
        model_version=part.version,
        model_digest=called.digest if called else None,
        shapes=None,
        server_config=model_repository.config_pbtxt(config),
    )


def _measure_isolated(
    point: Point, server: triton.Server, work: _Work
) -> tuple[Outcome, dict[str, Any]]:
    outcome, extra = _run_perf_analyzer(point, server, work, settle=True)
    if outcome.status is Status.UNSTABLE and server.alive:
        outcome, extra = _join_runs(
            outcome,
            extra,
            _run_perf_analyzer(point, server, work, settle=False),
            point.load.percentile,
        )
    return outcome, extra


def _measure_concurrent(
    points: PointGroup, server: triton.Server, work: _Work
) -> list[tuple[Outcome, dict[str, Any]]]:
    """Measure points at the same time and return their outcomes.

    Models whose records an earlier job has kept are put under load again, without a record.
    """
    asked = {point.variant: point for point in points}
    others = [b for b in points[0].co_located if isinstance(b, Point) and b.variant not in asked]
    everyone = [*points, *others]
    scratch = container.scratch_folder(work.site.container)
    with ExitStack() as stack:
        generators = []
        for point in everyone:
            folder = tempfile.TemporaryDirectory(prefix="hpcbench-", dir=scratch)
            place = Path(stack.enter_context(folder))
            command, lacking = _command(point, server, work, place, endless=True)
            if lacking:
                reason = f"perf_analyzer {work.tool.version} does not know {', '.join(lacking)}"
                return [(Outcome(Status.FAILED, reason), {}) for _ in points]
            generators.append(
                concurrent.LoadGenerator(point.variant.label, point.load, command, place)
            )
        results = concurrent.run_concurrently(generators)
    found = []
    for point, generator, each in zip(everyone, generators, results, strict=True):
        extra: dict[str, Any] = {
            "command": shlex.join(generator.command.argv),
            "exit_code": each.exit_code,
            "perf_analyzer_s": each.seconds,
            "overlap": each.overlap,
        }
        if each.outcome.status in (Status.FAILED, Status.TIMEOUT):
            extra["log_tail"] = server_log.last_lines(each.printed) or None
        inferences = perf_analyzer.inferences_per_request(point)
        found.append((perf_analyzer.in_inferences(each.outcome, inferences), extra))
    return found[: len(points)]


def _command(
    point: Point, server: triton.Server, work: _Work, folder: Path, **how: bool
) -> tuple[process.Command, list[str]]:
    """Return perf_analyzer's command in ``folder``, and needed flags that it does not know."""
    load = point.load
    metrics_url = f"127.0.0.1:{server.metrics_port}/metrics" if work.columns["gpu_count"] else None
    words, lacking = perf_analyzer.drop_unknown_flags(
        perf_analyzer.arguments(
            point,
            url=f"127.0.0.1:{server.http_port if load.protocol == 'http' else server.grpc_port}",
            metrics_url=None if point.together_id else metrics_url,
            **how,
        ),
        work.tool.flags,
    )
    data = load.input_data
    mounts = () if data in GENERATED_INPUT else container.linked_paths([Path(data)])
    shm = "" if load.shared_memory == "none" else server.shm
    access = NodeAccess(folder=folder, mounts=mounts, shm_prefix=shm)
    runtime = container.runtime_of(work.site.container)
    command = runtime.sdk_command(work.site.container, words, access)
    return replace(command, cpus=work.cpus.client_cpus), lacking


def _run_perf_analyzer(
    point: Point, server: triton.Server, work: _Work, *, settle: bool
) -> tuple[Outcome, dict[str, Any]]:
    """Run perf_analyzer once; return its outcome, and columns that say how it was run."""
    load = point.load
    limit_s = perf_analyzer.timeout_s(load, settle=settle)
    inferences = perf_analyzer.inferences_per_request(point)
    scratch = container.scratch_folder(work.site.container)
    with tempfile.TemporaryDirectory(prefix="hpcbench-", dir=scratch) as name:
        # perf_analyzer puts the name of a composing model before the whole of -f. With a path that
        # file cannot be written, so it runs in this folder and -f is a bare name.
        folder = Path(name)
        command, lacking = _command(point, server, work, folder, settle=settle)
        if lacking:
            reason = f"perf_analyzer {work.tool.version} does not know {', '.join(lacking)}"
            return Outcome(Status.FAILED, reason), {}
        system = load.shared_memory == "system"
        with (
            container.runtime_of(work.site.container).exclusive_shared_memory()
            if system
            else nullcontext(),
            observing_run(work.watch, folder / "stdout.txt") as observed,
        ):
            done = process.run(command, folder=folder, timeout_s=limit_s)
        written = folder / perf_output.CSV_NAME
        outcome = perf_output.parse_run(
            stdout=done.stdout,
            stderr=done.stderr,
            csv_text=written.read_text() if written.is_file() else None,
            returncode=done.returncode,
            percentile=load.percentile,
        )
    extra: dict[str, Any] = {
        "command": shlex.join(command.argv),
        "exit_code": done.returncode,
        "perf_analyzer_s": done.seconds,
    }
    if done.timed_out:
        reason = f"perf_analyzer was killed after {limit_s:.0f} s, the time computed for this point"
        outcome = Outcome(Status.TIMEOUT, reason, outcome.metrics)
    if outcome.status in (Status.FAILED, Status.TIMEOUT):
        extra["log_tail"] = server_log.last_lines(done.stdout + done.stderr) or None
    return observed(perf_analyzer.in_inferences(outcome, inferences), point), extra


def _join_runs(
    first: Outcome,
    first_extra: Mapping[str, Any],
    rest: tuple[Outcome, Mapping[str, Any]],
    percentile: int | None,
) -> tuple[Outcome, dict[str, Any]]:
    """Add the metrics of three more windows to the outcome of a point that did not settle.

    The windows of the first run stay, because they show how far it was from settling.
    """
    outcome, extra = rest
    metrics = {**outcome.metrics, **first.metrics}
    spent_s = first_extra["perf_analyzer_s"] + extra.get("perf_analyzer_s", 0.0)
    if "throughput_infer_per_s" in metrics:
        reason = f"{first.reason}; the metrics are those of three more windows"
    else:
        reason = f"{first.reason}; three more windows gave no metrics: {outcome.reason}"
        metrics |= _from_windows(first.metrics, percentile)
    return (
        Outcome(Status.UNSTABLE, reason, metrics, outcome.composing),
        {
            **first_extra,
            "perf_analyzer_s": spent_s,
            "figures_command": extra.get("command"),
        },
    )


def _from_windows(metrics: Mapping[str, Any], percentile: int | None) -> dict[str, Any]:
    """Return the mean of the last three windows, if there is nothing better."""
    throughputs = metrics.get("windows_throughput_infer_per_s", ())[-3:]
    latencies = metrics.get("windows_latency_us", ())[-3:]
    if not throughputs:
        return {}
    latency = "latency_avg_us" if percentile is None else "latency_percentile_us"
    return {
        "throughput_infer_per_s": sum(throughputs) / len(throughputs),
        latency: sum(latencies) / len(latencies),
    }
