"""The Triton configuration of one server variant: the model's own, changed by the server axes.

Configurations are changed as protobuf messages, never as text.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from hpcbench.config.server_values import HPCBENCH_KEYS, flag_name
from hpcbench.config.triton_protobuf import (
    ModelConfig,
    ModelInstanceGroup,
    ModelOptimizationPolicy,
)
from hpcbench.plan import accelerators
from hpcbench.plan.point import Request, ServerVariant


def configure(
    variant: ServerVariant, requests: Sequence[Request] = (), engines: Path | None = None
) -> ModelConfig:
    """Return the model's own configuration with the variant's axes applied to it.

    Parameters
    ----------
    variant
        The server variant.
    requests
        The requests that will be measured. The server warms up with them where an engine would
        otherwise be built during a measurement, and wherever the axis ``warmup`` asks for it.
    engines
        Folder in which TensorRT keeps the engines that it builds; None for none.

    Returns
    -------
    ModelConfig
        What is written into config.pbtxt.
    """
    config = ModelConfig.FromString(variant.model.config)
    config.name = variant.model.name
    # The version policy, by default the latest version only, might not serve it.
    if variant.version is not None:
        config.version_policy.specific.versions[:] = [variant.version]
    # perf_analyzer repeats its input. A cache of the model's own config.pbtxt would answer all of
    # its requests, and the model would not be measured. The axis response_cache switches it on.
    config.ClearField("response_cache")
    axes = variant.axes
    for axis, value in axes.items():
        _APPLY[axis](config, value)
    _add_engines_and_warmup(config, axes, requests, engines)
    return config


def to_deploy(variant: ServerVariant, requests: Sequence[Request] = ()) -> ModelConfig:
    """Return the model's own configuration, changed in what its axes change and in nothing else.

    Parameters
    ----------
    variant
        The server variant.
    requests
        The requests that were measured.

    Returns
    -------
    ModelConfig
        Without what `configure` changes for a measurement: the version policy of one version, no
        response cache, the folder of engines.
    """
    own = ModelConfig.FromString(variant.model.config)
    measured, base = (configure(each, requests) for each in (variant, replace(variant, changes=())))
    for field in ModelConfig.DESCRIPTOR.fields:
        if _only(measured, field.name) == _only(base, field.name):
            measured.ClearField(field.name)
            measured.MergeFrom(_only(own, field.name))
    return measured


def _only(config: ModelConfig, name: str) -> ModelConfig:
    """The configuration with one of its fields."""
    found = ModelConfig()
    found.CopyFrom(config)
    for field, _ in config.ListFields():
        if field.name != name:
            found.ClearField(field.name)
    return found


def is_own(variant: ServerVariant, requests: Sequence[Request] = ()) -> bool:
    """Whether the axes of a variant leave the model's configuration as it is.

    Parameters
    ----------
    variant
        The server variant.
    requests
        The requests that will be measured.

    Returns
    -------
    bool
        True where the server gets the same configuration as with all axes at ``base``.
    """
    own = replace(variant, changes=())
    return _prune(configure(variant, requests)) == _prune(configure(own, requests))


def _prune(message: Message) -> Message:
    """Remove submessages that are present but empty, in place."""
    for field, value in message.ListFields():
        # An empty dynamic_batching says something: it switches dynamic batching on.
        single = field.message_type and not field.is_repeated
        if single and not _prune(value).ListFields() and field.name != "dynamic_batching":
            message.ClearField(field.name)
    return message


CACHE_BYTES = 256 << 20
"""Size of the response cache in bytes."""


def server_arguments(configs: Iterable[ModelConfig], flags: Sequence[str] = ()) -> list[str]:
    """Return the options of tritonserver that the campaign names or configurations need.

    Parameters
    ----------
    configs
        Configurations of the models that the server will hold: parts of them have no effect
        without an option.
    flags
        The campaign's own, which take the place of those.

    Returns
    -------
    list of str
        Command-line options, each once.
    """
    named = set(map(flag_name, flags))
    needed = (word for config in configs for word in _needed_arguments(config))
    return [*dict.fromkeys([*flags, *(word for word in needed if flag_name(word) not in named)])]


def _needed_arguments(config: ModelConfig) -> Iterator[str]:
    if config.response_cache.enable:
        yield f"--cache-config=local,size={CACHE_BYTES}"
    if any(group.HasField("rate_limiter") for group in config.instance_group):
        yield "--rate-limit=execution_count"


def _add_engines_and_warmup(
    config: ModelConfig,
    axes: Mapping[str, Any],
    requests: Sequence[Request],
    engines: Path | None,
) -> None:
    accelerator = json.loads(axes.get("accelerator") or "{}")
    if accelerator.get("name") == "tensorrt":
        own: dict[str, str] = {}
        if engines is not None and accelerator.get("engine_cache") != "false":
            own |= {"trt_engine_cache_enable": "true", "trt_engine_cache_path": str(engines)}
        if accelerator.get("profiles") != "false":
            own |= accelerators.tensorrt_profile(config, requests)
        for entry in config.optimization.execution_accelerators.gpu_execution_accelerator:
            for key, value in own.items():
                # What the user sets stays.
                if key not in entry.parameters:
                    entry.parameters[key] = value
    # The first requests of a compiled model would wait minutes for an engine. Where the campaign
    # says nothing about warm-up, such models get one, unless they bring their own.
    needed = bool(accelerators.compiling_accelerators(config)) and not config.model_warmup
    if axes.get("warmup", needed):
        entries = accelerators.warmup_requests(config, requests)
        if entries:
            del config.model_warmup[:]
            config.model_warmup.extend(entries)


def _only_group(config: ModelConfig) -> ModelInstanceGroup:
    """Return the one instance group that stays: the model's first."""
    if not config.instance_group:
        config.instance_group.add()
    del config.instance_group[1:]
    return config.instance_group[0]


def _set_instance_count(config: ModelConfig, count: Any) -> None:
    _only_group(config).count = count


def _set_instance_kind(config: ModelConfig, kind: Any) -> None:
    group = _only_group(config)
    group.kind = ModelInstanceGroup.Kind.Value(kind)
    # Triton refuses a list of GPUs for instances of these kinds.
    if kind in ("KIND_CPU", "KIND_MODEL"):
        del group.gpus[:]


def _set_gpus(config: ModelConfig, gpus: Any) -> None:
    _only_group(config).gpus[:] = gpus


def _set_rate_limiter(config: ModelConfig, text: Any) -> None:
    if text is None and not config.instance_group:
        return
    group = _only_group(config)
    group.ClearField("rate_limiter")
    if text is not None:
        json_format.ParseDict({"rate_limiter": json.loads(text)}, group)


def _set_max_batch_size(config: ModelConfig, size: Any) -> None:
    config.max_batch_size = size


def _set_dynamic_batching(config: ModelConfig, on: Any) -> None:
    # config_changes turns "off" into preferred_batch_size: null.
    assert on
    config.dynamic_batching.SetInParent()


def _set_preferred_batch_size(config: ModelConfig, sizes: Any) -> None:
    if sizes is None:
        config.ClearField("dynamic_batching")
        return
    config.dynamic_batching.preferred_batch_size[:] = sizes
    config.dynamic_batching.SetInParent()


def _set_max_queue_delay(config: ModelConfig, delay_us: Any) -> None:
    config.dynamic_batching.max_queue_delay_microseconds = delay_us


def _set_preserve_ordering(config: ModelConfig, on: Any) -> None:
    config.dynamic_batching.preserve_ordering = on


def _set_priority_levels(config: ModelConfig, levels: Any) -> None:
    batching = config.dynamic_batching
    batching.priority_levels = levels
    # Triton accepts no default outside the levels.
    batching.default_priority_level = min(max(batching.default_priority_level, 1), levels)


def _set_default_priority_level(config: ModelConfig, level: Any) -> None:
    config.dynamic_batching.default_priority_level = level


def _set_default_queue_policy(config: ModelConfig, text: Any) -> None:
    config.dynamic_batching.ClearField("default_queue_policy")
    if text is not None:
        policy = json.loads(text)
        policy["default_timeout_microseconds"] = policy.pop("default_timeout_us")
        json_format.ParseDict({"default_queue_policy": policy}, config.dynamic_batching)
        config.dynamic_batching.default_queue_policy.SetInParent()


def _set_accelerator(config: ModelConfig, text: Any) -> None:
    config.optimization.ClearField("execution_accelerators")
    if text is None:
        return
    parameters = {key: v for key, v in json.loads(text).items() if key not in HPCBENCH_KEYS}
    name = parameters.pop("name")
    chosen = config.optimization.execution_accelerators
    # Triton files OpenVINO under the CPU's accelerators, everything else under the GPU's.
    entries = (
        chosen.cpu_execution_accelerator if name == "openvino" else chosen.gpu_execution_accelerator
    )
    entries.append(
        ModelOptimizationPolicy.ExecutionAccelerators.Accelerator(name=name, parameters=parameters)
    )


def _set_graph_level(config: ModelConfig, level: Any) -> None:
    config.optimization.graph.level = level
    config.optimization.graph.SetInParent()


def _set_cuda_graphs(config: ModelConfig, on: Any) -> None:
    config.optimization.cuda.graphs = on
    config.optimization.cuda.SetInParent()


def _set_response_cache(config: ModelConfig, on: Any) -> None:
    config.response_cache.enable = on


def _set_warmup(config: ModelConfig, on: Any) -> None:
    if not on:
        del config.model_warmup[:]


def _merge(config: ModelConfig, text: Any) -> None:
    """Merge a fragment: its lists replace those of the model, its map entries are added."""
    # ParseDict replaces maps, too: entries of the model that the fragment does not name come back.
    before = {name: getattr(config, name) for name in _MAPS}
    before = {name: copy.deepcopy(dict(entries)) for name, entries in before.items()}
    json_format.ParseDict(json.loads(text), config)
    for name, entries in before.items():
        merged = getattr(config, name)
        for key, value in entries.items():
            if key not in merged and isinstance(value, str):
                merged[key] = value
            elif key not in merged:
                merged[key].CopyFrom(value)


_MAPS = ("parameters", "metric_tags", "cc_model_filenames")

_APPLY: dict[str, Callable[[ModelConfig, Any], None]] = {
    "instance_count": _set_instance_count,
    "instance_kind": _set_instance_kind,
    "gpus": _set_gpus,
    "max_batch_size": _set_max_batch_size,
    "dynamic_batching": _set_dynamic_batching,
    "preferred_batch_size": _set_preferred_batch_size,
    "max_queue_delay_us": _set_max_queue_delay,
    "preserve_ordering": _set_preserve_ordering,
    "priority_levels": _set_priority_levels,
    "default_priority_level": _set_default_priority_level,
    "default_queue_policy": _set_default_queue_policy,
    "accelerator": _set_accelerator,
    "graph_level": _set_graph_level,
    "cuda_graphs": _set_cuda_graphs,
    "response_cache": _set_response_cache,
    "rate_limiter": _set_rate_limiter,
    "warmup": _set_warmup,
    "config": _merge,
}
"""What each server axis does to a configuration."""
