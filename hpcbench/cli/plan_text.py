"""Prints a plan: the points, the servers, what is left out and why, and the time it takes."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from hpcbench.cli.console import line_width, print_folded, print_lines
from hpcbench.cli.point_text import axis_texts, counted, duration, served_text, variant_text
from hpcbench.cli.table import TableColumn, server_columns, table_lines

if TYPE_CHECKING:
    # Only for annotations: these import Dask and pandas, which `hpcbench plan` does not need.
    from hpcbench.plan.grid import Grid
    from hpcbench.plan.model import TritonModel
    from hpcbench.plan.plan import Plan
    from hpcbench.plan.point import Point


def print_plan(todo: "Plan", console: Console) -> None:
    """Print what a plan measures, what it leaves out and why, and how long it takes.

    Parameters
    ----------
    todo
        The plan.
    console
        Where to print.
    """
    text = (
        f"{todo.campaign.name} on {todo.site.name}: "
        f"{counted(len(todo.grid.points), 'point')} x "
        f"{counted(todo.campaign.repeats, 'repeat')} x "
        f"{counted(len(todo.placements), 'pool')} = "
        f"{counted(todo.measurements, 'measurement')}"
    )
    print_folded(console, text, "bold")
    print_lines(console, _plan_table(todo, line_width(console)))
    _print_grid(todo.grid, console)
    for text in todo.hints:
        print_folded(console, text, "yellow")
    _print_inapplicable(todo, console)
    text = f"estimated time: {duration(todo.estimate_s)}; unstable points take longer"
    print_folded(console, text)
    if todo.gpu_hours:
        print_folded(console, f"estimated cost: {_gpu_hours_text(todo.gpu_hours)}")


def _gpu_hours_text(hours: Mapping[str, float]) -> str:
    """The GPU hours in total, and where there are several pools, of each."""
    total = f"{_rounded(sum(hours.values()))} GPU hours"
    parts = ", ".join(f"{name} {_rounded(each)}" for name, each in hours.items())
    return f"{total}: {parts}" if len(hours) > 1 else total


def _rounded(hours: float) -> str:
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def print_checks(
    todo: "Plan", to_do: Sequence[str], not_checked: Sequence[str], console: Console
) -> None:
    """Print what the programs run in, what a run still needs, and what was not checked.

    Parameters
    ----------
    todo
        The plan.
    to_do
        What its user has to do before a run.
    not_checked
        What of the site could not be looked at from this host.
    console
        Where to print.
    """
    container = todo.site.container
    if container.has_images:
        server, sdk = container.images
        print_folded(console, f"containers: {container.runtime}, {server}, {sdk}")
    for title, lines in (("before a run", to_do), ("not checked from here", not_checked)):
        if lines:
            print_folded(console, f"{title}:")
        for line in lines:
            print_folded(console, f"  {line}")


def print_completed(completed: Mapping[str, "TritonModel"], console: Console) -> None:
    """Print what Triton completes of models that leave it to the server.

    Parameters
    ----------
    completed
        The models as it completes them, by name.
    console
        Where to print.
    """
    for name, model in completed.items():
        on = "dynamic batching" if model.dynamic_batching else "no dynamic batching"
        inputs = ", ".join(f"{tensor} {list(dims)}" for tensor, dims in model.inputs or ())
        text = f"Triton completes {name}: max_batch_size {model.max_batch_size}, {on}; {inputs}"
        print_folded(console, text)


MOST_SERVERS = 1000
"""That are shown of a pool. Nobody reads more, and a campaign may have a million of them."""


def _plan_table(todo: "Plan", width: int | None) -> list[Text]:
    """A row for each server of each pool."""
    cells: list[tuple[str, ...]] = []
    servers = []
    more = 0
    for pool, placements in todo.placements.items():
        groups: dict[Any, list[Any]] = {}
        for placement in placements:
            for served, member in placement.by_served:
                groups.setdefault(served, []).append(member)
        more += max(0, len(groups) - MOST_SERVERS)
        for served, members in itertools.islice(groups.items(), MOST_SERVERS):
            points = [point for member in members for point in member.points]
            batches = sorted({point.load.batch_size for point in points})
            servers.append([axis_texts(json.dumps(each.axes)) for each in served])
            cells.append(
                (
                    " + ".join(map(served_text, served)),
                    pool,
                    " ".join(_loads(points)),
                    " ".join(map(str, batches)),
                    f"{len(members)} x {duration(members[0].estimate_s)}",
                )
            )
    if not cells:
        return []
    names = ("model", "pool", _load_name(todo.grid.points), "batch size", "placements")
    model, where, load, batch, last = (
        TableColumn(name, texts, tuple(f"{name} {text}" for text in texts), name == "placements")
        for name, texts in zip(names, zip(*cells, strict=True), strict=True)
    )
    model = replace(model, phrases=model.texts)
    lines = table_lines([where, model, *server_columns(servers), load, batch], [last], width)
    if more:
        lines.append(Text(f"and {counted(more, 'more server')}; --json has all"))
    return lines


def _load_name(points: Iterable["Point"]) -> str:
    closed = {point.load.concurrency is not None for point in points}
    return "load" if len(closed) > 1 else "concurrency" if True in closed else "request rate"


def _loads(points: Iterable["Point"]) -> list[str]:
    """The loads of some points: concurrencies, rates with their unit, files, then searches."""
    loads = {p.load for p in points}
    closed = {each.concurrency for each in loads if each.concurrency is not None}
    rates = {each.request_rate for each in loads if each.request_rate and not each.replays}
    files = {Path(each.request_intervals).name for each in loads if each.request_intervals}
    limits = {each.capacity_max_latency_p99_ms for each in loads if each.is_search}
    return [
        *map(str, sorted(closed)),
        *(f"{rate:g}/s" for rate in sorted(rates)),
        *sorted(files),
        *(f"capacity({limit:g}ms)" for limit in sorted(filter(None, limits))),
    ]


def _print_grid(grid: "Grid", console: Console) -> None:
    """Combinations of the axes that are no points, and parts of the campaign without effect."""
    if grid.merged:
        text = (
            f"{counted(grid.merged, 'combination')} equal to another one, measured once "
            "(the queue delay has no effect without dynamic batching)"
        )
        print_folded(console, text)
    for rule, count in grid.excluded:
        text = f"{counted(count, 'combination')} excluded by the rule {{{rule}}}"
        print_folded(console, text)
    for text in grid.no_effect:
        print_folded(console, text, "yellow")


def _print_inapplicable(todo: "Plan", console: Console) -> None:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for each in todo.inapplicable:
        (served,) = each.placement.served
        axes = " + ".join(variant_text(json.dumps(variant.axes)) for variant in served)
        label = " + ".join(map(served_text, served))
        counts[each.placement.pool, label, axes, each.reason] += len(each.placement.points)
    if counts:
        print_folded(console, f"not applicable, {counted(counts.total(), 'measurement')}:")
    for (pool, label, axes, reason), count in itertools.islice(counts.items(), MOST_SERVERS):
        print_folded(console, f"  {pool}, {label}, {axes}, {count}: {reason}")
    if len(counts) > MOST_SERVERS:
        more = counted(len(counts) - MOST_SERVERS, "more server")
        print_folded(console, f"  and {more}; --json has all")
