"""What a model file says of its tensors: compared with config.pbtxt, or written into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcbench_serving import NOT_APPLICABLE, ModelError

# What Triton gives a model that can be batched and whose configuration says nothing.
DEFAULT_MAX_BATCH_SIZE = 4


@dataclass(frozen=True)
class Spec:
    """An input or output as the model has it.

    ``data_type`` is Triton's, as TYPE_FP32, or the framework's own word for one that Triton has
    not. ``shape`` has -1 where it is free; it is None where even the number of dimensions is.
    """

    data_type: str
    shape: tuple[int, ...] | None


Specs = Mapping[str, Spec]


def check(config: Mapping[str, Any], inputs: Specs, outputs: Specs, optional: Specs) -> None:
    """Raise ModelError where the configuration and the model disagree.

    ``inputs`` must all be given, those of ``optional`` may be.
    """
    for io in config["input"]:
        _check_tensor(config, "input", io, {**optional, **inputs})
    for io in config["output"]:
        _check_tensor(config, "output", io, outputs)
    given = {io["name"] for io in config["input"]}
    for control in config.get("sequence_batching", {}).get("control_input", ()):
        given.add(control["name"])
    missing = sorted(inputs.keys() - given)
    if missing:
        raise ModelError(
            f"model {config['name']!r}: config.pbtxt lists the inputs {sorted(given)}, but the "
            f"model also needs {missing}"
        )


def _check_tensor(
    config: Mapping[str, Any], kind: str, io: Mapping[str, Any], specs: Specs
) -> None:
    model, max_batch_size = config["name"], config["max_batch_size"]
    name = io["name"]
    if name not in specs:
        raise ModelError(
            f"model {model!r}: config.pbtxt has the {kind} {name!r}; the model's {kind}s are "
            f"{sorted(specs)}"
        )
    seen = _carried(model, name, specs[name])
    if seen != io["data_type"]:
        raise ModelError(
            f"model {model!r}: config.pbtxt says {io['data_type']} for the {kind} {name!r}, the "
            f"model says {seen}"
        )
    asked = [int(d) for d in io.get("reshape", {}).get("shape", io["dims"])]
    if max_batch_size > 0:
        asked = [-1, *asked]
    shape = specs[name].shape
    scalar = not shape and max_batch_size == 0 and asked == [1]
    # An output whose shape an ONNX model leaves open altogether is shown without dimensions.
    if shape is None or scalar or (kind == "output" and not shape):
        return
    same = len(asked) == len(shape)
    if not same or any(m not in (-1, c) for m, c in zip(shape, asked, strict=True)):
        batch = f" with max_batch_size {max_batch_size}" if max_batch_size > 0 else ""
        hint = ""
        if max_batch_size > 0 and shape and shape[0] != -1:
            hint = "; its first dimension is fixed, so it cannot be batched: max_batch_size: 0"
        raise ModelError(
            f"model {model!r}: config.pbtxt says dims {[int(d) for d in io['dims']]}{batch} for "
            f"the {kind} {name!r}, the model has {list(shape)}{hint}"
        )


def _carried(model: str, name: str, spec: Spec) -> str:
    if not spec.data_type.startswith("TYPE_"):
        raise ModelError(
            f"{NOT_APPLICABLE}model {model!r}: {name!r} is {spec.data_type}, a type that this "
            "server cannot carry"
        )
    return spec.data_type


def complete(auto: Any, inputs: Specs, outputs: Specs) -> None:
    """Fill in what the configuration leaves out, as NVIDIA's backends do."""
    config = auto.as_dict()
    model = config["name"]
    specs = (*inputs.values(), *outputs.values())
    batchable = all(spec.shape is None or spec.shape[:1] == (-1,) for spec in specs)
    if batchable:
        if config["max_batch_size"] == 0:
            auto.set_max_batch_size(DEFAULT_MAX_BATCH_SIZE)
        if config["max_batch_size"] > 1 and not config.get("sequence_batching"):
            auto.set_dynamic_batching()
    elif config["max_batch_size"] > 0:
        raise ModelError(
            f"model {model!r}: max_batch_size is {config['max_batch_size']}, but the "
            "model's inputs and outputs do not all have a free first dimension"
        )
    first = 1 if config["max_batch_size"] > 0 else 0
    for key, named in (("input", inputs), ("output", outputs)):
        if not config[key]:
            config[key].extend(_entry(model, name, spec, first) for name, spec in named.items())


def _entry(model: str, name: str, spec: Spec, first: int) -> dict[str, Any]:
    """A tensor for the configuration; Triton's add_input and add_output know no reshape."""
    if spec.shape is None:
        raise ModelError(
            f"model {model!r}: the file does not tell the shape of {name!r}; write input and "
            "output into config.pbtxt"
        )
    data_type = _carried(model, name, spec)
    dims = list(spec.shape[first:])
    entry: dict[str, Any] = {"name": name, "data_type": data_type, "dims": dims or [1]}
    if not dims and first:
        entry["reshape"] = {"shape": []}
    return entry


def need_tensors(config: Mapping[str, Any], format_name: str) -> None:
    """Raise ModelError if the configuration does not list what such a file cannot tell."""
    if not (config["input"] and config["output"]):
        raise ModelError(
            f"model {config['name']!r}: a {format_name} does not tell its tensors; write input "
            "and output into config.pbtxt"
        )
