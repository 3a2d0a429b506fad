"""The sections ``load:`` and ``measurement:`` of a campaign: what perf_analyzer does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo

from hpcbench.config import yaml_model
from hpcbench.config.load_values import Capacity, Positive, Precision
from hpcbench.config.values import Count, as_axis
from hpcbench.config.yaml_model import FileSection, axis_values

WINDOWS_IN_A_ROW = 3
"""How many windows must agree."""

EXPECTED_STEPS, MOST_STEPS = 12, 30
"""How many measurements a search for a capacity takes, and how many it may take."""

INTERVALS = "intervals"
"""The distribution of requests that are sent at recorded times."""

_LOOPS = ("concurrency", "request_rate", "request_intervals", "capacity")
_LENGTH = "request_intervals_s"

A = TypeVar("A", bound=FileSection)
T = TypeVar("T")
Axis = Annotated[tuple[T, ...], BeforeValidator(as_axis)]
Flag = Annotated[bool, Field(strict=True)]


def _intervals_file(value: Any, info: ValidationInfo) -> Any:
    if value == "":
        raise ValueError("allowed: the path of a file, which hpcbench make-input --arrivals makes")
    return str(yaml_model.absolute_path(Path(value), info)) if isinstance(value, str) else value


class Load(FileSection):
    """How much load arrives: requests in flight, requests per second, or at recorded times.

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
    request_intervals
        Files with the times between requests, of open loops that send them again.
    capacity
        Searches for the highest rate that keeps a limit.
    """

    batch_size: Axis[Count] = (1,)
    concurrency: Axis[Count] = (1,)
    request_rate: Axis[Positive] = ()
    request_distribution: Axis[Literal["constant", "poisson"]] = ("constant",)
    request_intervals: Axis[Annotated[str, BeforeValidator(_intervals_file)]] = ()
    capacity: Axis[Capacity] = ()


def _data_file(value: Any, info: ValidationInfo) -> Any:
    if value == "":
        raise ValueError("allowed: random, zero, or the path of a JSON file or folder")
    if isinstance(value, str) and value not in ("random", "zero"):
        return str(yaml_model.absolute_path(Path(value), info))
    return value


class Measurement(FileSection):
    """How perf_analyzer sends its requests, and when it has seen enough of them.

    Each attribute is an axis: a value or a list of values.

    Attributes
    ----------
    protocol
        "grpc" or "http".
    asynchronous
        The key ``async``: whether one thread of the client has several requests in flight.
    streaming
        Whether requests share a bidirectional stream of gRPC.
    compression
        Of requests and responses: "none", "gzip" or "deflate".
    shared_memory
        Where inputs and outputs are passed: "none", "system" or "cuda".
    output_shared_memory_bytes
        Room for one output in shared memory [bytes].
    max_threads
        The most threads of the client.
    percentile
        The percentile of the latency that must settle [%]; None for the mean.
    measurement_mode
        "time_windows" or "count_windows".
    measurement_interval_ms
        The length of a window [ms].
    measurement_request_count
        The requests in a window of "count_windows".
    stability_percentage
        How far three windows may differ [%].
    max_trials
        After so many windows a point is unstable.
    stop
        "windows", or a `Precision`: stop when the intervals are narrow enough.
    input_data
        "random", "zero", or a JSON file or folder with data.
    string_length
        The length of random strings [bytes].
    string_data
        The string that all inputs of strings get.
    timeout_s
        After so long a point has failed [s]; None for what its windows may take.
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
    in a closed one. Of an open loop with ``request_intervals`` they are the mean rate and
    "intervals". Other settings that are None are left to perf_analyzer. ``input_data_digest``
    stands for the content of the data file. ``stability_percentage`` and ``max_trials`` are None
    where ``stop_precision`` decides. ``timeout_s`` is no column: it changes no metric. Nor is
    ``arrivals_seed``, from which the arrivals of a step of a search for a capacity are drawn: no
    campaign sets it. The search itself has no rate.
    """

    batch_size: int = 1
    concurrency: int | None = 1
    request_rate: float | None = None
    request_distribution: str | None = None
    request_intervals: str | None = None
    request_intervals_digest: str | None = None
    request_intervals_s: float | None = None
    capacity_max_latency_p99_ms: float | None = None
    capacity_within: float | None = None
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
    arrivals_seed: int | None = None

    @property
    def is_search(self) -> bool:
        """Whether the point is a search for a capacity."""
        return self.capacity_max_latency_p99_ms is not None

    @property
    def replays(self) -> bool:
        """Whether perf_analyzer is given a file with the times between requests."""
        return self.request_intervals is not None or self.arrivals_seed is not None

    @property
    def window_s(self) -> float:
        """Seconds that a window takes; with count_windows, the seconds that are expected."""
        return self.measurement_interval_ms / 1000

    @property
    def allowed_s(self) -> float:
        """Seconds under load after which the point is unstable."""
        return self.stop_max_s or (self.max_trials or 0) * self.window_s

    @property
    def queue_s(self) -> float:
        """Seconds in which a rate that is too high makes the latency of a search's limit."""
        limit_s = (self.capacity_max_latency_p99_ms or 0.0) / 1000
        return limit_s / self.capacity_within if self.capacity_within else 0.0

    @cached_property
    def estimate_s(self) -> float:
        """Seconds that the point takes if it is soon settled."""
        if self.is_search:
            window_s = max(self.window_s, self.queue_s)
            return EXPECTED_STEPS * (WINDOWS_IN_A_ROW * window_s + 1)
        return min(self.allowed_s, WINDOWS_IN_A_ROW * self.window_s) + 1

    @cached_property
    def longest_s(self) -> float:
        """Seconds that it takes if it never settles. Only a perf_analyzer that hangs takes more."""
        # One more window, because the first ones may turn out to be too short.
        longest_s = max(self.allowed_s, WINDOWS_IN_A_ROW * self.queue_s) + self.window_s + 2
        return longest_s * (MOST_STEPS if self.is_search else 1)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a record that say what was asked for."""
        return {name: getattr(self, name) for name in LOAD_COLUMNS}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that change a metric, where they differ from the defaults.

        Neither the time-out nor the place of a file changes a metric. The digest of a file with
        intervals stands for all that follows from it.
        """
        found = {
            name: getattr(self, name)
            for name, default in _DEFAULTS.items()
            if getattr(self, name) != default
        }
        if self.input_data_digest is not None:
            found.pop("input_data")
        if self.request_intervals is not None:
            for name in ("request_intervals", "request_intervals_s", "request_rate"):
                found.pop(name)
        return found


LOAD_COLUMNS = tuple(
    field.name for field in fields(LoadVariant) if field.name not in ("timeout_s", "arrivals_seed")
)
"""The columns of a record that say what was asked of perf_analyzer."""

_DEFAULTS = {
    field.name: field.default for field in fields(LoadVariant) if field.name in LOAD_COLUMNS
}


def override_axes(axes: A, *overrides: FileSection | None) -> A:
    """Return axes with those of a model or a variant in their place.

    Parameters
    ----------
    axes
        A section of the campaign.
    *overrides
        Sections that may set some of its axes; later ones win.

    Returns
    -------
    FileSection
        The section. Whoever sets one of `_LOOPS` drops the values of the others: it chooses between
        a closed loop and open ones.
    """
    values = {name: getattr(axes, name) for name in axes.model_fields_set}
    for override in overrides:
        if override is None:
            continue
        given = {
            name: getattr(override, name)
            for name in type(axes).model_fields
            if name in override.model_fields_set
        }
        if not given.keys().isdisjoint(_LOOPS):
            values = {name: value for name, value in values.items() if name not in _LOOPS}
        values |= given
    # Not checked again: what only some combinations cannot take is found when they are made.
    return cast("A", type(axes).model_construct(**values))


def split_loops(load: Load) -> list[dict[str, tuple[Any, ...]]]:
    """Return the axes of each kind of loop: closed, with a rate, with a file, with a search.

    Parameters
    ----------
    load
        The load axes of a model.

    Returns
    -------
    list of dict
        Values by axis, for each kind of loop that there is.
    """
    axes = axis_values(load) | dict.fromkeys((*_LOOPS, "request_distribution"), (None,))
    found = []
    if load.request_rate:
        distributions = load.request_distribution
        found.append(
            axes | {"request_rate": load.request_rate, "request_distribution": distributions}
        )
    if load.request_intervals:
        files = load.request_intervals
        found.append(axes | {"request_intervals": files, "request_distribution": (INTERVALS,)})
    if load.capacity:
        found.append(axes | {"capacity": load.capacity, "request_distribution": ("poisson",)})
    if not found or "concurrency" in load.model_fields_set:
        found.insert(0, axes | {"concurrency": load.concurrency})
    return found


def load_variant(
    asked: Mapping[str, Any],
    *,
    input_data_digest: str | None,
    strings: bool,
    replayed: Mapping[str, Any] | None = None,
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
    replayed
        What the file with the intervals says, by the names of the columns; None without a file.

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
        if name not in ("stop", "capacity")
    }
    search = asked["capacity"]
    if search is not None:
        settings["capacity_max_latency_p99_ms"] = search.max_latency_p99_ms
        settings["capacity_within"] = search.within
    if isinstance(stop, Precision):
        settings |= {"stop_precision": stop.precision, "stop_max_s": stop.max_s}
    if replayed is not None:
        settings |= replayed
        # A window that plays a part of the file would meet other arrivals than the next one.
        plays = math.ceil(settings["measurement_interval_ms"] / 1000 / replayed[_LENGTH] - 1e-9)
        settings["measurement_interval_ms"] = round(1000 * plays * replayed[_LENGTH])
    return LoadVariant(**settings, input_data_digest=input_data_digest)
