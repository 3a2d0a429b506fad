"""Checks the axes of a campaign against a model: what it cannot take is told before a job runs.

Which points a pool cannot serve, as far as it is known before a job runs: pure functions.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache

from hpcbench.config import load_axes, server_axes
from hpcbench.config.campaign import Dims, Model
from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.server_axes import BATCHING_AXES, Server
from hpcbench.config.site import Pool
from hpcbench.config.triton_messages import TYPE_STRING, ModelConfig, ModelInstanceGroup
from hpcbench.config.yaml_model import did_you_mean
from hpcbench.plan import model_config
from hpcbench.plan.model import TritonModel
from hpcbench.plan.point import Point, ServerVariant


def model_problems(
    model: Model, triton_model: TritonModel, server: Server, load: Load, measurement: Measurement
) -> list[str]:
    """What this model cannot take, each with key, value and what is allowed."""
    own = triton_model.max_batch_size
    known = triton_model.inputs is not None
    batching = triton_model.dynamic_batching if known else None
    found = [
        *server_axes.value_problems(server, limit=own, batching=batching),
        *_batches(model, triton_model, load, server_axes.largest_batch(server, own)),
    ]
    found += [
        f"version: {version} is not there; it has: {', '.join(map(str, triton_model.versions))}"
        for version in model.version
        if version is not None and version not in triton_model.versions
    ]
    if known:
        # A data file brings its own shapes; a folder is looked at where it lies.
        from_file = not {"random", "zero"} & set(measurement.input_data)
        for name, shapes in model.shape_sets.items():
            key = "shapes" if name is None else f"shapes.{name}"
            found += [f"{key}: {told}" for told in _shapes(triton_model, shapes, from_file)]
    refusal = load_axes.always_unsupported_reason(measurement)
    return [*found, refusal] if refusal else found


def input_lengths(model: TritonModel, shapes: Mapping[str, Dims]) -> dict[str, Dims]:
    """The lengths of a point's inputs, without the batch dimension.

    Where a model has no batch dimension of its own (max_batch_size 0), inputs whose one length
    that varies is the leading one take the batch there, if ``shapes`` do not name them.
    """
    found = dict(shapes)
    if model.max_batch_size == 0:
        for name, dims in model.inputs or ():
            if name not in found and dims[:1] == (-1,) and -1 not in dims[1:]:
                found[name] = dims[1:]
    return found


def has_strings(model: TritonModel) -> bool:
    """Whether an input holds texts, or might: nobody knows before the server does."""
    config = ModelConfig.FromString(model.config)
    return model.inputs is None or any(i.data_type == TYPE_STRING for i in config.input)


def _batches(
    model: Model, triton_model: TritonModel, load: Load, largest: int | None
) -> Iterator[str]:
    if largest is None:
        return
    if largest > 0:
        yield from (
            f"load.batch_size: {size} is over its max_batch_size; allowed: 1 to {largest}"
            for size in load.batch_size
            if size > largest
        )
        return
    inputs = dict(triton_model.inputs or ())
    for shapes in model.shape_sets.values():
        given = input_lengths(triton_model, shapes)
        if not any(len(dims) < len(inputs.get(name, ())) for name, dims in given.items()):
            yield from (
                f"load.batch_size: {size}: its max_batch_size is 0, and none of its inputs has a "
                "leading -1 that shapes leave out, where the batch could go; allowed: 1"
                for size in load.batch_size
                if size > 1
            )
            return


def _shapes(model: TritonModel, shapes: Mapping[str, Dims], from_file: bool) -> Iterator[str]:
    inputs = dict(model.inputs or ())
    for name in shapes:
        if name not in inputs:
            there = ", ".join(inputs)
            yield f"it has no input '{name}';{did_you_mean(name, inputs)} its inputs: {there}"
    known = input_lengths(model, shapes)
    for name, dims in inputs.items():
        given = known.get(name)
        if given is None:
            if -1 in dims and not from_file:
                example = [50 if d == -1 else d for d in dims]
                yield (
                    f"input '{name}' has dims {list(dims)}; say how long it is, e.g. shapes: "
                    f"{{{name}: {example}}}"
                )
        elif not _fits(given, dims) and not (
            model.max_batch_size == 0 and dims[:1] == (-1,) and _fits(given, dims[1:])
        ):
            yield (
                f"input '{name}' has dims {list(dims)}, given: {list(given)}; only a -1 may be "
                "replaced, and the batch dimension is left out"
            )


def _fits(given: Dims, dims: Dims) -> bool:
    return len(given) == len(dims) and all(d in (-1, g) for d, g in zip(dims, given, strict=True))


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


def not_applicable_reason(point: Point, pool: Pool, *, native: bool) -> str | None:
    """Why a pool cannot measure this point; None where nothing is known against it.

    ``native`` is the runtime whose backends run on processors only.
    """
    gpus = 0 if native else pool.gpus_per_job
    why, largest = _of_variant(point.variant, gpus, native)
    # A server that cannot hold one of its models is not ready for the others.
    for variant in point.served:
        why = why or _of_variant(variant, gpus, native)[0]
    why = why or _of_load(point, largest, gpus)
    for beside in point.co_located:
        if isinstance(beside, Point) and why is None:
            against = _of_load(beside, _of_variant(beside.variant, gpus, native)[1], gpus)
            why = against and f"{beside.variant.label}, beside it: {against}"
    return why


def _of_load(point: Point, largest: int, gpus: int) -> str | None:
    """What speaks against its load, where batches may be that large; 0: there are none."""
    if point.load.batch_size > largest > 0:
        return f"batch_size {point.load.batch_size} is over max_batch_size {largest}"
    return load_axes.unsupported_reason(point.load, gpus=gpus > 0)


@lru_cache  # the points of a grid come variant by variant
def _of_variant(variant: ServerVariant, gpus: int, native: bool) -> tuple[str | None, int]:
    """(what speaks against a variant, its max_batch_size)."""
    config = model_config.configure(variant)
    return next(_against(variant, config, gpus, native), None), config.max_batch_size


def backend_name(variant: ServerVariant) -> str | None:
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
    backend = backend_name(variant)
    if backend == "ensemble":
        yield from (
            f"{axis}: an ensemble has no instances of its own; set it for its models"
            for axis in (*_OF_INSTANCES, *BATCHING_AXES, "dynamic_batching")
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
