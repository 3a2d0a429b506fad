"""The sections ``load:`` and ``measurement:`` of a campaign: what perf_analyzer does."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo

from hpcbench.config import yaml_model
from hpcbench.config.values import Count, as_axis
from hpcbench.config.yaml_model import FileSection, axis_values

WINDOWS_IN_A_ROW = 3
"""How many windows must agree."""

T = TypeVar("T")
Axis = Annotated[tuple[T, ...], BeforeValidator(as_axis)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]


class Load(FileSection):
    """How much load arrives: requests in flight, or requests per second.

    Attributes
    ----------
    batch_size
        Inferences per request: perf_analyzer's ``-b``.
    concurrency
        Requests in flight, in a closed loop.
    request_rate
        Requests per second, in an open loop.
    request_distribution
        The distribution of the times between requests of an open loop.
    """

    batch_size: Axis[Count] = (1,)
    concurrency: Axis[Count] = (1,)
    request_rate: Axis[Positive] = ()
    request_distribution: Axis[Literal["constant", "poisson"]] = ("constant",)


class Precision(FileSection):
    """Stop when the 95 % intervals of throughput and latency are narrow enough.

    Attributes
    ----------
    precision
        Half of each interval, over its mean.
    max_s
        After so many seconds the point is unstable.
    """

    precision: Annotated[float, Field(strict=True, gt=0, lt=1)]
    max_s: Positive = 60.0


def _data_file(value: Any, info: ValidationInfo) -> Any:
    if value == "":
        raise ValueError("allowed: random, zero, or the path of a JSON file or folder")
    if isinstance(value, str) and value not in ("random", "zero"):
        return str(yaml_model.absolute_path(Path(value), info))
    return value


class Measurement(FileSection):
    """How perf_analyzer sends its requests, and when it has seen enough of them.

    docs/axes.md says what each axis becomes on its command line.
    """

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
    stop: Axis[Literal["windows"] | Precision] = ("windows",)
    input_data: Axis[Annotated[str, BeforeValidator(_data_file)]] = ("random",)
    string_length: Axis[Count | None] = (None,)
    string_data: Axis[str | None] = (None,)
    timeout_s: Axis[Positive | None] = (None,)

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


@dataclass(frozen=True, kw_only=True)
class LoadVariant:
    """What perf_analyzer is asked for at one point, under the names of the record's columns.

    ``concurrency`` is None in an open loop; ``request_rate`` and ``request_distribution`` are None
    in a closed one. Other settings that are None are left to perf_analyzer. ``input_data_digest``
    stands for the content of the data file. ``stability_percentage`` and ``max_trials`` are None
    where ``stop_precision`` decides. ``timeout_s`` is no column: it changes no metric.
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
    stability_percentage: float | None = 10.0
    max_trials: int | None = 10
    stop_precision: float | None = None
    stop_max_s: float | None = None
    input_data: str = "random"
    input_data_digest: str | None = None
    string_length: int | None = None
    string_data: str | None = None
    timeout_s: float | None = None

    @property
    def window_s(self) -> float:
        """Seconds that a window takes; with count_windows, the seconds that are expected."""
        return self.measurement_interval_ms / 1000

    @property
    def allowed_s(self) -> float:
        """Seconds under load after which the point is unstable."""
        return self.stop_max_s or (self.max_trials or 0) * self.window_s

    @cached_property
    def estimate_s(self) -> float:
        """Seconds that the point takes if it is soon settled."""
        return min(self.allowed_s, WINDOWS_IN_A_ROW * self.window_s) + 1

    @cached_property
    def longest_s(self) -> float:
        """Seconds that it takes if it never settles. Only a perf_analyzer that hangs takes more."""
        # One more window, because the first ones may turn out to be too short.
        return self.allowed_s + self.window_s + 2

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a record that say what was asked for."""
        return {name: getattr(self, name) for name in LOAD_COLUMNS}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that change a metric, where they differ from the defaults.

        Neither the time-out nor the place of the data file changes a metric.
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
"""The columns of a record that say what was asked of perf_analyzer."""

_DEFAULTS = {
    field.name: field.default for field in fields(LoadVariant) if field.name in LOAD_COLUMNS
}


def override_load(load: Load, *overrides: FileSection | None) -> Load:
    """Return load axes with those of a model or a variant in their place.

    Parameters
    ----------
    load
        The campaign's axes.
    *overrides
        Sections that may set some of these axes; later ones win.

    Returns
    -------
    Load
        The axes. Whoever sets ``concurrency`` or ``request_rate`` drops the other's values: it
        chooses between a closed and an open loop.
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
    """Return the axes of closed loops and of open loops apart.

    Parameters
    ----------
    load
        The load axes of a model.

    Returns
    -------
    list of dict
        Values by axis, for the closed loops, the open loops, or both.
    """
    axes = axis_values(load)
    closed = axes | {"request_rate": (None,), "request_distribution": (None,)}
    if not load.request_rate:
        return [closed]
    opened = axes | {"concurrency": (None,)}
    return [closed, opened] if "concurrency" in load.model_fields_set else [opened]


def load_variant(
    asked: Mapping[str, Any], *, input_data_digest: str | None, strings: bool
) -> LoadVariant:
    """Return what one value of each axis asks of perf_analyzer.

    Parameters
    ----------
    asked
        One value by axis. Values that have no effect beside the others are dropped, so that equal
        measurements are equal points.
    input_data_digest
        Stands for the content of the data file; None for generated data.
    strings
        Whether the model has inputs of strings.

    Returns
    -------
    LoadVariant
        The settings of the point.
    """
    no_effect = set()
    if asked["measurement_mode"] == "time_windows":
        no_effect.add("measurement_request_count")
    if asked["shared_memory"] == "none":
        no_effect.add("output_shared_memory_bytes")
    if not strings or asked["string_data"] is not None:
        no_effect.add("string_length")
    if not strings:
        no_effect.add("string_data")
    stop = asked["stop"]
    if isinstance(stop, Precision):
        no_effect |= {"stability_percentage", "max_trials"}
    settings: dict[str, Any] = {
        name: None if name in no_effect else value
        for name, value in asked.items()
        if name != "stop"
    }
    if isinstance(stop, Precision):
        settings |= {"stop_precision": stop.precision, "stop_max_s": stop.max_s}
    return LoadVariant(**settings, input_data_digest=input_data_digest)


@dataclass(frozen=True, kw_only=True)
class _Sending:
    """How requests are sent: what decides whether perf_analyzer can."""

    protocol: str
    asynchronous: bool
    streaming: bool
    compression: str
    shared_memory: str
    request_rate: float | None


def _unsupported_reason(asked: _Sending, *, gpus: bool = True) -> str | None:
    """Why such a load cannot be measured; None where it can. ``gpus``: perf_analyzer sees some."""
    if asked.request_rate is not None and not asked.asynchronous:
        return (
            "request_rate needs async: true: a synchronous perf_analyzer sends a request only when "
            "one of its threads has its answer, which is no open loop"
        )
    if asked.streaming and asked.protocol != "grpc":
        return "streaming needs protocol: grpc"
    if asked.streaming and not asked.asynchronous:
        return "streaming needs async: true"
    if asked.compression != "none" and asked.protocol != "grpc":
        return (
            f"compression: {asked.compression} needs protocol: grpc; perf_analyzer has none for "
            "HTTP"
        )
    if asked.shared_memory == "cuda" and not gpus:
        return "shared_memory: cuda needs a GPU, and the jobs of this pool have none"
    return None


_MEASUREMENT = ("protocol", "asynchronous", "streaming", "compression", "shared_memory")
_REFUSED = (*_MEASUREMENT, "request_rate")


def unsupported_reason(load: LoadVariant, *, gpus: bool) -> str | None:
    """Return why a pool cannot measure with a load.

    Parameters
    ----------
    load
        The settings of a point.
    gpus
        Whether the pool gives its jobs GPUs.

    Returns
    -------
    str or None
        The reason; None where none is known.
    """
    asked = _Sending(**{name: getattr(load, name) for name in _REFUSED})
    return _unsupported_reason(asked, gpus=gpus)


def always_unsupported_reason(load: Load, measurement: Measurement) -> str | None:
    """Return why no combination of these settings can be measured.

    Parameters
    ----------
    load, measurement
        Axes of a model.

    Returns
    -------
    str or None
        The reason; None where some combination can be measured. Closed and open loops are asked
        for one by one: a campaign that can measure only one of them is wrong about the other.
    """
    axes = [getattr(measurement, name) for name in _MEASUREMENT]
    for loop in split_loops(load):
        reasons = [
            _unsupported_reason(_Sending(**dict(zip(_REFUSED, (*values, rate), strict=True))))
            for values in itertools.product(*axes)
            for rate in loop["request_rate"]
        ]
        if None not in reasons:
            return f"measurement: {reasons[0]}"
    return None
