"""Which loads cannot be measured, because perf_analyzer refuses them or measures something else."""

import itertools
from dataclasses import dataclass

from hpcbench.config.load_axes import Load, LoadVariant, Measurement, split_loops


@dataclass(frozen=True, kw_only=True)
class _Sending:
    """How requests are sent: what decides whether perf_analyzer can."""

    protocol: str
    asynchronous: bool
    streaming: bool
    compression: str
    shared_memory: str
    measurement_mode: str
    request_rate: float | None
    request_intervals: str | None


def _open_loop_reason(asked: _Sending) -> str | None:
    key = "request_intervals" if asked.request_intervals else "request_rate"
    if not asked.asynchronous:
        return (
            f"{key} needs async: true: a synchronous perf_analyzer sends a request only when one "
            "of its threads has its answer, which is no open loop"
        )
    if asked.request_intervals and asked.measurement_mode != "time_windows":
        return f"{key} needs measurement_mode: time_windows, because a window plays the whole file"
    return None


def _unsupported_reason(asked: _Sending, *, gpus: bool = True) -> str | None:
    """Why such a load cannot be measured; None where it can. ``gpus``: perf_analyzer sees some."""
    if asked.request_rate or asked.request_intervals:
        against = _open_loop_reason(asked)
        if against is not None:
            return against
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


_MEASUREMENT = (
    *("protocol", "asynchronous", "streaming", "compression", "shared_memory"),
    "measurement_mode",
)
_LOADS = ("request_rate", "request_intervals")
_REFUSED = (*_MEASUREMENT, *_LOADS)


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
            _unsupported_reason(_Sending(**dict(zip(_REFUSED, values, strict=True))))
            for values in itertools.product(*axes, *(loop[name] for name in _LOADS))
        ]
        if None not in reasons:
            return f"measurement: {reasons[0]}"
    return None
