"""The sections ``load:`` and ``measurement:`` of a campaign: what perf_analyzer does."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo

from hpcbench.config import yaml_model
from hpcbench.config.yaml_model import Axes, Count, as_axis

REST_WINDOWS = 3
"""A point that did not settle is measured for so many windows more."""

WINDOW_STRETCH = 1.2
"""perf_analyzer sleeps this much longer than the window it was asked for."""

T = TypeVar("T")
Axis = Annotated[tuple[T, ...], BeforeValidator(as_axis)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]


class Load(Axes):
    """How much load arrives: requests in flight, or requests per second."""

    batch_size: Axis[Count] = (1,)
    concurrency: Axis[Count] = (1,)
    request_rate: Axis[Positive] = ()
    request_distribution: Axis[Literal["constant", "poisson"]] = ("constant",)


def _data_file(value: Any, info: ValidationInfo) -> Any:
    if value == "":
        raise ValueError("allowed: random, zero, or the path of a JSON file or folder")
    if isinstance(value, str) and value not in ("random", "zero"):
        return str(yaml_model.absolute_path(Path(value), info))
    return value


class Measurement(Axes):
    """How perf_analyzer sends its requests, and when it has seen enough of them."""

    protocol: Axis[Literal["grpc", "http"]] = ("grpc",)
    asynchronous: Axis[Flag] = Field(default=(True,), alias="async")
    streaming: Axis[Flag] = (False,)
    compression: Axis[Literal["none", "gzip", "deflate"]] = ("none",)
    shared_memory: Axis[Literal["none", "system", "cuda"]] = ("none",)
    output_shared_memory_bytes: Axis[Count | None] = (None,)
    max_threads: Axis[Count | None] = (None,)
    percentile: Axis[Annotated[int, Field(strict=True, ge=1, le=99)] | None] = (None,)
    measurement_mode: Axis[Literal["time_windows", "count_windows"]] = ("time_windows",)
    measurement_interval_ms: Axis[Count] = (5000,)
    measurement_request_count: Axis[Count] = (50,)
    stability_percentage: Axis[Positive] = (10.0,)
    max_trials: Axis[Annotated[int, Field(strict=True, ge=3, le=1000)]] = (10,)
    input_data: Axis[Annotated[str, BeforeValidator(_data_file)]] = ("random",)
    string_length: Axis[Count | None] = (None,)
    string_data: Axis[str | None] = (None,)
    timeout_s: Axis[Positive | None] = (None,)

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


@dataclass(frozen=True, kw_only=True)
class LoadVariant:
    """What perf_analyzer is asked for at one point, under the names of the record's columns.

    ``concurrency`` is None in an open loop, ``request_rate`` and ``request_distribution`` are in a
    closed one. Other settings that are None are left to perf_analyzer. ``input_data_digest`` is
    that of the data file.
    """

    batch_size: int = 1
    concurrency: int | None = 1
    request_rate: float | None = None
    request_distribution: str | None = None
    protocol: str = "grpc"
    asynchronous: bool = True
    streaming: bool = False
    compression: str = "none"
    shared_memory: str = "none"
    output_shared_memory_bytes: int | None = None
    max_threads: int | None = None
    percentile: int | None = None
    measurement_mode: str = "time_windows"
    measurement_interval_ms: int = 5000
    measurement_request_count: int | None = None
    stability_percentage: float = 10.0
    max_trials: int = 10
    input_data: str = "random"
    input_data_digest: str | None = None
    string_length: int | None = None
    string_data: str | None = None
    timeout_s: float | None = None

    @property
    def window_s(self) -> float:
        """Seconds that a window takes; with count_windows, those that it is expected to take."""
        return self.measurement_interval_ms / 1000 * WINDOW_STRETCH

    @cached_property
    def estimate_s(self) -> float:
        """Seconds that the point takes where it settles within three windows."""
        return 3 * self.window_s + 1

    @cached_property
    def longest_s(self) -> float:
        """Seconds that it takes at most, unless its perf_analyzer hangs: it never settles."""
        return (self.max_trials + REST_WINDOWS) * self.window_s + 2

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a record that tell what was asked for."""
        return {name: getattr(self, name) for name in LOAD_COLUMNS}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that change a figure, where they are not what they are by default.

        A time-out changes none, nor does where the data file lies.
        """
        found = {
            name: getattr(self, name)
            for name, default in _DEFAULTS.items()
            if getattr(self, name) != default
        }
        if self.input_data_digest is not None:
            found.pop("input_data")
        return found


LOAD_COLUMNS = tuple(field.name for field in fields(LoadVariant) if field.name != "timeout_s")
"""The columns of a record that tell what was asked of perf_analyzer."""

_DEFAULTS = {
    field.name: field.default for field in fields(LoadVariant) if field.name in LOAD_COLUMNS
}


def override_load(load: Load, *overrides: Axes | None) -> Load:
    """The axes with those that a model, or a variant, sets itself in their place.

    One that sets either ``concurrency`` or ``request_rate`` has no use for the other's values.
    """
    values = {name: getattr(load, name) for name in load.model_fields_set}
    for override in overrides:
        if override is None:
            continue
        given = {
            name: getattr(override, name)
            for name in Load.model_fields
            if name in override.model_fields_set
        }
        if not given.keys().isdisjoint(("concurrency", "request_rate")):
            values.pop("concurrency", None)
            values.pop("request_rate", None)
        values |= given
    return Load.model_construct(**values)


def split_loops(load: Load) -> list[dict[str, tuple[Any, ...]]]:
    """The axes of the closed loops, and those of the open ones, of whichever there are."""
    axes = load.axes
    closed = axes | {"request_rate": (None,), "request_distribution": (None,)}
    if not load.request_rate:
        return [closed]
    opened = axes | {"concurrency": (None,)}
    return [closed, opened] if "concurrency" in load.model_fields_set else [opened]


def load_variant(
    asked: Mapping[str, Any], *, input_data_digest: str | None, strings: bool
) -> LoadVariant:
    """What one value of each axis asks of perf_analyzer, less what has no meaning beside the rest.

    ``strings``: the model has inputs of texts.
    """
    idle = set()
    if asked["measurement_mode"] == "time_windows":
        idle.add("measurement_request_count")
    if asked["shared_memory"] == "none":
        idle.add("output_shared_memory_bytes")
    if not strings or asked["string_data"] is not None:
        idle.add("string_length")
    if not strings:
        idle.add("string_data")
    kept: dict[str, Any] = {name: None if name in idle else value for name, value in asked.items()}
    return LoadVariant(**kept, input_data_digest=input_data_digest)


def _unsupported_reason(
    *,
    protocol: str,
    asynchronous: bool,
    streaming: bool,
    compression: str,
    shared_memory: str,
    gpus: bool = True,
) -> str | None:
    """Why perf_analyzer refuses such a load; None where it does not. ``gpus``: it sees some."""
    if streaming and protocol != "grpc":
        return "streaming needs protocol: grpc"
    if streaming and not asynchronous:
        return "streaming needs async: true"
    if compression != "none" and protocol != "grpc":
        return f"compression: {compression} needs protocol: grpc; perf_analyzer has none for HTTP"
    if shared_memory == "cuda" and not gpus:
        return "shared_memory: cuda needs a GPU, and the jobs of this pool have none"
    return None


_REFUSED = ("protocol", "asynchronous", "streaming", "compression", "shared_memory")


def unsupported_reason(load: LoadVariant, *, gpus: bool) -> str | None:
    """Why a pool cannot measure with this load; None where nothing is known against it."""
    return _unsupported_reason(**{name: getattr(load, name) for name in _REFUSED}, gpus=gpus)


def always_unsupported_reason(measurement: Measurement) -> str | None:
    """Why no combination of these settings can be measured; None where some can."""
    axes = [getattr(measurement, name) for name in _REFUSED]
    told = [
        _unsupported_reason(**dict(zip(_REFUSED, values, strict=True)))
        for values in itertools.product(*axes)
    ]
    return None if None in told else f"measurement: {told[0]}"
