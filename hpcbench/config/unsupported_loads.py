"""Which loads cannot be measured, because perf_analyzer refuses them or measures something else."""

import itertools

from hpcbench.config.load_axes import Load, LoadVariant, Measurement, split_loops


def _open_loop_reason(load: LoadVariant) -> str | None:
    key = "request_intervals" if load.request_intervals else "request_rate"
    key = "capacity" if load.is_search else key
    if not load.asynchronous:
        return (
            f"{key} needs async: true: a synchronous perf_analyzer sends a request only when one "
            "of its threads has its answer, which is no open loop"
        )
    if load.request_intervals and load.measurement_mode != "time_windows":
        return f"{key} needs measurement_mode: time_windows, because a window plays the whole file"
    if load.is_search and load.measurement_mode != "time_windows":
        return f"{key} needs measurement_mode: time_windows, because it looks at every rate as long"
    return None


def unsupported_reason(load: LoadVariant, *, gpus: bool = True) -> str | None:
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
    if load.request_rate or load.request_intervals or load.is_search:
        against = _open_loop_reason(load)
        if against is not None:
            return against
    if load.streaming and load.protocol != "grpc":
        return "streaming needs protocol: grpc"
    if load.streaming and not load.asynchronous:
        return "streaming needs async: true"
    if load.compression != "none" and load.protocol != "grpc":
        return (
            f"compression: {load.compression} needs protocol: grpc; perf_analyzer has none for HTTP"
        )
    if load.shared_memory == "cuda" and not gpus:
        return "shared_memory: cuda needs a GPU, and the jobs of this pool have none"
    return None


_MEASUREMENT = (
    *("protocol", "asynchronous", "streaming", "compression", "shared_memory"),
    "measurement_mode",
)
_LOADS = ("request_rate", "request_intervals")
_REFUSED = (*_MEASUREMENT, *_LOADS, "capacity_max_latency_p99_ms")


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
        limits = [each and each.max_latency_p99_ms for each in loop["capacity"]]
        loads = [loop[name] for name in _LOADS]
        reasons = [
            unsupported_reason(LoadVariant(**dict(zip(_REFUSED, values, strict=True))))
            for values in itertools.product(*axes, *loads, limits)
        ]
        if None not in reasons:
            return f"measurement: {reasons[0]}"
    return None
