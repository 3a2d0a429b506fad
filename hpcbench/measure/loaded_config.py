"""What a running Triton says that it loaded: asked over HTTP, compared, and as columns."""

import http.client
import json
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from hpcbench.config.triton_protobuf import ModelConfig, ModelInstanceGroup
from hpcbench.errors import ServerFailed
from hpcbench.plan.point import ServerVariant
from hpcbench.runtime.loopback import Port

_OWN = ("trt_engine_cache_enable", "trt_engine_cache_path")
_PROFILE = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
"""Parameters that hpcbench adds to an accelerator. They differ between nodes and between scans."""

_DECIDES = {
    "dynamic_batching": ("dynamic_batching", "preferred_batch_size"),
    "sequence_batching": (),
    "model_warmup": ("warmup",),
    "response_cache": ("response_cache",),
    "optimization.execution_accelerators": ("accelerator",),
    "optimization.cuda": ("cuda_graphs",),
}
"""Parts that Triton must not add by itself, with the axes that set them."""


def get(port: Port, path: str) -> tuple[int, bytes]:
    """Return what Triton answers to a GET.

    Parameters
    ----------
    port
        One of its HTTP ports.
    path
        The path with its leading slash, such as ``/v2``.

    Returns
    -------
    tuple
        HTTP's status code, and the body.

    Raises
    ------
    OSError
        If there is no connection.
    HTTPException
        If the answer is no HTTP.
    """
    connection = port.http(timeout_s=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def get_json(port: Port, path: str) -> dict[str, Any]:
    """Return the JSON that Triton answers to a GET.

    Parameters
    ----------
    port
        Its HTTP port.
    path
        The path with its leading slash, such as ``/v2``.

    Returns
    -------
    dict of str to Any
        The answer, whatever its status.

    Raises
    ------
    OSError
        If there is no connection.
    HTTPException
        If the answer is no HTTP.
    ValueError
        If the answer is no JSON.
    """
    _, body = get(port, path)
    answer: dict[str, Any] = json.loads(body)
    return answer


def get_config(http_port: Port, model: str) -> ModelConfig:
    """Return the configuration with which Triton serves a model.

    Parameters
    ----------
    http_port
        Its HTTP port.
    model
        Name of the model, with ``/versions/N`` for a version that is not the latest.

    Returns
    -------
    ModelConfig
        Fields that only a newer Triton has are left out.

    Raises
    ------
    ServerFailed
        If it does not answer.
    """
    answer = _needed(http_port, f"/v2/models/{model}/config")
    return json_format.ParseDict(answer, ModelConfig(), ignore_unknown_fields=True)


def loaded_versions(http_port: Port, model: str) -> list[str]:
    """Return the versions of a model that Triton has loaded.

    Parameters
    ----------
    http_port
        Its HTTP port.
    model
        Name of the model.

    Returns
    -------
    list of str
        As Triton gives them.

    Raises
    ------
    ServerFailed
        If it does not answer.
    """
    versions: list[str] = _needed(http_port, f"/v2/models/{model}")["versions"]
    return versions


def _needed(port: Port, path: str) -> dict[str, Any]:
    # Not as an OSError, by which a results folder that cannot be written is known.
    try:
        return get_json(port, path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerFailed(f"Triton did not answer {path}: {error}") from error


def loaded_configs(http_port: Port, variants: Sequence[ServerVariant]) -> tuple[ModelConfig, ...]:
    """Return the configurations with which Triton serves variants.

    Parameters
    ----------
    http_port
        Its HTTP port.
    variants
        The variants, all loaded.

    Returns
    -------
    tuple of ModelConfig
        In the order of ``variants``.
    """
    found = []
    for variant in variants:
        suffix = f"/versions/{variant.version}" if variant.version is not None else ""
        found.append(get_config(http_port, f"{variant.model.name}{suffix}"))
    return tuple(found)


def resolved_columns(config: ModelConfig) -> dict[str, Any]:
    """Return what a loaded configuration means for the record.

    Parameters
    ----------
    config
        The configuration with all that Triton completed.

    Returns
    -------
    dict of str to Any
        Values by the names of their columns; those of the dynamic batcher are None without it.
    """
    batching = config.HasField("dynamic_batching")
    scheduler = config.dynamic_batching
    groups = config.instance_group
    optimization = config.optimization
    found = {
        "platform": config.platform or config.backend or None,
        "max_batch_size": config.max_batch_size,
        "instance_count": sum(group.count for group in groups) or None,
        "instance_kind": ",".join(sorted({ModelInstanceGroup.Kind.Name(g.kind) for g in groups}))
        or None,
        "gpus": tuple(sorted({gpu for group in groups for gpu in group.gpus})) or None,
        "dynamic_batching": batching,
        "preferred_batch_size": tuple(scheduler.preferred_batch_size),
        "max_queue_delay_us": scheduler.max_queue_delay_microseconds,
        "preserve_ordering": scheduler.preserve_ordering,
        "priority_levels": scheduler.priority_levels,
        "default_priority_level": scheduler.default_priority_level,
        "default_queue_policy": _queue_policy(config),
        "accelerator": "; ".join(_accelerators(config)) or None,
        "graph_level": optimization.graph.level if optimization.HasField("graph") else None,
        "cuda_graphs": optimization.cuda.graphs,
        "response_cache": config.response_cache.enable,
        "rate_limiter": "; ".join(
            json.dumps(_dict(group.rate_limiter), sort_keys=True)
            for group in groups
            if group.HasField("rate_limiter")
        )
        or None,
        "warmup_batch_sizes": tuple(sorted({w.batch_size for w in config.model_warmup})) or None,
    }
    return {
        name: None if not batching and name in _SCHEDULER else value
        for name, value in found.items()
    }


_SCHEDULER = (
    *("preferred_batch_size", "max_queue_delay_us", "preserve_ordering", "priority_levels"),
    *("default_priority_level", "default_queue_policy"),
)


def _accelerators(config: ModelConfig) -> Iterator[str]:
    both = config.optimization.execution_accelerators
    for entry in (*both.gpu_execution_accelerator, *both.cpu_execution_accelerator):
        parameters = {k: v for k, v in entry.parameters.items() if k not in _OWN + _PROFILE}
        yield json.dumps({"name": entry.name, **parameters}, sort_keys=True)


def _queue_policy(config: ModelConfig) -> str | None:
    if not config.dynamic_batching.HasField("default_queue_policy"):
        return None
    policy = _dict(config.dynamic_batching.default_queue_policy)
    policy["default_timeout_us"] = int(policy.pop("default_timeout_microseconds"))
    return json.dumps(policy, sort_keys=True)


def _dict(message: Message) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def config_differences(
    variant: ServerVariant, asked: ModelConfig, loaded: ModelConfig
) -> list[str]:
    """Compare the configuration that Triton loaded with the one that it was given.

    What Triton completes is no difference: names, kinds and devices of instance groups, defaults,
    and what a config.pbtxt without inputs leaves to it.

    Parameters
    ----------
    variant
        The variant, whose axes no server may complete.
    asked
        The configuration that Triton was given.
    loaded
        The configuration that it loaded.

    Returns
    -------
    list of str
        One message for each field that differs, with both values.
    """
    found = list(_changed(asked, loaded, "", loaded.max_batch_size))
    complete = bool(asked.input and asked.output)
    for path, axes in _DECIDES.items():
        if (complete or any(axis in variant.axes for axis in axes)) and _added(asked, loaded, path):
            found.append(f"{path}: not asked for, the server loaded {_short(_at(loaded, path))}")
    return found


def check_loaded_configs(
    variants: Sequence[ServerVariant], asked: Sequence[ModelConfig], loaded: Sequence[ModelConfig]
) -> None:
    """Check that Triton loaded what it was given.

    Parameters
    ----------
    variants
        The variants that it serves.
    asked
        For each variant the configuration that Triton was given.
    loaded
        For each variant the configuration that it loaded.

    Raises
    ------
    ServerFailed
        If they differ.
    """
    wrong = [
        difference if len(variants) == 1 else f"{variant.model.name}: {difference}"
        for variant, its, config in zip(variants, asked, loaded, strict=True)
        for difference in config_differences(variant, its, config)
    ]
    if wrong:
        raise ServerFailed("Triton did not load the requested configuration: " + "; ".join(wrong))


def _changed(asked: Any, loaded: Any, where: str, largest: int) -> Iterator[str]:
    """Compare what is set in ``asked`` with the same field of ``loaded``."""
    for field, value in asked.ListFields():
        path = f"{where}{field.name}"
        other = getattr(loaded, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            for key in sorted({*value, *other}):
                yield from _entry(value, other, key, f"{path}[{key}]", largest)
        elif field.is_repeated and field.message_type:
            if len(value) != len(other):
                yield f"{path}: asked for {len(value)} of them, the server loaded {len(other)}"
                continue
            for position, (mine, its) in enumerate(zip(value, other, strict=True)):
                yield from _changed(mine, its, f"{path}[{position}].", largest)
        elif field.message_type:
            # An empty message may be all that was asked for.
            if not loaded.HasField(field.name):
                yield f"{path}: asked for {_short(value)}, the server loaded none"
                continue
            yield from _changed(value, other, f"{path}.", largest)
        elif (list(value) if field.is_repeated else value) != (
            list(other) if field.is_repeated else other
        ):
            yield f"{path}: {_both(field, value, other)}"
    yield from _defaults(asked, loaded, where, largest)


def _entry(value: Any, other: Any, key: Any, path: str, largest: int) -> Iterator[str]:
    missing = [
        name for name, entries in (("asked", value), ("loaded", other)) if key not in entries
    ]
    if missing == ["asked"]:
        yield f"{path}: not asked for, the server loaded {_short(other[key])}"
    elif missing:
        yield f"{path}: asked for {_short(value[key])}, the server loaded none"
    elif isinstance(value[key], Message):
        yield from _changed(value[key], other[key], f"{path}.", largest)
    elif value[key] != other[key]:
        yield f"{path}: asked for {value[key]!r}, the server loaded {other[key]!r}"


def _defaults(asked: Any, loaded: Any, where: str, largest: int) -> Iterator[str]:
    """Compare zeros of dynamic batching: they were asked for, but protobuf does not list them."""
    if where != "dynamic_batching.":
        return
    for field in loaded.DESCRIPTOR.fields:
        if field.message_type or _is_set(asked, field):
            continue
        its = getattr(loaded, field.name)
        # Triton prefers the largest batch where no size is preferred, and says so.
        if field.name == "preferred_batch_size" and list(its) in ([], [largest]):
            continue
        if its != field.default_value and not (field.is_repeated and not its):
            yield f"{where}{field.name}: {_both(field, getattr(asked, field.name), its)}"


def _is_set(message: Any, field: FieldDescriptor) -> bool:
    return any(each.name == field.name for each, _ in message.ListFields())


def _added(asked: Any, loaded: Any, path: str) -> bool:
    mine, its = _at(asked, path), _at(loaded, path)
    if mine or isinstance(mine, Message) or its in (None, []):
        return False
    # An empty message switches dynamic batching on; elsewhere it says nothing.
    return path == "dynamic_batching" or isinstance(its, list) or bool(its.ListFields())


def _at(message: Any, path: str) -> Any:
    """Return the message, list or None that stands at a path."""
    for name in path.split("."):
        if message is None:
            return None
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.is_repeated:
            return list(getattr(message, name))
        message = getattr(message, name) if message.HasField(name) else None
    return message


def _both(field: FieldDescriptor, asked: Any, loaded: Any) -> str:
    return f"asked for {_shown(field, asked)}, the server loaded {_shown(field, loaded)}"


def _shown(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type:
        return str(field.enum_type.values_by_number[value].name)
    return str(list(value)) if field.is_repeated else repr(value)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} of them"
    text = json.dumps(_dict(value)) if isinstance(value, Message) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
