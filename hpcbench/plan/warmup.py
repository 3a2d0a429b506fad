"""What makes a server ready for the requests that will be measured: warm-up and profiles."""

import math
from collections.abc import Iterable, Mapping, Sequence

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelWarmup

Dims = tuple[int, ...]
Request = tuple[tuple[tuple[str, Dims], ...], int]
"""(shapes, batch size) of a request: the lengths given to inputs, and how many inferences."""


def warmups(config: ModelConfig, requests: Iterable[Request]) -> list[ModelWarmup]:
    """A warm-up of zeros for each kind of request.

    Nothing for requests whose lengths are known to a data file only. Strings are empty, which is
    what Triton makes of zeros.
    """
    found: list[ModelWarmup] = []
    for shapes, batch_size in requests:
        dims = _dims(config, dict(shapes))
        if dims is None:
            continue
        entry = ModelWarmup(
            name=f"hpcbench-{len(found)}",
            # Of a model without a batch dimension, Triton takes 1 only.
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


def profile(config: ModelConfig, requests: Sequence[Request]) -> dict[str, str]:
    """TensorRT's optimization profile over all requests: parameters of Triton's onnxruntime.

    From one inference to the largest batch that the server may form, best at the largest request.
    Nothing where a length is not known.
    """
    asked = [(_dims(config, dict(shapes)), size) for shapes, size in requests]
    known = [(dims, size) for dims, size in asked if dims is not None]
    if not known or len(known) < len(asked):
        return {}
    all_dims = [dims for dims, _ in known]
    largest, most = max(known, key=lambda request: (request[1], _elements(request[0])))
    formed = config.max_batch_size if config.HasField("dynamic_batching") else most
    names = [tensor.name for tensor in config.input]
    shortest = {n: tuple(map(min, *(d[n] for d in all_dims), all_dims[0][n])) for n in names}
    longest = {n: tuple(map(max, *(d[n] for d in all_dims), all_dims[0][n])) for n in names}
    batched = config.max_batch_size > 0
    return {
        "trt_profile_min_shapes": _text(shortest, 1 if batched else None),
        "trt_profile_opt_shapes": _text(largest, most if batched else None),
        "trt_profile_max_shapes": _text(longest, formed if batched else None),
    }


def _dims(config: ModelConfig, shapes: Mapping[str, Dims]) -> dict[str, Dims] | None:
    """The lengths of each input, without the batch; None where one is not known."""
    found = {t.name: tuple(shapes.get(t.name, t.dims)) for t in config.input}
    return found if found and all(min(d, default=1) >= 0 for d in found.values()) else None


def _elements(dims: Mapping[str, Dims]) -> int:
    return sum(math.prod(each) for each in dims.values())


def _text(dims: Mapping[str, Dims], batch_size: int | None) -> str:
    first = () if batch_size is None else (batch_size,)
    return ",".join(f"{name}:{'x'.join(map(str, (*first, *d)))}" for name, d in dims.items())
