"""Which points a pool cannot serve, as far as it is known before a job runs: pure functions."""

import json
from collections.abc import Iterator
from functools import lru_cache

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from hpcbench.config import load_axes
from hpcbench.config.server_axes import BATCHING
from hpcbench.config.site import Pool
from hpcbench.plan import model_config
from hpcbench.plan.point import Point, ServerVariant

ACCELERATED: dict[str, dict[str, tuple[str, ...]]] = {
    "tensorrt": {
        "onnxruntime": ("FP32", "FP16", "BF16", "INT8"),
        "tensorflow": ("FP32", "FP16"),
    },
    "openvino": {"onnxruntime": ()},
}
"""Accelerators, the backends that take them, and the precisions that they take."""

_FILES = {
    ".onnx": "onnxruntime",
    ".pt": "pytorch",
    ".plan": "tensorrt",
    ".graphdef": "tensorflow",
    ".savedmodel": "tensorflow",
    ".py": "python",
}

_OF_INSTANCES = ("instance_count", "instance_kind", "gpus", "rate_limiter", "accelerator")
_GPU, _CPU = ModelInstanceGroup.KIND_GPU, ModelInstanceGroup.KIND_CPU


def reason(point: Point, pool: Pool, *, native: bool) -> str | None:
    """Why a pool cannot measure this point; None where nothing is known against it.

    ``native`` is the runtime whose backends run on processors only.
    """
    gpus = 0 if native else pool.gpus_per_job
    why, largest = _of_variant(point.variant, gpus, native)
    # A server that cannot hold one of its models is not ready for the others.
    for variant in point.served:
        why = why or _of_variant(variant, gpus, native)[0]
    why = why or _of_load(point, largest, gpus)
    for beside in point.beside:
        if isinstance(beside, Point) and why is None:
            against = _of_load(beside, _of_variant(beside.variant, gpus, native)[1], gpus)
            why = against and f"{beside.variant.label}, beside it: {against}"
    return why


def _of_load(point: Point, largest: int, gpus: int) -> str | None:
    """What speaks against its load, where batches may be that large; 0: there are none."""
    if point.load.batch_size > largest > 0:
        return f"batch_size {point.load.batch_size} is over max_batch_size {largest}"
    return load_axes.refused(point.load, gpus=gpus > 0)


@lru_cache  # the points of a grid come variant by variant
def _of_variant(variant: ServerVariant, gpus: int, native: bool) -> tuple[str | None, int]:
    """(what speaks against a variant, its max_batch_size)."""
    config = model_config.configure(variant)
    return next(_against(variant, config, gpus, native), None), config.max_batch_size


def backend_of(variant: ServerVariant) -> str | None:
    """Triton's name for what runs the model: from its config.pbtxt, else from its files."""
    config = ModelConfig.FromString(variant.model.config)
    if config.HasField("ensemble_scheduling") or config.platform == "ensemble":
        return "ensemble"
    named = config.backend or config.platform.split("_")[0]
    if not named:
        files = sorted(variant.model.folder.glob("[0-9]*/model.*"))
        named = next((_FILES[f.suffix] for f in files if f.suffix in _FILES), "")
    return named or None


def _against(variant: ServerVariant, config: ModelConfig, gpus: int, native: bool) -> Iterator[str]:
    """Everything that is known against it; ``gpus`` is how many its server will have."""
    axes = variant.axes
    backend = backend_of(variant)
    if backend == "ensemble":
        yield from (
            f"{axis}: an ensemble has no instances of its own; set it for its models"
            for axis in (*_OF_INSTANCES, *BATCHING, "dynamic_batching")
            if axes.get(axis) is not None
        )
        if axes.get("warmup"):
            yield "warmup: Triton warms up no ensemble; set it for its models"
    yield from _devices(config, gpus, native)
    yield from _accelerator(
        json.loads(str(axes.get("accelerator") or "{}")), config, backend, gpus, native
    )
    if axes.get("cuda_graphs") and backend not in (None, "tensorrt"):
        yield f"cuda_graphs: is of the tensorrt backend, and the model's is {backend}"
    if "graph_level" in axes and backend not in (None, "onnxruntime", "tensorflow"):
        yield (
            f"graph_level: is of the onnxruntime and tensorflow backends, and the model's is "
            f"{backend}"
        )
    if axes.get("response_cache") and config.model_transaction_policy.decoupled:
        yield "response_cache: Triton caches no answers of decoupled models"
    over = [
        n for n in config.dynamic_batching.preferred_batch_size if n > config.max_batch_size > 0
    ]
    if over:
        yield f"preferred_batch_size {over[0]} is over max_batch_size {config.max_batch_size}"
    levels = config.dynamic_batching.priority_levels
    if levels > 1 and config.dynamic_batching.preserve_ordering:
        yield "preserve_ordering: Triton keeps the order of requests of one priority only"
    if config.dynamic_batching.default_priority_level > levels:
        level = config.dynamic_batching.default_priority_level
        yield f"default_priority_level {level} is over priority_levels {levels}"


def _devices(config: ModelConfig, gpus: int, native: bool) -> Iterator[str]:
    lacking = (
        "the native runtime serves on processors only"
        if native
        else "the pool gives its jobs no GPU"
    )
    for group in config.instance_group:
        if (group.kind == _GPU or group.gpus) and not gpus:
            yield f"instances on GPUs (KIND_GPU, gpus), and {lacking}"
        elif group.gpus and group.kind == _CPU:
            yield "gpus: the model's instances are KIND_CPU; add instance_kind: KIND_GPU"
        elif max(group.gpus, default=0) >= max(gpus, 1):
            yield f"gpus: {max(group.gpus)} is not there; a job of the pool has {gpus}, from 0"


def _accelerator(
    asked: dict[str, str], config: ModelConfig, backend: str | None, gpus: int, native: bool
) -> Iterator[str]:
    if not asked:
        return
    name, precision = asked["name"], asked.get("precision_mode")
    taken = ACCELERATED[name]
    if backend is not None and backend not in taken:
        yield f"{name} is for models of the backends {', '.join(taken)}, not of {backend}"
    if backend in taken and precision is not None and precision not in taken[backend]:
        yield f"precision_mode {precision}: the {backend} backend takes {', '.join(taken[backend])}"
    if native:
        yield f"{name}: the native runtime serves on processors without accelerators"
    kinds = {group.kind for group in config.instance_group}
    if name == "tensorrt" and not gpus:
        yield "tensorrt needs a GPU, and the pool gives its jobs none"
    if name == "tensorrt" and kinds == {_CPU}:
        yield "tensorrt needs a GPU, and the model's instances are KIND_CPU"
    if name == "openvino" and gpus and kinds != {_CPU}:
        yield (
            "openvino runs on processors, and on this pool the model's instances go to GPUs; add "
            "instance_kind: KIND_CPU"
        )
