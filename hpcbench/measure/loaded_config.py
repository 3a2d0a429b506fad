"""What a server says that it loaded: as columns of a record, and compared with what was asked."""

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from hpcbench.config.triton_messages import (
    ModelConfig,
    ModelInstanceGroup,
)
from hpcbench.plan.point import ServerVariant

OWN = ("trt_engine_cache_enable", "trt_engine_cache_path")
PROFILE = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
"""Parameters of an accelerator that hpcbench adds, and that differ from node to node or from scan
to scan."""

DECIDES = {
    "dynamic_batching": ("dynamic_batching", "preferred_batch_size"),
    "sequence_batching": (),
    "model_warmup": ("warmup",),
    "response_cache": ("response_cache",),
    "optimization.execution_accelerators": ("accelerator",),
    "optimization.cuda": ("cuda_graphs",),
}
"""Parts that a server must not add to what it was given, and the axes that are about them."""


def resolved_columns(config: ModelConfig) -> dict[str, Any]:
    """What a loaded configuration means, under the names of the record's columns."""
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
        told = {key: value for key, value in entry.parameters.items() if key not in OWN + PROFILE}
        yield json.dumps({"name": entry.name, **told}, sort_keys=True)


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
    """Each field on which the server loaded something else than it was given, with both values.

    What a server completes is no difference: names, kinds and devices of instance groups,
    defaults, and what a model without inputs in its config.pbtxt leaves to it.
    """
    found = list(_changed(asked, loaded, "", loaded.max_batch_size))
    complete = bool(asked.input and asked.output)
    for path, axes in DECIDES.items():
        if (complete or any(axis in variant.axes for axis in axes)) and _added(asked, loaded, path):
            found.append(f"{path}: not asked for, the server loaded {_short(_at(loaded, path))}")
    return found


def _changed(asked: Any, loaded: Any, where: str, largest: int) -> Iterator[str]:
    """What is set in ``asked`` and not the same in ``loaded``."""
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
    """Zeros of dynamic batching, which are left out of a message and yet asked for."""
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
    """What stands there: a message, a list, or None."""
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
