"""What a value of a server axis, or an option of tritonserver, may be: checked when it is read."""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from google.protobuf import json_format, text_format
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.config.values import BASE, MAX_COUNT, check_line
from hpcbench.config.yaml_model import FileSection

Setting = bool | str | int | tuple[int, ...] | None
"""A value as a variant holds it: mappings are JSON strings, so that they compare and hash."""

KINDS = ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")

# Pydantic would serialise by the annotation, which these validators do not go by.
_AS_IT_IS = PlainSerializer(lambda value: value)


def _allowed(test: Callable[[Any], bool], what: str) -> PlainValidator:
    """Accept ``base`` and what passes the test; say what is allowed otherwise."""

    def check(value: Any) -> Any:
        if (type(value) is str and value == BASE) or test(value):
            return tuple(value) if isinstance(value, list) else value
        raise ValueError(f"allowed: {what}, or base")

    return PlainValidator(check)


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _numbers(value: Any, least: int) -> bool:
    return isinstance(value, list | tuple) and all(_whole(item, least, MAX_COUNT) for item in value)


class Accelerator(BaseModel):
    """An execution accelerator of Triton. Further keys are parameters of the accelerator.

    Attributes
    ----------
    name
        tensorrt or openvino.
    precision_mode
        TensorRT's precision; FP32 by default.
    max_workspace_size_bytes
        The most GPU memory for TensorRT's temporary data.
    engine_cache
        Whether TensorRT keeps its engines on the scratch disk. False for servers whose backend
        has no such parameter.
    profiles
        Whether TensorRT is given the shapes and batch sizes of the scan, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Literal["tensorrt", "openvino"]
    precision_mode: Literal["FP32", "FP16", "BF16", "INT8"] | None = None
    max_workspace_size_bytes: Annotated[int, Field(strict=True, ge=1)] | None = None
    engine_cache: Annotated[bool, Field(strict=True)] = True
    profiles: Annotated[bool, Field(strict=True)] = True

    @model_validator(mode="before")
    @classmethod
    def _parameters_are_plain(cls, data: Any) -> Any:
        for key, value in data.items() if isinstance(data, dict) else ():
            if not isinstance(value, str | int | float | None):
                raise ValueError(
                    f"{key}: must be a string, a number, true or false, not {value!r}; for an axis "
                    "over it, write one mapping for each of its values"
                )
        return data

    @model_validator(mode="after")
    def _openvino_has_no_parameters_of_tensorrt(self) -> "Accelerator":
        mine = self.model_fields_set - {"name"}
        if self.name == "openvino" and mine & set(type(self).model_fields):
            raise ValueError(f"{', '.join(sorted(mine))}: openvino has no such key; TensorRT has")
        return self

    @property
    def text(self) -> str:
        """JSON of its name and parameters: the same for equal accelerators."""
        found: dict[str, Any] = {"name": self.name, **(self.model_extra or {})}
        if self.name == "tensorrt":
            found["precision_mode"] = self.precision_mode or "FP32"
        if self.max_workspace_size_bytes is not None:
            found["max_workspace_size_bytes"] = self.max_workspace_size_bytes
        found |= {key: False for key in HPCBENCH_KEYS if not getattr(self, key)}
        return json.dumps({key: _plain(value) for key, value in found.items()}, sort_keys=True)


HPCBENCH_KEYS = ("engine_cache", "profiles")
"""Keys of an accelerator that are for hpcbench and not for Triton."""


def _plain(value: Any) -> str:
    """As Triton takes parameters: every value is a string."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class QueuePolicy(FileSection):
    """What happens to requests that wait: Triton's ModelQueuePolicy."""

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    default_timeout_us: Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)] = 0
    allow_timeout_override: Annotated[bool, Field(strict=True)] = False
    max_queue_size: Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)] = 0

    @property
    def text(self) -> str:
        """JSON of all its settings."""
        return json.dumps(self.model_dump(exclude_unset=False), sort_keys=True)


class Resource(FileSection):
    """How much of a resource an instance needs to run.

    Attributes
    ----------
    name
        The name of the resource.
    count
        How much an instance needs.
    shared
        The key ``global``: whether the resource exists once per server, not once per device.
    """

    name: Annotated[str, Field(min_length=1)]
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)]
    shared: Annotated[bool, Field(strict=True, alias="global")] = False


class RateLimiter(FileSection):
    """Which resources an instance needs, and its priority: Triton's ModelRateLimiter."""

    resources: tuple[Resource, ...] = ()
    priority: Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)] = 0

    @property
    def text(self) -> str:
        """JSON of all its settings."""
        return json.dumps(self.model_dump(exclude_unset=False), sort_keys=True)


def _mapping(kind: type[BaseModel], example: str) -> PlainValidator:
    def check(value: Any) -> Any:
        if value is None or value == BASE or isinstance(value, kind):
            return value
        if isinstance(value, dict):
            return kind.model_validate(value)
        raise ValueError(f"allowed: a mapping such as {example}, null for none, or base")

    return PlainValidator(check)


def _fragment(value: Any) -> Any:
    """A part of a ModelConfig as JSON."""
    if type(value) is str and value == BASE:
        return value
    if isinstance(value, str):
        if re.search(r":\s*(false|0)\b", value):
            raise ValueError(
                "protobuf text cannot say false or 0, which look like left out; write a mapping"
            )
        try:
            message = text_format.Parse(value, ModelConfig())
        except text_format.ParseError as error:
            raise ValueError(f"is no part of a config.pbtxt: {error}") from None
        value = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if not isinstance(value, dict) or not value:
        raise ValueError(
            "allowed: a part of Triton's ModelConfig, as a mapping such as "
            "{optimization: {eager_batching: true}} or as lines of a config.pbtxt, or base"
        )
    try:
        json_format.ParseDict(value, ModelConfig())
    except json_format.ParseError as error:
        # Protobuf appends the names of all fields.
        problem = str(error).partition(" Available Fields")[0].rstrip(".\n ")
        raise ValueError(f"is no part of Triton's ModelConfig: {problem}") from None
    if "name" in value:
        raise ValueError("name: the name of a model is that of its folder")
    return json.dumps(value, sort_keys=True)


Base = Literal["base"]
Count = Annotated[
    int | Base,
    _allowed(lambda v: _whole(v, 1, 10_000), "a whole number from 1 to 10000"),
    _AS_IT_IS,
]
Level = Annotated[
    int | Base, _allowed(lambda v: _whole(v, 0, 1000), "a whole number from 0 to 1000"), _AS_IT_IS
]
Delay = Annotated[
    int | Base, _allowed(lambda v: _whole(v, 0, MAX_COUNT), "whole microseconds from 0"), _AS_IT_IS
]
Batch = Annotated[
    int | Base, _allowed(lambda v: _whole(v, 1, MAX_COUNT), "a whole number from 1"), _AS_IT_IS
]
Sizes = Annotated[
    tuple[int, ...] | None | Base,
    _allowed(
        lambda v: v is None or _numbers(v, 1),
        "a list of batch sizes, [] for dynamic batching without preferred sizes, null for no "
        "dynamic batching",
    ),
    _AS_IT_IS,
]
Devices = Annotated[
    tuple[int, ...] | Base,
    _allowed(
        lambda v: _numbers(v, 0) and len(v) > 0 and len(set(v)) == len(v),
        "a list of GPUs, counted from 0 among those of the job",
    ),
    _AS_IT_IS,
]
Kind = Annotated[str, _allowed(lambda v: v in KINDS, ", ".join(KINDS)), _AS_IT_IS]
Graph = Annotated[
    int | Base, _allowed(lambda v: _whole(v, -1, 2), "a whole number from -1 to 2"), _AS_IT_IS
]
Switch = Annotated[bool | Base, _allowed(lambda v: type(v) is bool, "true, false"), _AS_IT_IS]
AcceleratorOrNone = Annotated[
    Accelerator | None | Base, _mapping(Accelerator, "{name: tensorrt}"), _AS_IT_IS
]
PolicyOrNone = Annotated[
    QueuePolicy | None | Base, _mapping(QueuePolicy, "{max_queue_size: 8}"), _AS_IT_IS
]
LimiterOrNone = Annotated[
    RateLimiter | None | Base,
    _mapping(RateLimiter, "{resources: [{name: gpu, count: 1}]}"),
    _AS_IT_IS,
]
Fragment = Annotated[
    str,
    PlainValidator(_fragment),
    PlainSerializer(lambda value: value if value == BASE else json.loads(value)),
]


_FLAG = re.compile(r"--([a-z][a-z0-9-]*)(=.+)?")

_OWN = (
    *("model-repository", "model-store", "model-control-mode", "load-model", "id", "help"),
    *("repository-poll-secs", "exit-on-error", "exit-timeout-secs", "version"),
    *("http-port", "http-address", "reuse-http-port", "grpc-port", "grpc-address"),
    *("reuse-grpc-port", "metrics-port", "metrics-address", "allow-http", "allow-grpc"),
    *("allow-metrics", "allow-cpu-metrics", "allow-gpu-metrics", "disable-auto-complete-config"),
    *("strict-model-config", "strict-readiness", "log-verbose", "log-info", "log-warning"),
    *("log-error", "log-format", "log-file", "trace-file", "trace-level", "trace-rate"),
    *("trace-count", "trace-log-frequency", "trace-config", "backend-directory"),
    *("repoagent-directory", "http-restricted-api", "grpc-restricted-protocol", "grpc-use-ssl"),
    *("grpc-use-ssl-mutual", "grpc-server-cert", "grpc-server-key", "grpc-root-cert"),
)
"""Those that hpcbench gives itself, or could not measure with."""

_OWN_KINDS = re.compile(r"(exit|strict|log|trace)-|(http|grpc)-.*(ssl|cert|key\b)")
"""Of such kinds, those of other versions of Triton as well."""


def flag_name(flag: str) -> str:
    """Return the name of an option.

    Parameters
    ----------
    flag
        As in "--rate-limit=execution_count".

    Returns
    -------
    str
        As in "--rate-limit".
    """
    return flag.partition("=")[0]


def _server_flag(flag: Any) -> Any:
    if not isinstance(flag, str):
        return flag
    found = _FLAG.fullmatch(check_line(flag))
    if not found:
        raise ValueError("must be one option of tritonserver with its value, as in --name=value")
    # getopt_long takes each beginning of an option that no other has. Which those are depends on
    # the Triton: a beginning that another option has, too, would not start anyway, or mean another.
    meant = [name for name in _OWN if name.startswith(found[1])]
    if found[1] in meant or _OWN_KINDS.match(found[1]):
        raise ValueError(f"--{found[1]} is hpcbench's own: it starts, watches and asks the server")
    if meant:
        raise ValueError(
            f"--{found[1]}: tritonserver may read it as --{meant[0]}, which is hpcbench's own: it "
            "starts, watches and asks the server; write the option in full"
        )
    return flag


ServerFlag = Annotated[str, AfterValidator(_server_flag)]
