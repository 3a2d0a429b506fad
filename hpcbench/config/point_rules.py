"""Rules about points: which of them a campaign leaves out, and what it expects of others."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from hpcbench.config.load_axes import Axis, Load, Measurement
from hpcbench.config.server_axes import Server
from hpcbench.config.values import Count, Label, Name, as_axis, check_line
from hpcbench.config.yaml_model import FileSection


def _strings(value: Any) -> Any:
    return tuple(str(each) if type(each) is int else each for each in as_axis(value))


class PointRule(Server, Load, Measurement):
    """Values of any axes. The rule is about the points that have one of each.

    Attributes
    ----------
    model
        Names or labels of the models that it is about; empty for all.
    version
        Versions of the model.
    shapes
        Names of shapes.
    """

    model: Annotated[tuple[Name | Label, ...], BeforeValidator(_strings)] = ()
    version: Axis[Count | None] = ()
    shapes: Annotated[tuple[str, ...], BeforeValidator(_strings)] = ()

    @property
    def values_by_axis(self) -> dict[str, tuple[Any, ...]]:
        """The values by axis, of those axes that the rule names."""
        return {
            name: getattr(self, name)
            for name in PointRule.model_fields
            if name in self.model_fields_set
        }

    def is_about(self, *names: str | None) -> bool:
        """Return whether the rule is about a model.

        Parameters
        ----------
        *names
            Its name and its label.

        Returns
        -------
        bool
            True where the rule has one of them, or names no model at all.
        """
        return not self.model or not set(names).isdisjoint(self.model)


AXIS_NAMES = {
    (info.alias or name): name for name, info in PointRule.model_fields.items() if name != "model"
}
"""By the name of each axis in a file: the field that holds it."""

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Bound = _Number | None


class Reference(FileSection):
    """What a campaign expects of some points.

    Attributes
    ----------
    gpu
        Names of GPUs, as NVML has them, that it is about; empty for all.
    points
        The points that it is about; all by default.
    expect
        By the column of a metric: its value, and how far below and above that it may be, as
        fractions of it; None for as far as it likes.
    """

    gpu: Annotated[tuple[str, ...], BeforeValidator(_strings)] = ()
    points: PointRule = PointRule()
    expect: dict[str, tuple[_Number, _Bound, _Bound]]

    @field_validator("gpu", mode="after")
    @classmethod
    def _gpus_are_lines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_line, names))

    @field_validator("points", mode="after")
    @classmethod
    def _results_have_its_points(cls, rule: PointRule) -> PointRule:
        if "timeout_s" in rule.model_fields_set:
            raise ValueError("timeout_s: no result says it; leave it out")
        return rule

    @field_validator("expect", mode="after")
    @classmethod
    def _values_can_be_missed(cls, expected: Any) -> Any:
        if not expected:
            raise ValueError("is empty; name a metric, as in throughput_infer_per_s")
        for metric, (value, below, above) in expected.items():
            if value <= 0:
                raise ValueError(f"{metric}: the value must be above 0, not {value:g}")
            if below is None and above is None:
                raise ValueError(f"{metric}: give a lower or an upper tolerance, or both")
            if below is not None and not -1 <= below <= 0:
                raise ValueError(
                    f"{metric}: the lower tolerance must be from -1 to 0, as -0.05 for 5 % less, "
                    f"not {below:g}"
                )
            if above is not None and above < 0:
                raise ValueError(
                    f"{metric}: the upper tolerance must be 0 or more, as 0.05 for 5 % more, not "
                    f"{above:g}"
                )
        return expected
