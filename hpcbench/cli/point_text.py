"""Points in a few words for the terminal, and what sets some of them apart."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcbench.config.load_axes import LOAD_COLUMNS
from hpcbench.plan.point import ServerVariant

Row = Mapping[str, Any]
"""A measurement, planned or made, with the columns of `store.PLAN`; what is missing is None."""


def columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The model, the batch, and whatever else differs between these rows, a text for each row."""
    return {
        name: [_TEXTS[name](row) for row in rows]
        for name in _TEXTS
        if name in ("model", "batch") or _differs(name, rows)
    }


def differing(rows: Sequence[Row]) -> list[str]:
    """What besides model, batch and load differs between these rows; for `point_text`."""
    return [name for name in _TEXTS if name not in _SAID and _differs(name, rows)]


def point_text(row: Row, names: Sequence[str]) -> str:
    """A point: its model, its load, and what stands under the ``names`` of `differing`."""
    more = [(name, _TEXTS[name](row)) for name in names]
    said = [text if name in _PLAIN else f"{name} {text}" for name, text in more if text != NONE]
    return ", ".join([f"{row['model_label']} batch {row['batch_size']} {loop_text(row)}", *said])


def loop_text(row: Row) -> str:
    """How much load arrived: requests kept in flight, or requests per second."""
    rate = row["request_rate"]
    return f"concurrency {row['concurrency']}" if rate is None else f"rate {rate:g}/s"


def served_text(variant: ServerVariant) -> str:
    """A model that a server holds, with the version where one was asked for."""
    version = "" if variant.version is None else f" version {variant.version}"
    return f"{variant.label}{version}"


def variant_text(variant: str | None) -> str:
    """The server axes, given as JSON, that differ from the model's own configuration."""
    axes = json.loads(variant) if isinstance(variant, str) else {}
    words = {
        "instance_count": "instances {}",
        "preferred_batch_size": "batching {}",
        "max_queue_delay_us": "delay {} us",
    }
    if "preferred_batch_size" in axes and axes["preferred_batch_size"] is None:
        axes = {**axes, "preferred_batch_size": "off"}
    if axes.get("accelerator"):
        asked = json.loads(axes["accelerator"])
        parts = [asked.pop("name"), asked.pop("precision_mode", "")]
        parts += [f"{key} {value}" for key, value in asked.items()]
        axes = {**axes, "accelerator": " ".join(filter(None, parts))}
        words["accelerator"] = "{}"
    told = [words.get(k, f"{k} {{}}").format(_value(v)) for k, v in axes.items()]
    return ", ".join(told) or "base"


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


NONE = "-"


def _together(row: Row) -> str:
    """With what a model shared its server, and whether that was at work."""
    if row["beside"] is None:
        return NONE
    labels = ", ".join(each["model_label"] for each in json.loads(row["beside"]))
    return f"{labels} idle" if row["together_id"] is None else f"with {labels}"


def _setting(column: str) -> Callable[[Row], str]:
    return lambda row: NONE if row[column] is None else _value(row[column])


_SAID = ("model", "batch", "concurrency", "requests/s")
_PLAIN = ("server variant", "together")
"""What says by itself of what it is."""

_SETTINGS = [
    name
    for name in LOAD_COLUMNS
    if name not in ("batch_size", "concurrency", "request_rate", "input_data_digest")
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
    **{name.replace("_", " "): _setting(name) for name in _SETTINGS},
    "together": _together,
    "repeat": _setting("repeat"),
}


def _differs(name: str, rows: Sequence[Row]) -> bool:
    text = _TEXTS[name]
    return len({text(row) for row in rows}) > 1
