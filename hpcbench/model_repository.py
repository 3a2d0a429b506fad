"""The overlay repository of one server variant: links to the model's files, its own config.pbtxt.

Configurations are changed as protobuf messages, never as text, and the user's repository is
never written to.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    ModelConfig,
    ModelInstanceGroup,
    ModelOptimizationPolicy,
)

from hpcbench.grid import ServerVariant


def configure(variant: ServerVariant) -> ModelConfig:
    """The model's own configuration with the variant's axes applied to it."""
    config = ModelConfig.FromString(variant.model.config)
    config.name = variant.model.name
    if variant.version is not None:
        config.version_policy.specific.versions[:] = [variant.version]
    for axis, value in variant.axes.items():
        _APPLY[axis](config, value)
    return config


def _set_instance_count(config: ModelConfig, count: Any) -> None:
    group = config.instance_group[0] if config.instance_group else ModelInstanceGroup()
    group.count = count
    kept = ModelInstanceGroup.FromString(group.SerializeToString())
    del config.instance_group[:]
    config.instance_group.append(kept)


def _set_preferred_batch_size(config: ModelConfig, sizes: Any) -> None:
    if sizes is None:
        config.ClearField("dynamic_batching")
        return
    config.dynamic_batching.preferred_batch_size[:] = sizes
    config.dynamic_batching.SetInParent()


def _set_max_queue_delay(config: ModelConfig, delay_us: Any) -> None:
    config.dynamic_batching.max_queue_delay_microseconds = delay_us


def _set_accelerator(config: ModelConfig, text: Any) -> None:
    config.optimization.ClearField("execution_accelerators")
    if text is None:
        return
    parameters = json.loads(text)
    name = parameters.pop("name")
    accelerators = config.optimization.execution_accelerators
    # Triton files OpenVINO under the CPU's accelerators, everything else under the GPU's.
    chosen = (
        accelerators.cpu_execution_accelerator
        if name == "openvino"
        else accelerators.gpu_execution_accelerator
    )
    chosen.append(
        ModelOptimizationPolicy.ExecutionAccelerators.Accelerator(name=name, parameters=parameters)
    )


_APPLY: dict[str, Callable[[ModelConfig, Any], None]] = {
    "instance_count": _set_instance_count,
    "preferred_batch_size": _set_preferred_batch_size,
    "max_queue_delay_us": _set_max_queue_delay,
    "accelerator": _set_accelerator,
}
"""What each server axis does to a configuration."""


def write_overlay(variant: ServerVariant, config: ModelConfig, repository: Path) -> None:
    """Makes ``repository`` hold the model with ``config``: Triton is pointed at it."""
    folder = repository / variant.model.name
    folder.mkdir(parents=True)
    for entry in variant.model.folder.iterdir():
        if entry.name != "config.pbtxt":
            (folder / entry.name).symlink_to(entry)
    (folder / "config.pbtxt").write_text(as_text(config), encoding="utf-8")


def shows(variant: ServerVariant) -> tuple[tuple[Path, Path], ...]:
    """(path, path as links name it) of all that must be seen to read the model.

    That is its folder, and whatever links in it lead to; a container that has these at the
    second paths, reads what is read outside.
    """
    found: dict[Path, Path] = {}
    waiting = [(variant.model.folder, variant.model.folder)]
    while waiting:
        path, named = waiting.pop()
        if named in found or not found.keys().isdisjoint(named.parents):
            continue
        real = Path(os.path.realpath(path))
        found[named] = real
        for place, folders, names in os.walk(real):
            for name in (*folders, *names):
                entry = Path(place) / name
                if entry.is_symlink() and entry.exists():
                    beside = named / entry.parent.relative_to(real)
                    waiting.append((entry, Path(os.path.normpath(beside / entry.readlink()))))
    return tuple((real, named) for named, real in found.items())


def as_text(config: ModelConfig) -> str:
    """The configuration as Triton reads it from a file."""
    return str(text_format.MessageToString(config))


def resolved(config: ModelConfig) -> dict[str, Any]:
    """What a loaded configuration means, under the names of the record's columns."""
    batching = config.HasField("dynamic_batching")
    accelerators = config.optimization.execution_accelerators
    chosen = [
        json.dumps({"name": a.name, **dict(a.parameters)}, sort_keys=True)
        for a in (
            *accelerators.gpu_execution_accelerator,
            *accelerators.cpu_execution_accelerator,
        )
    ]
    return {
        "platform": config.platform or config.backend or None,
        "max_batch_size": config.max_batch_size,
        "instance_count": sum(group.count for group in config.instance_group) or None,
        "instance_kind": ",".join(
            sorted({ModelInstanceGroup.Kind.Name(g.kind) for g in config.instance_group})
        )
        or None,
        "dynamic_batching": batching,
        "preferred_batch_size": (
            tuple(config.dynamic_batching.preferred_batch_size) if batching else None
        ),
        "max_queue_delay_us": (
            config.dynamic_batching.max_queue_delay_microseconds if batching else None
        ),
        "accelerator": "; ".join(chosen) or None,
    }


def differences(variant: ServerVariant, loaded: ModelConfig) -> list[str]:
    """Each axis on which the server loaded something else than was asked for."""
    found = resolved(loaded)
    # Triton prefers the largest batch where no size is preferred, and says so.
    largest = (loaded.max_batch_size,)
    return [
        f"{axis}: asked for {asked!r}, the server loaded {found[axis]!r}"
        for axis, asked in variant.axes.items()
        if asked != found[axis] and not (asked == () and found[axis] == largest)
    ]
