"""Values of the axes of the load that have keys of their own."""

from typing import Annotated

from pydantic import Field

from hpcbench.config.yaml_model import FileSection

Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class Capacity(FileSection):
    """Search for the highest rate of Poisson arrivals that keeps a limit of latency.

    Attributes
    ----------
    max_latency_p99_ms
        The limit of the 99th percentile of latency, in ms.
    within
        By how much the next rate that is tried is higher than the answer, as a fraction of it.
    """

    max_latency_p99_ms: Positive
    within: Annotated[float, Field(strict=True, ge=0.01, le=1)] = 0.05


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
