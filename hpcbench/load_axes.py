"""The sections ``load:`` and ``measurement:`` of a campaign: what perf_analyzer does."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from hpcbench import textfile
from hpcbench.fields import Axes, Count, Frozen, axis


class Load(Axes):
    """The axes that perf_analyzer sweeps against one server."""

    batch_size: Annotated[tuple[Count, ...], BeforeValidator(axis)] = (1,)
    concurrency: Annotated[tuple[Count, ...], BeforeValidator(axis)] = (1,)


class Measurement(Frozen):
    """How each point is measured; the same for all points of a campaign."""

    protocol: Literal["grpc", "http"] = "grpc"
    asynchronous: bool = Field(default=True, alias="async", strict=True)
    percentile: Annotated[int, Field(strict=True, ge=1, le=99)] | None = None
    measurement_interval_ms: Count = 5000
    stability_percentage: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 10.0
    max_trials: Annotated[int, Field(strict=True, ge=3, le=1000)] = 10
    input_data: str = "random"
    timeout_s: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _resolve_data_file(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict):
            given = data.get("input_data", "random")
            if given == "":
                raise ValueError("input_data: allowed: random, zero, or the path of a data file")
            if isinstance(given, str) and given not in ("random", "zero"):
                return {**data, "input_data": str(textfile.absolute(Path(given), info))}
        return data
