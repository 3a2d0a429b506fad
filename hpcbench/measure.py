"""``measure(placement, site)``: the only function that does work on a worker."""

import hashlib
import json
import logging
import os
import shlex
import shutil
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from hpcbench import (
    container,
    engines,
    loaded,
    model_repository,
    node,
    perf_analyzer,
    preflight,
    process,
    triton,
)
from hpcbench._version import __version__
from hpcbench.container import Room
from hpcbench.errors import ServerFailed, UnusableNode
from hpcbench.grid import Point
from hpcbench.perf_analyzer import Outcome
from hpcbench.placement import Placement
from hpcbench.records import Record, Status
from hpcbench.runtime import Container
from hpcbench.site import Site

log = logging.getLogger(__name__)

SCRATCH_BYTES = 50_000_000


def measure(placement: Placement, site: Site, logs: Path) -> Generator[Record, None, None]:
    """Serves the placement's variant and measures its points, one record after the other.

    Each record is yielded before the next point starts, so that whoever iterates can make it
    durable, or stop between two points by closing the iterator. A point that cannot be measured
    is a record with its reason. ``logs`` is the folder for the server's log.

    Raises UnusableNode if nothing can be measured on this node.
    """
    try:
        yield from _measure(placement, site, logs)
    finally:
        container.sweep(site.container)


def _measure(placement: Placement, site: Site, logs: Path) -> Generator[Record, None, None]:
    site = site.serving(placement.variant.server_image)
    pool = site.pools[placement.pool]
    gpus = pool.gpus_per_job > 0
    check_scratch(container.scratch(site.container))
    held = preflight.check(site.container, gpus=gpus)
    tool = sdk_tool(site.container)
    waiting = deque(placement.points)
    while waiting:
        try:
            log_path = logs / f"{placement.id}.server.log"
            cpus = node.cpus(pool.cpus)
            built = engines.prepare(
                placement.variant,
                site.container,
                requests=placement.requests,
                log_path=log_path,
                cpus=cpus,
                gpus=gpus,
                tensorrt=held.tensorrt,
            )
            with triton.serve(
                placement.variant,
                site.container,
                log_path=log_path,
                cpus=cpus,
                gpus=gpus,
                requests=placement.requests,
                engines=built.folder,
            ) as server:
                while waiting and server.alive:
                    check_scratch(container.scratch(site.container))
                    point = waiting.popleft()
                    for record in _measure_point(point, placement, site, server, tool):
                        yield replace(record, **built.columns, **held.columns)
        except ServerFailed as error:
            status = Status.NOT_APPLICABLE if error.not_applicable else Status.FAILED
            while waiting:
                record = unmeasured(waiting.popleft(), placement, site, status, error.message)
                yield replace(
                    record, log_tail=error.log_tail or None, **node.facts(), **held.columns
                )


def check_scratch(scratch: Path) -> None:
    """Raises UnusableNode where a measurement could not keep its files; outputs would be cut."""
    problem = ""
    if not (scratch.is_dir() and os.access(scratch, os.W_OK)):
        problem = "is missing or not writable"
    elif not container.SAFE_PATH.fullmatch(str(scratch)):
        problem = f"has characters that Triton cannot take; allowed: {container.SAFE}"
    elif shutil.disk_usage(scratch).free < SCRATCH_BYTES:
        problem = f"has less than {SCRATCH_BYTES / 1e6:.0f} MB free"
    if problem:
        raise UnusableNode(
            f"{node.facts()['node']}: the scratch folder {scratch} {problem}",
            "set container.scratch in the site file to a folder on the node's own disk",
        )


@dataclass(frozen=True)
class Tool:
    """The installed perf_analyzer: its version, and the flags it knows."""

    version: str | None
    flags: frozenset[str]


@cache
def sdk_tool(sdk: Container) -> Tool:
    """The perf_analyzer of this node. Raises UnusableNode where it does not run."""
    with tempfile.TemporaryDirectory(prefix="hpcbench-", dir=container.scratch(sdk)) as folder:

        def said(*arguments: str) -> str:
            program = container.sdk(sdk, list(arguments), Room(folder=Path(folder)))
            answer = process.run(program.argv, folder=Path(folder), timeout_s=60, env=program.env)
            return answer.stdout + answer.stderr

        version = said("--version")
        # None of them has a flag for its usage text; all print it where the model is missing.
        usage = said()
    flags = perf_analyzer.known_flags(usage)
    if "-m" not in flags:
        raise UnusableNode(
            f"{node.facts()['node']}: perf_analyzer does not run here: {usage.strip()[:500]}",
            "start it there by hand, with --version",
        )
    words = version.split("Version")
    return Tool(words[1].split()[0] if len(words) > 1 else None, flags)


def unmeasured(
    point: Point, placement: Placement, site: Site, status: Status, reason: str | None
) -> Record:
    """The record of a point of which nothing is known but what was asked for."""
    variant = point.variant
    site = site.serving(variant.server_image)
    software = container.software(site.container)
    return Record(
        point_id=point.id,
        campaign=placement.campaign,
        site=site.name,
        pool=placement.pool,
        repeat=placement.repeat,
        placement_id=placement.id,
        status=status,
        reason=reason,
        model=variant.model.name,
        model_label=variant.label,
        model_position=variant.position,
        model_version=variant.version,
        model_digest=variant.model.digest,
        variant=json.dumps(variant.axes),
        variant_name=point.variant_name,
        shapes=json.dumps(dict(point.shapes)) if point.shapes else None,
        shapes_name=point.shapes_name,
        **point.load.columns,
        runtime=site.container.runtime,
        server_image=site.container.server_image,
        sdk_image=site.container.sdk_image,
        server_image_digest=software.server_digest,
        sdk_image_digest=software.sdk_digest,
        started_at=datetime.now(UTC),
        ended_at=datetime.now(UTC),
        hpcbench_version=__version__,
    )


def _measure_point(
    point: Point, placement: Placement, site: Site, server: triton.Server, tool: Tool
) -> Iterator[Record]:
    """The records of the models that it calls, if any, then that of the point itself.

    The last one makes the point done: what comes before it is on disk by then.
    """
    record = replace(
        unmeasured(point, placement, site, Status.FAILED, None),
        **node.facts(),
        **loaded.resolved(server.config),
        server_config=model_repository.as_text(server.asked),
        server_ready_s=server.ready_s,
        server_fresh=True,
        triton_version=server.version,
        perf_analyzer_version=tool.version,
    )
    energy_before = node.energy_j()
    outcome, extra = _run(point, site, server, tool, settle=True)
    if outcome.status is Status.UNSTABLE and server.alive:
        outcome, extra = _unsettled(
            outcome,
            extra,
            _run(point, site, server, tool, settle=False),
            point.load.percentile,
        )
    energy_after = node.energy_j()
    if energy_before is not None and energy_after is not None:
        extra["gpu_energy_j"] = energy_after - energy_before
    reason = outcome.reason
    if not server.alive:
        outcome = Outcome(Status.FAILED, outcome.reason, outcome.figures)
        reason = f"the server died during this point; {outcome.reason or 'no figures were lost'}"
        extra["log_tail"] = server.log_tail
    record = replace(
        record, **extra, status=outcome.status, reason=reason, ended_at=datetime.now(UTC)
    )
    for part in outcome.composing if server.alive else ():
        yield _part(record, point, part, server.config_of(part.model, part.version))
    yield replace(record, **outcome.figures)


def _part(
    record: Record, point: Point, part: perf_analyzer.Composing, config: ModelConfig
) -> Record:
    """The record of a model that an ensemble called, while that was measured."""
    called = next((m for m in point.variant.model.composing if m.name == part.model), None)
    text = f"{record.point_id}/{part.model}/{part.version}"
    return replace(
        record,
        **loaded.resolved(config),
        **part.figures,
        point_id=hashlib.sha256(text.encode()).hexdigest()[:16],
        part_of=record.point_id,
        model=part.model,
        model_label=f"{record.model_label} / {part.model}",
        model_version=part.version,
        model_digest=called.digest if called else None,
        shapes=None,
        server_config=model_repository.as_text(config),
    )


def _run(
    point: Point, site: Site, server: triton.Server, tool: Tool, *, settle: bool
) -> tuple[Outcome, dict[str, Any]]:
    """One run of perf_analyzer: its outcome, and the columns that tell how it was run."""
    load = point.load
    http = load.protocol == "http"
    words, lacking = perf_analyzer.fit_to(
        perf_analyzer.arguments(
            point,
            url=f"127.0.0.1:{server.http_port if http else server.grpc_port}",
            metrics_url=(
                f"127.0.0.1:{server.metrics_port}/metrics" if node.facts()["gpu_count"] else None
            ),
            settle=settle,
        ),
        tool.flags,
    )
    if lacking:
        reason = f"perf_analyzer {tool.version} does not know {', '.join(lacking)}"
        return Outcome(Status.FAILED, reason), {}
    data = load.input_data
    shows = () if data in ("random", "zero") else ((Path(data), Path(data)),)
    limit_s = perf_analyzer.timeout_s(load, settle=settle)
    inferences = perf_analyzer.inferences_per_request(point)
    scratch = container.scratch(site.container)
    with tempfile.TemporaryDirectory(prefix="hpcbench-", dir=scratch) as folder:
        # A bare name for -f, in the folder where it runs: else files of ensembles get lost.
        room = Room(
            folder=Path(folder), shows=shows, shm="" if load.shared_memory == "none" else server.shm
        )
        command = container.sdk(site.container, words, room)
        with container.alone(site.container) if load.shared_memory == "system" else nullcontext():
            done = process.run(
                command.argv, folder=Path(folder), timeout_s=limit_s, env=command.env
            )
        csv_texts = {path.name: path.read_text() for path in Path(folder).glob("*.csv")}
        outcome = perf_analyzer.read(
            stdout=done.stdout,
            stderr=done.stderr,
            csv_text=csv_texts.get(perf_analyzer.CSV_NAME),
            returncode=done.returncode,
            percentile=load.percentile,
            inferences_per_request=inferences,
        )
        parts = perf_analyzer.composing(
            stdout=done.stdout, csv_texts=csv_texts, inferences_per_request=inferences
        )
        outcome = replace(outcome, composing=parts)
    extra: dict[str, Any] = {
        "command": shlex.join(command.argv),
        "exit_code": done.returncode,
        "perf_analyzer_s": done.seconds,
    }
    if done.timed_out:
        reason = f"perf_analyzer was killed after {limit_s:.0f} s, the time computed for this point"
        outcome = Outcome(Status.TIMEOUT, reason, outcome.figures)
    if outcome.status in (Status.FAILED, Status.TIMEOUT):
        extra["log_tail"] = triton.last_lines(done.stdout + done.stderr) or None
    return outcome, extra


def _unsettled(
    first: Outcome,
    first_extra: Mapping[str, Any],
    rest: tuple[Outcome, Mapping[str, Any]],
    percentile: int | None,
) -> tuple[Outcome, dict[str, Any]]:
    """The record of a point that did not settle, with the figures of three more windows.

    The windows of the first run stay, because they show how far it was from settling.
    """
    outcome, extra = rest
    figures = {**outcome.figures, **first.figures}
    spent_s = first_extra["perf_analyzer_s"] + extra.get("perf_analyzer_s", 0.0)
    if "throughput_infer_per_s" in figures:
        reason = f"{first.reason}; the figures are those of three more windows"
    else:
        reason = f"{first.reason}; three more windows gave no figures: {outcome.reason}"
        figures |= _from_windows(first.figures, percentile)
    return (
        Outcome(Status.UNSTABLE, reason, figures, outcome.composing),
        {
            **first_extra,
            "perf_analyzer_s": spent_s,
            "figures_command": extra.get("command"),
        },
    )


def _from_windows(figures: Mapping[str, Any], percentile: int | None) -> dict[str, Any]:
    """The mean of the last three windows, where there is nothing better."""
    throughputs = figures.get("windows_throughput_infer_per_s", ())[-3:]
    latencies = figures.get("windows_latency_us", ())[-3:]
    if not throughputs:
        return {}
    latency = "latency_avg_us" if percentile is None else "latency_percentile_us"
    return {
        "throughput_infer_per_s": sum(throughputs) / len(throughputs),
        latency: sum(latencies) / len(latencies),
    }
