"""Recommendations as text for the terminal, and as JSON."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from string import ascii_uppercase
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpcbench.analysis.decide.recommend import (
    DEVICE,
    NEXT_BEST,
    Alternative,
    Recommendation,
    Row,
)
from hpcbench.analysis.decide.size import Sizing
from hpcbench.analysis.summary.axis_names import axis_name, value_text
from hpcbench.analysis.summary.configuration import CONFIGURATION, LOAD, MODEL, REQUEST_CONTENT
from hpcbench.analysis.summary.configuration_names import (
    beside_text,
    device_name,
    distinctions,
    loads_beside,
    model_text,
    server_text,
)
from hpcbench.analysis.summary.limits import COST, ENERGY, LATENCY, MEMORY, THROUGHPUT, Requirements
from hpcbench.analysis.summary.number_format import (
    format_interval,
    format_number,
    format_with_error,
    sure_text,
)
from hpcbench.analysis.summary.statistics import Counts
from hpcbench.errors import one_line

_METRICS = (THROUGHPUT, LATENCY, MEMORY, ENERGY, COST)
_WIDE = 120
_LOADS = {"concurrency": "concur-\nrency"}
_HEADINGS = {
    THROUGHPUT: "throughput\n[infer/s]",
    LATENCY: "p99 latency\n[ms]",
    MEMORY: "GPU memory\n[GiB]",
    ENERGY: "energy\n[infer/J]",
    COST: "cost per\nmillion",
}


def print_recommendations(advice: list[Recommendation], console: Console) -> None:
    """Print a section for each model and device.

    Parameters
    ----------
    advice
        The recommendations.
    console
        Where to print. Below 120 characters it gets fewer columns.
    """
    for one, more in zip(advice, recommendation_distinctions(advice), strict=True):
        console.print(_title(one, more), highlight=False, soft_wrap=True)
        if one.best is None:
            _show_nothing(one, console)
        else:
            _show_best(one, one.best, console)
        console.print()


def recommendation_distinctions(advice: list[Recommendation]) -> list[str]:
    """Return what else is requested of models that have one name on one device.

    Parameters
    ----------
    advice
        The recommendations.

    Returns
    -------
    list of str
        For each of them ``""``, or what tells it from the others of its name: model files, shapes,
        input data.
    """
    names = [recommendation_title(one, "") for one in advice]
    texts = [""] * len(advice)
    for name in {name for name in names if names.count(name) > 1}:
        alike = [i for i, other in enumerate(names) if other == name]
        rows = [_request(advice[i].best or advice[i].identity) for i in alike]
        for i, text in zip(alike, distinctions(rows), strict=True):
            texts[i] = text
    return texts


def _request(row: Row) -> Row:
    """Return the row without what was chosen: only what separates recommendations."""
    kept = (*MODEL, *REQUEST_CONTENT, "shapes_name", *DEVICE, "instance_kind")
    return {name: value if name in kept else None for name, value in row.items()}


def recommendation_title(one: Recommendation, more: str) -> str:
    """Return the model and the device of a recommendation.

    Parameters
    ----------
    one
        The recommendation.
    more
        What else tells it from others, from `recommendation_distinctions`.

    Returns
    -------
    str
        ``"Jet tagger version 2 on Tesla T4"``; of a shared server with the others on it.
    """
    others = one.identity["beside"]
    beside = beside_text(loads_beside(others)) if others else ""
    place = f"{model_text(one.identity)} on {device_name(one.identity)}"
    return ", ".join(filter(None, [place, beside, more]))


def _title(one: Recommendation, more: str) -> str:
    wanted = one.requirements
    limits = ", ".join(map(str, wanted.limits))
    sure = f"with {sure_text(wanted.confidence)} confidence"
    sure = "by the mean" if wanted.limits_by_mean else sure
    within = f", {one.within_limits} within {limits} {sure}" if limits else ""
    title = escape(one_line(recommendation_title(one, more)))
    return (
        f"[bold]{title}[/]: {one.configurations} configurations, "
        f"{one.counts.tried} measurements tried, {one.counts.measured} measured, "
        f"{one.counts.settled} settled{within}"
    )


def _show_nothing(one: Recommendation, console: Console) -> None:
    console.print("[red]nothing to recommend[/]", highlight=False)
    for sentence in one.failing:
        console.print(one_line(f"  {sentence}"), highlight=False, markup=False, soft_wrap=True)
    if one.nearest is not None:
        _print_table([("nearest", one.nearest)], one.requirements, console)


def _show_best(one: Recommendation, best: Row, console: Console) -> None:
    rows = [("recommended", best)]
    if one.best_settled is not None:
        rows.append(("best settled", one.best_settled.row))
    if one.base is not None:
        rows.append(("base" if one.base_within_limits else "base, over limit", one.base.row))
    rows += [(_standing(other), other.row) for other in one.runners_up]
    _print_table(_once(rows), one.requirements, console)
    for sentence in result_sentences(one):
        console.print(one_line(f"  {sentence}"), highlight=False, markup=False, soft_wrap=True)
    for note in map(one_line, one.notes):
        console.print(f"  [yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)


def _once(rows: list[tuple[str, Row]]) -> list[tuple[str, Row]]:
    """Return each configuration once, where it stands first."""
    first: dict[int, tuple[str, Row]] = {}
    for standing, row in rows:
        first.setdefault(row["position"], (standing, row))
    return list(first.values())


def result_sentences(one: Recommendation) -> list[str]:
    """Return what is gained over the base configuration, and how many servers a rate needs.

    Parameters
    ----------
    one
        A recommendation with a ``best``.

    Returns
    -------
    list of str
        Sentences without a full stop.
    """
    return [*_gains(one), *_sizing(one)]


def _standing(other: Alternative) -> str:
    return {True: "as good", False: "next best", None: "next, once"}[other.as_good]


def _print_table(rows: list[tuple[str, Row]], requirements: Requirements, console: Console) -> None:
    """Print the configurations; a narrow terminal gets fewer metrics, and servers below them."""
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    loads = [name for name in LOAD if any(row[name] is not None for _, row in rows)]
    asked = {
        THROUGHPUT,
        LATENCY,
        requirements.metric,
        *(limit.metric for limit in requirements.limits),
    }
    shown = [
        metric
        for metric in _METRICS
        if any(row.get(metric.column) is not None for _, row in rows)
        if wide or metric in asked
    ]
    besides = distinctions([row for _, row in rows])
    servers = [
        one_line("; ".join(filter(None, [server_text(row), beside])))
        for (_, row), beside in zip(rows, besides, strict=True)
    ]
    letters = dict(zip(dict.fromkeys(servers), ascii_uppercase, strict=False))
    table.add_column("", no_wrap=True)
    for name in loads:
        heading = _LOADS.get(name, axis_name(name).replace(" ", "\n"))
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("server", max_width=44)
    for metric in shown:
        table.add_column(escape(_HEADINGS[metric]), justify="right", no_wrap=True)
    table.add_column("tried/\nmeasured/\nsettled", no_wrap=True)
    for (standing, row), server in zip(rows, servers, strict=True):
        table.add_row(
            standing,
            *("-" if row[name] is None else value_text(name, row[name]) for name in loads),
            escape(server if wide else letters[server]),
            *(format_with_error(row, metric.column) for metric in shown),
            str(Counts.of(row)),
            style="bold" if standing == "recommended" else None,
        )
    console.print(table)
    for server, letter in () if wide else letters.items():
        console.print(f"  server {letter}: {server}", highlight=False, markup=False, soft_wrap=True)


def _gains(one: Recommendation) -> Iterator[str]:
    metric = one.requirements.metric
    if (found := one.corrected) is not None and found.candidates > 1:
        interval = format_interval(found.value, found.low, found.high)
        unit = f" {metric.unit}" if metric.unit else ""
        yield (
            f"{metric.name}, corrected for being the best of {found.candidates:,}: {interval}{unit}"
        )
    if one.base is None:
        yield "the model's own configuration (base) was not measured, so the gain is not known"
    elif one.best is not None and one.base.row["position"] == one.best["position"]:
        yield f"this is the model's own configuration (base): {_beside_base(one)}"
    else:
        ratio = format_interval(one.base.ratio, one.base.low, one.base.high)
        exceeds = "; base never keeps the limits" if not one.base_within_limits else ""
        doubt = {True: ", which may be noise", None: ", all measured once", False: ""}
        yield f"{metric.name}: {ratio} times that of base{doubt[one.base.as_good]}{exceeds}"
    if one.runners_up and all(other.as_good is None for other in one.runners_up):
        yield (
            "nothing was measured twice, so nobody knows what is as good: hpcbench run --confirm "
            f"measures it and the next best {min(NEXT_BEST, len(one.runners_up))} again"
        )
    if len(one.as_good) > len(one.runners_up):
        more = "hpcbench run --confirm measures all again"
        yield f"{len(one.as_good)} others cannot be told from it; {more}"


def _beside_base(one: Recommendation) -> str:
    if one.runners_up:
        return "none of the others was better"
    return "there are no others" if one.configurations == 1 else "no other can be recommended"


def _sizing(one: Recommendation) -> Iterator[str]:
    sizing = one.sizing
    if sizing is None:
        return
    yield _servers(sizing)
    if sizing.measured_rate:
        unknown = "; no higher rate was tried, so that fewer servers may do"
        yield (
            f"each serves up to {format_number(sizing.capacity)} infer/s within the limits: "
            "measured, with requests that came at random"
            f"{unknown if sizing.higher_rate_tried is False else ''}"
        )
    else:
        yield (
            f"each is expected to serve {format_number(sizing.capacity)} infer/s, "
            f"{one.requirements.headroom:.0%} of {_measured_load(one)}; the p99 at this load "
            "was not measured, with requests that come at random: measure load.capacity"
        )
    for name, found in (
        ("cost of a million inferences", sizing.cost_per_million),
        ("GPU energy of a million inferences [kWh]", sizing.kwh_per_million),
    ):
        if found is not None:
            yield f"{name}: {format_interval(found.value, found.low, found.high)}"
    if sizing.clients is not None:
        yield _clients(one, sizing)


def _measured_load(one: Recommendation) -> str:
    """Return what the throughput is of from which a server's share is taken."""
    best = one.best or {}
    if best.get("concurrency") is not None:
        return "what clients that wait got from it"
    if best.get("request_rate") is None:
        return "what it was sent at given intervals"
    return f"what it was sent at a {best['request_distribution'] or 'constant'} rate"


def _servers(sizing: Sizing) -> str:
    per = max(sizing.gpus_per_server, 1)
    unit = "GPU" if sizing.gpus_per_server else "node"
    total = (sizing.servers + sizing.spares) * per
    low = sizing.servers_low
    fewest = f" ({low * per:,} at least)" if low is not None and low != sizing.servers else ""
    spare = f" and {sizing.spares * per:,} to spare" if sizing.spares else ""
    text = (
        f"for {format_number(sizing.rate)} infer/s: {total:,} {unit}{'' if total == 1 else 's'}"
        + (f" in servers of {per}" if per > 1 else "")
        + f": {sizing.servers * per:,} for the rate{fewest}{spare}"
    )
    if sizing.cost_per_hour is not None:
        text += f", {format_number(sizing.cost_per_hour)} per hour"
    return text


def _clients(one: Recommendation, sizing: Sizing) -> str:
    per, unit = sizing.gpus_per_server, "GPU" if sizing.gpus_per_server else "node"
    whole = f"one {unit}" if per <= 1 else f"one server of {per} GPUs"
    s = "" if sizing.clients == 1 else "s"
    text = f"{whole} serves {sizing.clients} client{s} with a request in flight each (measured)"
    if sizing.clients_interpolated is not None:
        text += (
            f", {sizing.clients_interpolated} until {LATENCY.name} reaches "
            f"{one.requirements.max_latency_p99_ms:g} ms (interpolated, not measured)"
        )
    return text


def recommendation_json(one: Recommendation) -> dict[str, Any]:
    """Return a recommendation as plain data.

    Parameters
    ----------
    one
        The recommendation.

    Returns
    -------
    dict
        For `json.dumps`; None where a number is missing.
    """
    return {
        "model": one.identity["model"],
        "model_label": one.identity["model_label"],
        "device": device_name(one.identity),
        "beside": loads_beside(others) if (others := one.identity["beside"]) else None,
        "objective": one.requirements.objective,
        "limits": {limit.option: limit.value for limit in one.requirements.limits},
        "configurations": one.configurations,
        "measured": one.measured,
        "measurements": asdict(one.counts),
        "within_limits": one.within_limits,
        "confidence": None if one.requirements.limits_by_mean else one.requirements.confidence,
        "recommended": _row(one.best),
        "corrected": None if one.corrected is None else asdict(one.corrected),
        "notes": list(one.notes),
        "base": None
        if one.base is None
        else {**_compared(one.base), "within_limits": one.base_within_limits},
        "as_good": len(one.as_good),
        "as_good_points": list(one.as_good),
        "runners_up": [_compared(other) for other in one.runners_up],
        "best_settled": None if one.best_settled is None else _compared(one.best_settled),
        "nearest": _row(one.nearest),
        "failing": list(one.failing),
        "sizing": None if one.sizing is None else asdict(one.sizing),
    }


def _compared(other: Alternative) -> dict[str, Any]:
    ratio = {name: _finite_or_none(getattr(other, name)) for name in ("ratio", "low", "high")}
    return {**(_row(other.row) or {}), "recommended_over_this": ratio, "as_good": other.as_good}


def _row(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    endings = {"mean": "", "low": "_low", "high": "_high", "std": "_std", "n": "_n"}
    return {
        "point_id": row["point_id"],
        "configuration": {k: row[k] for k in CONFIGURATION if row[k] is not None},
        **asdict(Counts.of(row)),
        "unstable": row["unstable"],
        "metrics": {
            metric.column: {k: row[f"{metric.column}{end}"] for k, end in endings.items()}
            for metric in _METRICS
            if row.get(metric.column) is not None
        },
    }


def _finite_or_none(value: float) -> float | None:
    """Return the number, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
