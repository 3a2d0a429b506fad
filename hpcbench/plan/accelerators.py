"""Execution accelerators that compile a model: what they need before a measurement starts.

TensorRT and OpenVINO compile a model when it is loaded or first used. So the server warms up with
the requests that will be measured, TensorRT gets a profile of all their shapes, and the engines
that it builds are kept in a folder that only equal configurations share.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcbench.config.model import Dims
from hpcbench.config.triton_protobuf import ModelConfig, ModelWarmup
from hpcbench.plan.digest import hash_id
from hpcbench.plan.point import Request

PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "openvino": "OpenVINOExecutionProvider"}
"""The accelerators of Triton that compile a model, with ONNX Runtime's names for them."""

SUPPORTED_PRECISIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "tensorrt": {
        "onnxruntime": ("FP32", "FP16", "BF16", "INT8"),
        "tensorflow": ("FP32", "FP16"),
    },
    "openvino": {"onnxruntime": ()},
}
"""For each accelerator the backends that offer it, each with the precisions that it accepts."""


def _entries(config: ModelConfig) -> list[Any]:
    both = config.optimization.execution_accelerators
    return [*both.gpu_execution_accelerator, *both.cpu_execution_accelerator]


def compiling_accelerators(config: ModelConfig) -> tuple[str, ...]:
    """Return the accelerators of a configuration that compile the model.

    Parameters
    ----------
    config
        Configuration of one model.

    Returns
    -------
    tuple of str
        Triton's names, keys of `PROVIDERS`; empty for a model that needs no compilation.
    """
    return tuple(entry.name for entry in _entries(config) if entry.name in PROVIDERS)


def cache_key(
    config: ModelConfig, *, digest: str, software: str, tensorrt: str | None, architecture: str
) -> str:
    """Return the name of the folder in which TensorRT keeps the engines of a configuration.

    Configurations share a folder only where the engines of one can serve the other. An engine of
    another TensorRT or GPU does not load, and one for other shapes would be built again.

    Parameters
    ----------
    config
        Configuration without the folder itself. Precision, shapes and batch sizes are among the
        accelerator's parameters.
    digest
        Digest of the model's files.
    software
        Digest of the server's image or prefix.
    tensorrt
        Version of TensorRT in it; None where it is unknown.
    architecture
        Architecture of the GPU, such as ``sm80``.

    Returns
    -------
    str
        Name of a folder: architecture, version and 16 hexadecimal digits.
    """
    identity = [
        *([entry.name, sorted(entry.parameters.items())] for entry in _entries(config)),
        *(digest, list(config.version_policy.specific.versions)),
        *(software, tensorrt, architecture),
    ]
    return f"{architecture}-trt{tensorrt or '-unknown'}-{hash_id(json.dumps(identity))}"


def warmup_requests(config: ModelConfig, requests: Iterable[Request]) -> list[ModelWarmup]:
    """Return entries of ``model_warmup`` with the shapes and batch sizes of requests.

    All values are zero; Triton makes empty strings of that.

    Parameters
    ----------
    config
        Configuration of the model.
    requests
        Requests that will be measured.

    Returns
    -------
    list of ModelWarmup
        One entry per request. Requests whose lengths only a data file knows have none.
    """
    found: list[ModelWarmup] = []
    for shapes, batch_size in requests:
        dims = _input_dims(config, dict(shapes))
        if dims is None:
            continue
        entry = ModelWarmup(
            name=f"hpcbench-{len(found)}",
            # Without a batch dimension, Triton accepts no other value than 1.
            batch_size=batch_size if config.max_batch_size else 1,
            count=1,
        )
        for tensor in config.input:
            each = entry.inputs[tensor.name]
            each.data_type = tensor.data_type
            each.dims[:] = dims[tensor.name]
            each.zero_data = True
        found.append(entry)
    return found


def tensorrt_profile(config: ModelConfig, requests: Sequence[Request]) -> dict[str, str]:
    """Return TensorRT's optimization profile for all requests.

    The profile covers everything from one inference to the largest batch that the server may form
    and is optimal at the largest request. Without it, ONNX Runtime would build an engine whenever
    a request has a new shape, in the middle of a measurement.

    Parameters
    ----------
    config
        Configuration of the model.
    requests
        Requests that will be measured.

    Returns
    -------
    dict of str to str
        Accelerator parameters ``trt_profile_*_shapes`` of Triton's ONNX Runtime backend; empty
        where the length of an input is unknown.
    """
    sizes = [(_input_dims(config, dict(shapes)), size) for shapes, size in requests]
    known = [(dims, size) for dims, size in sizes if dims is not None]
    if not known or len(known) < len(sizes):
        return {}
    all_dims = [dims for dims, _ in known]
    largest, most = max(known, key=lambda request: (request[1], _elements(request[0])))
    # Dynamic batching may join requests up to the model's limit.
    formed = config.max_batch_size if config.HasField("dynamic_batching") else most
    names = [tensor.name for tensor in config.input]
    shortest = {n: tuple(map(min, *(d[n] for d in all_dims), all_dims[0][n])) for n in names}
    longest = {n: tuple(map(max, *(d[n] for d in all_dims), all_dims[0][n])) for n in names}
    batched = config.max_batch_size > 0
    return {
        "trt_profile_min_shapes": _profile_shapes(shortest, 1 if batched else None),
        "trt_profile_opt_shapes": _profile_shapes(largest, most if batched else None),
        "trt_profile_max_shapes": _profile_shapes(longest, formed if batched else None),
    }


def _input_dims(config: ModelConfig, shapes: Mapping[str, Dims]) -> dict[str, Dims] | None:
    """Return the lengths of each input without the batch; None where one is unknown."""
    found = {t.name: tuple(shapes.get(t.name, t.dims)) for t in config.input}
    return found if found and all(min(d, default=1) >= 0 for d in found.values()) else None


def _elements(dims: Mapping[str, Dims]) -> int:
    return sum(math.prod(each) for each in dims.values())


def _profile_shapes(dims: Mapping[str, Dims], batch_size: int | None) -> str:
    first = () if batch_size is None else (batch_size,)
    return ",".join(f"{name}:{'x'.join(map(str, (*first, *d)))}" for name, d in dims.items())
