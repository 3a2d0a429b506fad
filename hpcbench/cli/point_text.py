"""Points, their loads and their reasons in words, as commands print them."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbench.records.store import ASKED_COLUMNS
from hpcbench.records.variants import BASE

if TYPE_CHECKING:
    # Only for annotations: `hpcbench status` needs nothing of the plan, nor of Dask.
    from hpcbench.cluster.events import PlacementRetried, PullsImage
    from hpcbench.plan.point import ServerVariant

Row = Mapping[str, Any]
"""A measurement, planned or done: the columns of `store.PLAN_SCHEMA`; missing values are None."""

NONE = "-"


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


def pulled_text(event: "PullsImage") -> str:
    """Return what a run says before it pulls an image.

    Parameters
    ----------
    event
        Which image.

    Returns
    -------
    str
        A phrase.
    """
    return f"pulling {event.image} (once, for all nodes)"


def retried_text(event: "PlacementRetried") -> str:
    """Return what a run says of a worker that died.

    Parameters
    ----------
    event
        How it died, and what is tried again.

    Returns
    -------
    str
        A sentence.
    """
    points = counted(len(event.placement.points), "point")
    return f"worker lost ({event.reason}), trying {points} again"


def differing(rows: Sequence[Row]) -> list[str]:
    """Return what differs between rows besides model, batch size and load.

    Parameters
    ----------
    rows
        Measurements.

    Returns
    -------
    list of str
        Keys of `TEXTS`.
    """
    return [name for name in TEXTS if name not in POINT and differs(name, rows)]


def differs(name: str, rows: Sequence[Row]) -> bool:
    """Whether something tells rows apart.

    Parameters
    ----------
    name
        A key of `TEXTS`.
    rows
        Measurements.

    Returns
    -------
    bool
        True if two of them say something else.
    """
    return len(texts_of(name, rows)) > 1


def texts_of(name: str, rows: Sequence[Row]) -> set[str]:
    """Return all that rows say of something.

    Parameters
    ----------
    name
        A key of `TEXTS`.
    rows
        Measurements.

    Returns
    -------
    set of str
        As in "batch 8" and "batch 16"; empty where there is nothing to say.
    """
    text = TEXTS[name]
    said = {text(row) for row in rows}
    return said if name == "server variant" else {phrase(name, each) for each in said}


def point_phrases(row: Row, names: Sequence[str]) -> list[str]:
    """Return a point in words.

    Parameters
    ----------
    row
        A measurement of the point.
    names
        What to say of it: keys of `TEXTS`.

    Returns
    -------
    list of str
        As in "Tagger", "batch 8", "concurrency 4", "instances 2".
    """
    phrases: list[str] = []
    for name in names:
        if name == "server variant":
            phrases += _server_phrases(row["variant"])
        elif text := phrase(name, TEXTS[name](row)):
            phrases.append(text)
    return phrases


def phrase(name: str, text: str) -> str:
    """Return something of a point with its name.

    Parameters
    ----------
    name
        A key of `TEXTS`.
    text
        What that says of the point.

    Returns
    -------
    str
        As in "pool a100"; empty where there is nothing to say.
    """
    if text == NONE:
        return ""
    if name == "requests/s":
        return f"rate {text}/s"
    return text if name in _SELF_EXPLAINING else f"{name} {text}"


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
        As in "instances 2, batching 4/8", or "base" if no axis changes it.
    """
    return ", ".join(_server_phrases(variant))


def _server_phrases(variant: str | None) -> list[str]:
    return [axis_phrase(*each) for each in axis_texts(variant).items()] or [BASE]


@lru_cache
def axis_texts(variant: str | None) -> Mapping[str, str]:
    """Return the server axes that change the model's own configuration.

    Parameters
    ----------
    variant
        A JSON object of these axes; None for no axes.

    Returns
    -------
    dict of str to str
        The value of each in words, by its name in the campaign file.
    """
    # The same few variants stand in thousands of rows.
    axes = json.loads(variant) if isinstance(variant, str) else {}
    return {name: _axis_text(name, value) for name, value in axes.items()}


def axis_name(axis: str) -> str:
    """Return what a table calls a server axis.

    Parameters
    ----------
    axis
        Its name in the campaign file.

    Returns
    -------
    str
        With its unit, as in "delay us".
    """
    return _AXES.get(axis, axis.replace("_", " "))


def axis_phrase(axis: str, text: str) -> str:
    """Return a server axis and its value in words.

    Parameters
    ----------
    axis
        Its name in the campaign file.
    text
        Its value from `axis_texts`.

    Returns
    -------
    str
        As in "instances 2".
    """
    if axis == "accelerator" and text not in ("none", BASE):
        return text
    return f"delay {text} us" if axis == "max_queue_delay_us" else f"{axis_name(axis)} {text}"


def _axis_text(name: str, value: Any) -> str:
    if name == "preferred_batch_size" and value is None:
        return "off"
    if name == "accelerator" and value:
        accelerator = json.loads(value)
        parts = [accelerator.pop("name"), accelerator.pop("precision_mode", "")]
        parts += [f"{key} {value}" for key, value in accelerator.items()]
        return " ".join(filter(None, parts))
    return _value(value)


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case list():
            # No spaces: where a line is folded, a value stays whole.
            return "/".join(map(_value, value)) or "on"
        case _:
            return str(value)


def _together(row: Row) -> str:
    """With what a model shared its server, and whether that was at work."""
    if row["beside"] is None:
        return NONE
    labels = ", ".join(each["model_label"] for each in json.loads(row["beside"]))
    return f"{labels} idle" if row["together_id"] is None else f"with {labels}"


def _arrivals(row: Row) -> str:
    """The file that says when requests are sent; a configuration knows its digest only."""
    known = row.get("request_intervals") or row.get("request_intervals_digest")
    return Path(known).name if known else NONE


def _capacity(row: Row) -> str:
    """The limit for which the highest rate is searched; a figure's own table may not have it."""
    limit_ms = row.get("capacity_max_latency_p99_ms")
    return NONE if limit_ms is None else f"for {limit_ms:g} ms"


def _setting(column: str) -> Callable[[Row], str]:
    return lambda row: NONE if row[column] is None else _value(row[column])


_AXES = {
    "instance_count": "instances",
    "preferred_batch_size": "batching",
    "max_queue_delay_us": "delay us",
}
"""What tables call server axes that people do not call as campaign files do."""

POINT = ("model", "batch", "concurrency", "requests/s", "arrivals", "capacity")
"""What is said of every point."""

_SELF_EXPLAINING = ("model", "together")
"""What needs no name before it."""

_SETTINGS = [
    name
    for name in ASKED_COLUMNS
    if name not in ("variant_name", "beside", "shapes_name")
    and name not in ("batch_size", "concurrency", "request_rate", "request_intervals_digest")
    and name != "capacity_max_latency_p99_ms"
]
TEXTS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: str(row["model_label"]),
    "version": _setting("model_version"),
    "pool": _setting("pool"),
    "variant": _setting("variant_name"),
    "server variant": lambda row: variant_text(row["variant"]),
    "batch": _setting("batch_size"),
    "shapes": _setting("shapes_name"),
    "concurrency": _setting("concurrency"),
    "requests/s": _setting("request_rate"),
    "arrivals": _arrivals,
    "capacity": _capacity,
    **{name.replace("_", " "): _setting(name) for name in _SETTINGS},
    "together": _together,
    "repeat": _setting("repeat"),
}
"""What tells measurements apart, by its name: a function that says it in words."""
