"""``measure(placement, site)``: the only function that does work on a worker."""

import logging
import shlex
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.site import Site
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.errors import ServerFailed
from hpcbench.measure import (
    capacity,
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
from hpcbench.measure.load_outcome import with_hint
from hpcbench.measure.load_run import GeneratorResult, LoadGenerator, run_under_load
from hpcbench.measure.meanwhile import Watch, observing, watch
from hpcbench.measure.open_loop import Schedule, write_intervals_file
from hpcbench.measure.perf_analyzer import PassPlan
from hpcbench.measure.perf_output import Outcome
from hpcbench.measure.preflight import InstalledPerfAnalyzer, check_scratch, installed_perf_analyzer
from hpcbench.measure.server import ServerOptions
from hpcbench.measure.server_death import wait_where_dead
from hpcbench.measure.server_statistics import in_flight_s, wait_until_idle
from hpcbench.plan import applicability, model_config
from hpcbench.plan.digest import hash_id
from hpcbench.plan.initial_record import initial_record
from hpcbench.plan.input_data import GENERATED_INPUT
from hpcbench.plan.placement import Placement, PointGroup
from hpcbench.plan.point import Point
from hpcbench.records.columns import Record, Status
from hpcbench.runtime import command as container
from hpcbench.runtime import process
from hpcbench.runtime.command import NodeAccess
from hpcbench.runtime.temporary import temporary_folder

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
    server: triton.RunningServer, waiting: deque[PointGroup], work: "_Work"
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
        server_log.cut(server.log_path)
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
    points: PointGroup, server: triton.RunningServer, work: _Work
) -> Iterator[tuple[Point, Record]]:
    """Measure points at the same time and yield their records, each with its point.

    The models that an ensemble calls come first: the ensemble's record says that the point is done,
    so the others must be on disk by then.
    """
    point = points[0]
    places = [(each, server.configs[server.variants.index(each.variant)]) for each in points]
    unfit = next(filter(None, (applicability.unfit_reason(*place) for place in places)), None)
    found: Iterator[tuple[Point, Outcome, dict[str, Any]]]
    if unfit is not None:
        found = ((each, Outcome(Status.NOT_APPLICABLE, unfit), {}) for each in points)
    elif point.load.is_search:
        found = ((point, each.outcome, each.columns) for each in _search(point, server, work))
    else:
        each_one = zip(points, _measure_load(points, server, work), strict=True)
        found = ((point, outcome, extra) for point, (outcome, extra) in each_one)
    for point, outcome, extra in found:
        record = _record(point, outcome, extra, server, work)
        for part in outcome.composing if server.alive and record.part_of is None else ():
            yield (
                point,
                _composing_record(record, point, part, server.config_of(part.model, part.version)),
            )
        metrics = dict(outcome.metrics)
        # Triton keeps some of the memory of the variants that it served before.
        if not server.fresh:
            metrics.pop("gpu_memory_max_bytes", None)
        yield point, replace(record, **metrics)


def _search(point: Point, server: triton.RunningServer, work: _Work) -> Iterator[capacity.Measured]:
    """Search for the capacity of the server that a point is measured on."""

    def run(load: LoadVariant) -> tuple[Outcome, dict[str, Any]]:
        ((outcome, extra),) = _measure_load((replace(point, load=load),), server, work)
        if not server.alive:
            outcome = replace(outcome, status=Status.FAILED)
        return outcome, extra

    placement = work.placement
    session = placement.session.run_id if placement.session else ""
    return capacity.search(point.id, point.load, f"{session}/{point.id}/{placement.repeat}", run)


def _record(
    point: Point, outcome: Outcome, extra: dict[str, Any], server: triton.RunningServer, work: _Work
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
        deploy_config=model_repository.config_pbtxt(
            model_config.to_deploy(point.variant, server.requests.get(point.variant.model.name, ()))
        ),
        server_ready_s=server.ready_s,
        server_fresh=server.fresh,
        network_isolated=bool(server.loopback.namespaces),
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
        needs=None,
        beside_configs=None,
        shapes=None,
        server_config=model_repository.config_pbtxt(config),
        deploy_config=None,
    )


def _measure_load(
    points: PointGroup, server: triton.RunningServer, work: _Work
) -> list[tuple[Outcome, dict[str, Any]]]:
    """Measure a point, or several at the same time, and return their outcomes.

    Models whose records an earlier job has kept are put under load again, without a record.
    """
    asked = {point.variant: point for point in points}
    others = [b for b in points[0].co_located if isinstance(b, Point) and b.variant not in asked]
    everyone = [*points, *others]
    plans = [perf_analyzer.first_plan(point.load) for point in everyone]
    times = work.placement.time_columns(datetime.now(UTC))
    spent_s = 0.0
    with observing(work.watch) as seen:
        while True:
            commands, results = _run_once(everyone, plans, server, work)
            if results is None:
                failed = [Outcome(Status.FAILED, reason) for reason in commands[: len(points)]]
                return [(each, times) for each in failed]
            spent_s += results[0].seconds
            better = [each.better_plan or plan for each, plan in zip(results, plans, strict=True)]
            if any(each.exit_code is not None for each in results):
                wait_where_dead(server)
            if better == plans or not server.alive:
                break
            plans = better
    left_s = max(in_flight_s(each.outcome.metrics) for each in results)
    if server.alive:
        wait_until_idle(work.watch.statistics, left_s)
    found = []
    for point, command, each in zip(everyone, commands, results, strict=True):
        extra: dict[str, Any] = {
            **times,
            "command": command,
            "exit_code": each.exit_code,
            "perf_analyzer_s": spent_s,
            "overlap": each.overlap,
        }
        if each.outcome.status in (Status.FAILED, Status.TIMEOUT):
            extra["log_tail"] = server_log.last_lines(each.printed) or None
        inferences = perf_analyzer.inferences_per_request(point)
        outcome = perf_analyzer.in_inferences(each.outcome, inferences)
        beside = [other.variant.model for other in everyone if other is not point]
        outcome = seen.added_to(outcome, point, each.counted, reports=each.reports, beside=beside)
        found.append((with_hint(outcome, point), extra))
    return found[: len(points)]


def _run_once(
    points: Sequence[Point], plans: Sequence[PassPlan], server: triton.RunningServer, work: _Work
) -> tuple[list[str], list[GeneratorResult] | None]:
    """Run one perf_analyzer for each point; return their command lines and their results.

    Without results, because one lacks a flag or a file has changed, the reasons stand in place of
    the command lines.
    """
    container_ = work.site.container
    scratch = container.scratch_folder(container_)
    system = any(point.load.shared_memory == "system" for point in points)
    with ExitStack() as stack:
        generators = []
        for point, plan in zip(points, plans, strict=True):
            # perf_analyzer puts the name of a composing model before the whole of -f. With a path
            # that file cannot be written, so it runs in this folder and -f is a bare name.
            folder = stack.enter_context(temporary_folder(scratch))
            command, lacking = _command(point, plan, server, work, folder)
            reason = write_intervals_file(point.load, folder)
            if lacking:
                reason = f"perf_analyzer {work.tool.version} does not know {', '.join(lacking)}"
            if reason is not None:
                return [reason] * len(points), None
            generators.append(
                LoadGenerator(
                    name=point.variant.label,
                    load=point.load,
                    plan=plan,
                    schedule=_schedule(point),
                    command=command,
                    folder=folder,
                )
            )
        if system:
            stack.enter_context(container.runtime_of(container_).exclusive_shared_memory())
        results = run_under_load(generators)
    return [shlex.join(generator.command.argv) for generator in generators], results


def _schedule(point: Point) -> Schedule | None:
    load = point.load
    if load.request_rate is None:
        return None
    # What perf_analyzer takes for an inference of a model without a batch dimension is a request.
    inferences = 1 if point.batch_in_shapes else load.batch_size
    return Schedule(
        rate=load.request_rate,
        poisson=load.request_distribution == "poisson",
        inferences=inferences,
        period_s=load.request_intervals_s,
    )


def _command(
    point: Point, plan: PassPlan, server: triton.RunningServer, work: _Work, folder: Path
) -> tuple[process.Command, list[str]]:
    """Return perf_analyzer's command in ``folder``, and its flags that it does not know."""
    load = point.load
    port = server.http_port if load.protocol == "http" else server.grpc_port
    words = perf_analyzer.arguments(point, url=port.address, plan=plan)
    data = load.input_data
    mounts = () if data in GENERATED_INPUT else container.linked_paths([Path(data)])
    shm = "" if load.shared_memory == "none" else server.shm
    # Tensors in the memory of a GPU are put there by perf_analyzer.
    gpus = load.shared_memory == "cuda"
    access = NodeAccess(folder=folder, mounts=mounts, shm_prefix=shm, gpus=gpus)
    runtime = container.runtime_of(work.site.container)
    # With intervals perf_analyzer ends after a report: it has no range that it could repeat.
    command = runtime.sdk_command(work.site.container, words, access, again=load.replays)
    unknown = perf_analyzer.unknown_flags(words, work.tool.flags)
    namespaces = server.loopback.namespaces
    return replace(command, cpus=work.cpus.client_cpus, namespaces=namespaces), unknown
