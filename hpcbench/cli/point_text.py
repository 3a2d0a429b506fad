"""Points, their loads and their reasons in words, as commands print them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbench.records.store import ASKED_COLUMNS

if TYPE_CHECKING:
    # Only for annotations: `hpcbench status` needs nothing of the plan.
    from hpcbench.plan.point import ServerVariant

Row = Mapping[str, Any]
"""A measurement, planned or done: the columns of `store.PLAN_SCHEMA`; missing values are None."""

NONE = "-"
MOST_POINTS = 5
"""How many points are listed below a reason that they share."""


# Words


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in "no jobs", "1 job" and "2 jobs".

    Parameters
    ----------
    number
        How many there are.
    noun
        The singular of a noun with a regular plural.

    Returns
    -------
    str
        Both.
    """
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    Parameters
    ----------
    seconds
        The time [s].

    Returns
    -------
    str
        As in "89 s", "83 min" or "1.5 h".
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def jobs_text(jobs: Mapping[str, Any]) -> str:
    """Return the state of a pool's jobs in words.

    Parameters
    ----------
    jobs
        The fields of `hpcbench.cluster.run_state.PoolJobs`.

    Returns
    -------
    str
        Workers and waiting jobs, with the batch system's own reason why they wait.
    """
    text = counted(jobs["running"], "worker")
    if jobs["waiting"]:
        why = f" ({jobs['reason']})" if jobs["reason"] else ""
        text += f", {counted(jobs['waiting'], 'job')} waiting{why}"
    return text


# Points


def columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the model, the batch size, and whatever else differs between rows.

    Parameters
    ----------
    rows
        Measurements.

    Returns
    -------
    dict
        For each heading, a string per row.
    """
    return {
        name: [_TEXTS[name](row) for row in rows]
        for name in _TEXTS
        if name in ("model", "batch") or _differs(name, rows)
    }


def differing(rows: Sequence[Row]) -> list[str]:
    """Return what differs between rows besides model, batch size and load.

    Parameters
    ----------
    rows
        Measurements.

    Returns
    -------
    list of str
        Names for `point_text`.
    """
    return [name for name in _TEXTS if name not in _ALWAYS and _differs(name, rows)]


def point_text(row: Row, names: Sequence[str]) -> str:
    """Return a point in words.

    Parameters
    ----------
    row
        A measurement of the point.
    names
        What to add to its model and load: names from `differing`.

    Returns
    -------
    str
        As in "tagger batch 8 concurrency 4, instances 2".
    """
    more = [(name, _TEXTS[name](row)) for name in names]
    added = [
        text if name in _SELF_EXPLAINING else f"{name} {text}"
        for name, text in more
        if text != NONE
    ]
    return ", ".join([f"{row['model_label']} batch {row['batch_size']} {loop_text(row)}", *added])


def loop_text(row: Row) -> str:
    """Return the load that perf_analyzer makes, in words.

    Parameters
    ----------
    row
        A measurement.

    Returns
    -------
    str
        The requests in flight of a closed loop, or the request rate of an open one; its mean and
        the file where that says when requests are sent.
    """
    rate, file = row["request_rate"], row["request_intervals"]
    if rate is None:
        return f"concurrency {row['concurrency']}"
    return f"rate {rate:g}/s" if file is None else f"rate {rate:.4g}/s of {Path(file).name}"


def served_text(variant: "ServerVariant") -> str:
    """Return the label of a model on a server, with its version if the campaign chooses one.

    Parameters
    ----------
    variant
        The model with its configuration.

    Returns
    -------
    str
        As in "tagger version 2".
    """
    version = "" if variant.version is None else f" version {variant.version}"
    return f"{variant.label}{version}"


def variant_text(variant: str | None) -> str:
    """Return in words which server axes change the model's own configuration.

    Parameters
    ----------
    variant
        A JSON object of these axes; None for no axes.

    Returns
    -------
    str
        As in "instances 2, batching [4, 8]", or "base" if no axis changes it.
    """
    axes = json.loads(variant) if isinstance(variant, str) else {}
    words = {
        "instance_count": "instances {}",
        "preferred_batch_size": "batching {}",
        "max_queue_delay_us": "delay {} us",
    }
    if "preferred_batch_size" in axes and axes["preferred_batch_size"] is None:
        axes = {**axes, "preferred_batch_size": "off"}
    if axes.get("accelerator"):
        accelerator = json.loads(axes["accelerator"])
        parts = [accelerator.pop("name"), accelerator.pop("precision_mode", "")]
        parts += [f"{key} {value}" for key, value in accelerator.items()]
        axes = {**axes, "accelerator": " ".join(filter(None, parts))}
        words["accelerator"] = "{}"
    texts = [words.get(k, f"{k} {{}}").format(_value(v)) for k, v in axes.items()]
    return ", ".join(texts) or "base"


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _together(row: Row) -> str:
    """With what a model shared its server, and whether that was at work."""
    if row["beside"] is None:
        return NONE
    labels = ", ".join(each["model_label"] for each in json.loads(row["beside"]))
    return f"{labels} idle" if row["together_id"] is None else f"with {labels}"


def _setting(column: str) -> Callable[[Row], str]:
    return lambda row: NONE if row[column] is None else _value(row[column])


_ALWAYS = ("model", "batch", "concurrency", "requests/s", "arrivals")
"""What the text of every point says."""

_SELF_EXPLAINING = ("server variant", "together")
"""What needs no name before it."""

_SETTINGS = [
    name
    for name in ASKED_COLUMNS
    if name not in ("variant_name", "beside", "shapes_name")
    and name not in ("batch_size", "concurrency", "request_rate", "request_intervals_digest")
]
_TEXTS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: str(row["model_label"]),
    "version": _setting("model_version"),
    "pool": _setting("pool"),
    "variant": _setting("variant_name"),
    "server variant": lambda row: variant_text(row["variant"]),
    "batch": _setting("batch_size"),
    "shapes": _setting("shapes_name"),
    "concurrency": _setting("concurrency"),
    "requests/s": _setting("request_rate"),
    "arrivals": lambda row: Path(row["request_intervals"] or NONE).name,
    **{name.replace("_", " "): _setting(name) for name in _SETTINGS},
    "together": _together,
    "repeat": _setting("repeat"),
}


def _differs(name: str, rows: Sequence[Row]) -> bool:
    text = _TEXTS[name]
    return len({text(row) for row in rows}) > 1


def reason_lines(rows: Sequence[Row]) -> list[str]:
    """Return why measurements are not ok: each reason once, with the points below it.

    Parameters
    ----------
    rows
        Measurements with their ``status`` and ``reason``.

    Returns
    -------
    list of str
        The lines to print.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["reason"] and row["status"] != "ok":
            # The rest of this reason are numbers, which differ from point to point.
            reason = row["reason"].split(":")[0] if row["status"] == "unstable" else row["reason"]
            groups.setdefault((row["status"], reason), []).append(row)
    names = differing(rows) if groups else []
    lines = []
    for (status, reason), members in groups.items():
        lines.append(f"{status}: {reason}")
        lines += [f"    {point_text(row, names)}" for row in members[:MOST_POINTS]]
        if len(members) > MOST_POINTS:
            lines.append(f"    and {len(members) - MOST_POINTS} more")
    return lines
