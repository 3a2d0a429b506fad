"""Recommendations as a page for the terminal, and as JSON."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from string import ascii_uppercase
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpcbench.analysis.decide.recommend import DEVICE, Advice, Compared, Row
from hpcbench.analysis.summary import labels, words
from hpcbench.analysis.summary.configuration import CONFIGURATION, LOAD, REQUEST
from hpcbench.analysis.summary.limits import COST, ENERGY, LATENCY, MEMORY, THROUGHPUT, Wanted

_FIGURES = (THROUGHPUT, LATENCY, MEMORY, ENERGY, COST)
_WIDE = 120
_LOADS = {"concurrency": "concur-\nrency"}
_HEADINGS = {
    THROUGHPUT: "throughput\n[infer/s]",
    LATENCY: "p99 latency\n[ms]",
    MEMORY: "GPU memory\n[GiB]",
    ENERGY: "energy\n[infer/J]",
    COST: "cost per\nmillion",
}


def device(row: Mapping[str, Any]) -> str:
    """The short name of what the model ran on."""
    return words.device(row)


def show(advice: list[Advice], console: Console) -> None:
    """Prints a section for each model and device."""
    for one, more in zip(advice, distinctions(advice), strict=True):
        console.print(_title(one, more), highlight=False, soft_wrap=True)
        if one.best is None:
            _show_nothing(one, console)
        else:
            _show_best(one, one.best, console)
        console.print()


def distinctions(advice: list[Advice]) -> list[str]:
    """What else is asked of those that have one name on one device, "" where nothing is."""
    names = [(one.about["model_label"], device(one.about)) for one in advice]
    told = [""] * len(advice)
    for name in {name for name in names if names.count(name) > 1}:
        alike = [i for i, other in enumerate(names) if other == name]
        rows = [_request(advice[i].best or advice[i].about) for i in alike]
        for i, text in zip(alike, labels.distinctions(rows), strict=True):
            told[i] = text
    return told


def _request(row: Row) -> Row:
    """What is asked for, for which there is advice of its own, and nothing that was chosen."""
    kept = (*REQUEST, "shapes_name", *DEVICE, "instance_kind")
    return {name: value if name in kept else None for name, value in row.items()}


def title(one: Advice, more: str) -> str:
    """The model and the device, with what else tells this advice from others."""
    return f"{one.about['model_label']} on {device(one.about)}" + (f", {more}" if more else "")


def _title(one: Advice, more: str) -> str:
    limits = ", ".join(map(str, one.wanted.limits))
    within = f", {one.meeting} within {limits}" if limits else ""
    return (
        f"[bold]{escape(title(one, more))}[/]: "
        f"{one.configurations} configurations, {one.measured} measured{within}"
    )


def _show_nothing(one: Advice, console: Console) -> None:
    console.print("[red]nothing to recommend[/]", highlight=False)
    for sentence in one.failing:
        console.print(f"  {sentence}", highlight=False, markup=False, soft_wrap=True)
    if one.nearest is not None:
        _print_table([("nearest", one.nearest)], one.wanted, console)


def _show_best(one: Advice, best: Row, console: Console) -> None:
    rows = [("recommended", best)]
    if one.settled is not None:
        rows.append(("best settled", one.settled.row))
    if one.base is not None:
        rows.append(("base" if one.base_meets else "base, over limit", one.base.row))
    rows += [(_standing(other), other.row) for other in one.runners_up]
    _print_table(_once(rows), one.wanted, console)
    for sentence in sentences(one):
        console.print(f"  {sentence}", highlight=False, markup=False, soft_wrap=True)
    for note in one.notes:
        console.print(f"  [yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)


def _once(rows: list[tuple[str, Row]]) -> list[tuple[str, Row]]:
    """Each configuration where it stands first."""
    first: dict[int, tuple[str, Row]] = {}
    for standing, row in rows:
        first.setdefault(row["position"], (standing, row))
    return list(first.values())


def sentences(one: Advice) -> list[str]:
    """What is gained over base, how sure that is, and what a rate needs."""
    return [*_gains(one), *_sizing(one)]


def _standing(other: Compared) -> str:
    return {True: "as good", False: "next best", None: "next, once"}[other.as_good]


def _print_table(rows: list[tuple[str, Row]], wanted: Wanted, console: Console) -> None:
    """The configurations; a narrow terminal gets fewer figures, and the servers below the table."""
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    loads = [name for name in LOAD if any(row[name] is not None for _, row in rows)]
    asked = {THROUGHPUT, LATENCY, wanted.figure, *(limit.figure for limit in wanted.limits)}
    shown = [
        figure
        for figure in _FIGURES
        if any(row.get(figure.column) is not None for _, row in rows)
        if wide or figure in asked
    ]
    besides = labels.distinctions([row for _, row in rows])
    servers = [
        "; ".join(filter(None, [labels.server(row), beside]))
        for (_, row), beside in zip(rows, besides, strict=True)
    ]
    letters = dict(zip(dict.fromkeys(servers), ascii_uppercase, strict=False))
    table.add_column("", no_wrap=True)
    for name in loads:
        heading = _LOADS.get(name, words.name(name).replace(" ", "\n"))
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("server", max_width=44)
    for figure in shown:
        table.add_column(escape(_HEADINGS[figure]), justify="right", no_wrap=True)
    unsettled = any(row["unstable"] for _, row in rows)
    table.add_column("times\n(unsettled)" if unsettled else "times", no_wrap=True)
    for (standing, row), server in zip(rows, servers, strict=True):
        table.add_row(
            standing,
            *("-" if row[name] is None else words.value(name, row[name]) for name in loads),
            escape(server if wide else letters[server]),
            *(labels.figure(row, figure.column) for figure in shown),
            f"{row['measured']}" + (f" ({row['unstable']})" if row["unstable"] else ""),
            style="bold" if standing == "recommended" else None,
        )
    console.print(table)
    for server, letter in () if wide else letters.items():
        console.print(f"  server {letter}: {server}", highlight=False, markup=False, soft_wrap=True)


def _gains(one: Advice) -> Iterator[str]:
    figure = one.wanted.figure
    if one.base is None:
        yield "the model's own configuration (base) was not measured, so no gain can be told"
    elif one.best is not None and one.base.row["position"] == one.best["position"]:
        yield "this is the model's own configuration (base): none of the others was better"
    else:
        ratio = labels.interval(one.base.ratio, one.base.low, one.base.high)
        same = "; base never keeps to the limits" if not one.base_meets else ""
        doubt = {True: ", which may be noise", None: ", measured once", False: ""}
        yield f"{figure.words}: {ratio} times that of base{doubt[one.base.as_good]}{same}"
    if one.as_good > len(one.runners_up):
        yield f"{one.as_good} others are as good within the noise; more repeats tell them apart"


def _sizing(one: Advice) -> Iterator[str]:
    sizing = one.sizing
    if sizing is None:
        return
    per = sizing.gpus_per_server
    unit = "GPU" if per else "node"
    count, low, high = (
        None if servers is None else servers * max(per, 1)
        for servers in (sizing.servers, sizing.servers_low, sizing.servers_high)
    )
    spread = ""
    if low is not None:
        upper = f"{high:,}" if high is not None else "more"
        spread = f" ({low:,} to {upper})" if (low, high) != (count, count) else ""
    plural = "" if count == 1 else "s"
    each = f" in servers of {per}" if per > 1 else ""
    text = (
        f"for {labels.number(sizing.rate)} infer/s: {count:,} {unit}{plural}{spread}{each}, "
        f"at {sizing.share:.0%} of what was measured"
    )
    if sizing.cost_per_hour is not None:
        text += f", {labels.number(sizing.cost_per_hour)} per hour"
    yield text
    if sizing.clients is not None:
        whole = f"one {unit}" if per <= 1 else f"one server of {per} GPUs"
        s = "" if sizing.clients == 1 else "s"
        text = f"{whole} serves {sizing.clients} client{s} with a request in flight each (measured)"
        if sizing.clients_interpolated is not None:
            text += (
                f", {sizing.clients_interpolated} until {LATENCY.words} reaches "
                f"{one.wanted.max_latency_p99_ms:g} ms (interpolated, not measured)"
            )
        yield text


def as_json(one: Advice) -> dict[str, Any]:
    """The advice as plain data; a missing figure is null."""
    return {
        "model": one.about["model"],
        "model_label": one.about["model_label"],
        "device": device(one.about),
        "objective": one.wanted.objective,
        "limits": {limit.option: limit.value for limit in one.wanted.limits},
        "configurations": one.configurations,
        "measured": one.measured,
        "within_limits": one.meeting,
        "recommended": _row(one.best),
        "notes": list(one.notes),
        "base": None
        if one.base is None
        else {**_compared(one.base), "within_limits": one.base_meets},
        "as_good": one.as_good,
        "runners_up": [_compared(other) for other in one.runners_up],
        "best_settled": None if one.settled is None else _compared(one.settled),
        "nearest": _row(one.nearest),
        "failing": list(one.failing),
        "sizing": None if one.sizing is None else asdict(one.sizing),
    }


def _compared(other: Compared) -> dict[str, Any]:
    ratio = {name: finite(getattr(other, name)) for name in ("ratio", "low", "high")}
    return {**(_row(other.row) or {}), "recommended_over_this": ratio, "as_good": other.as_good}


def _row(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    endings = {"mean": "", "low": "_low", "high": "_high", "std": "_std", "n": "_n"}
    return {
        "point_id": row["point_id"],
        "configuration": {k: row[k] for k in CONFIGURATION if row[k] is not None},
        "measured": row["measured"],
        "unstable": row["unstable"],
        "figures": {
            figure.column: {k: row[f"{figure.column}{end}"] for k, end in endings.items()}
            for figure in _FIGURES
            if row.get(figure.column) is not None
        },
    }


def finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None
