"""What a model or a pool cannot do, as far as it is known before a job runs.

Two questions are answered here. Which values of the campaign can the model not take in any
combination? These are errors of the campaign (`model_problems`). Which points can a pool not
measure, though others can? These become records with the status ``not_applicable``
(`not_applicable_reason`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from hpcbench.config import server_axes, unsupported_loads
from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.model import Dims, Model
from hpcbench.config.server_axes import BATCHING_AXES, Server
from hpcbench.config.site import Pool
from hpcbench.config.triton_messages import TYPE_STRING, ModelConfig, ModelInstanceGroup
from hpcbench.errors import did_you_mean
from hpcbench.plan import backend, model_config
from hpcbench.plan.accelerators import SUPPORTED_PRECISIONS
from hpcbench.plan.model import TritonModel
from hpcbench.plan.point import Point, ServerVariant


def over_max_batch_size(sizes: Iterable[int], limit: int) -> list[str]:
    """Return a message for each batch size over a model's ``max_batch_size``.

    Parameters
    ----------
    sizes
        Batch sizes, in inferences.
    limit
        The model's ``max_batch_size``. 0 stands for a model without a batch dimension, which has
        no such limit.

    Returns
    -------
    list of str
        Messages that begin with the size; the caller puts the key in front.
    """
    return [f"{size} is over max_batch_size {limit}" for size in sizes if size > limit > 0]


def model_problems(
    model: Model, triton_model: TritonModel, server: Server, load: Load, measurement: Measurement
) -> list[str]:
    """Return what the model cannot take in any combination.

    Parameters
    ----------
    model
        The model as the campaign describes it.
    triton_model
        The model in the repository.
    server, load, measurement
        The axes that apply to this model.

    Returns
    -------
    list of str
        Messages with key, value and what is allowed.
    """
    own = triton_model.max_batch_size
    known = triton_model.inputs is not None
    batching = triton_model.dynamic_batching if known else None
    found = [
        *server_axes.value_problems(server, limit=own, batching=batching),
        *_batch_problems(model, triton_model, load, server_axes.largest_batch(server, own)),
    ]
    found += [
        f"version: {version} is not there; it has: {', '.join(map(str, triton_model.versions))}"
        for version in model.version
        if version is not None and version not in triton_model.versions
    ]
    if known:
        # A data file brings its own shapes; a folder is checked against them elsewhere.
        from_file = not {"random", "zero"} & set(measurement.input_data)
        for name, shapes in model.shape_sets.items():
            key = "shapes" if name is None else f"shapes.{name}"
            found += [f"{key}: {p}" for p in _shape_problems(triton_model, shapes, from_file)]
    found += backend.unservable_reasons(triton_model, model.version, measurement.streaming)
    unsupported = unsupported_loads.always_unsupported_reason(load, measurement)
    return [*found, unsupported] if unsupported else found


def input_lengths(model: TritonModel, shapes: Mapping[str, Dims]) -> dict[str, Dims]:
    """Return the lengths of a point's inputs, without the batch dimension.

    A model without a batch dimension (``max_batch_size`` 0) may take the batch as a length: where
    the only variable length of an input is the leading one, and the campaign does not set it.

    Parameters
    ----------
    model
        The model.
    shapes
        The lengths that the campaign gives.

    Returns
    -------
    dict of str to tuple of int
        Those, and what is left of inputs that take the batch.
    """
    found = dict(shapes)
    if model.max_batch_size == 0:
        for name, dims in model.inputs or ():
            if name not in found and dims[:1] == (-1,) and -1 not in dims[1:]:
                found[name] = dims[1:]
    return found


def has_strings(model: TritonModel) -> bool:
    """Whether an input holds strings.

    Parameters
    ----------
    model
        The model.

    Returns
    -------
    bool
        True also where the inputs are unknown until the server has loaded the model.
    """
    config = ModelConfig.FromString(model.config)
    return model.inputs is None or any(i.data_type == TYPE_STRING for i in config.input)


def _batch_problems(
    model: Model, triton_model: TritonModel, load: Load, largest: int | None
) -> Iterator[str]:
    if largest is None:
        return  # only the server knows the limit
    for message in over_max_batch_size(load.batch_size, largest):
        yield f"load.batch_size: {message}; allowed: 1 to {largest}"
    if largest > 0:
        return
    inputs = dict(triton_model.inputs or ())
    for shapes in model.shape_sets.values():
        lengths = input_lengths(triton_model, shapes)
        if not any(len(dims) < len(inputs.get(name, ())) for name, dims in lengths.items()):
            yield from (
                f"load.batch_size: {size}: the model has max_batch_size 0, and none of its inputs "
                "has a leading -1 that shapes leave out, where the batch could go; allowed: 1"
                for size in load.batch_size
                if size > 1
            )
            return


def _shape_problems(
    model: TritonModel, shapes: Mapping[str, Dims], from_file: bool
) -> Iterator[str]:
    inputs = dict(model.inputs or ())
    for name in shapes:
        if name not in inputs:
            yield (
                f"it has no input '{name}';{did_you_mean(name, inputs)} its inputs: "
                f"{', '.join(inputs)}"
            )
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


_INSTANCE_AXES = ("instance_count", "instance_kind", "gpus", "rate_limiter", "accelerator")
_OPTIONAL = ("pytorch", "tensorflow")
"""Backends that a native prefix has if it was installed with them."""

_GPU, _CPU = ModelInstanceGroup.KIND_GPU, ModelInstanceGroup.KIND_CPU


def not_applicable_reason(
    point: Point, pool: Pool, *, native: bool, backends: frozenset[str] | None = None
) -> str | None:
    """Return why a pool cannot measure a point.

    Parameters
    ----------
    point
        The point.
    pool
        The pool.
    native
        Whether the site uses the native runtime, whose backends run on CPUs only.
    backends
        The backends that the server has; None where only the server knows.

    Returns
    -------
    str or None
        None where nothing speaks against it. The server may still refuse it.
    """
    # A job may have GPUs that the native runtime cannot use.
    gpus = 0 if native else pool.gpus_per_job
    why, largest = _variant_reason(point.variant, gpus, native)
    # A server that cannot hold one of its models does not become ready for the others.
    for variant in point.served:
        why = why or _variant_reason(variant, gpus, native)[0]
        if backends is not None:
            why = why or _backend_reason(variant, backends)
    why = why or _load_reason(point, largest, gpus)
    for other in point.co_located:
        if isinstance(other, Point) and why is None:
            against = _load_reason(other, _variant_reason(other.variant, gpus, native)[1], gpus)
            why = against and f"{other.variant.label}, on the same server: {against}"
    return why


def _load_reason(point: Point, largest: int, gpus: int) -> str | None:
    for message in over_max_batch_size([point.load.batch_size], largest):
        return f"batch_size {message}"
    return unsupported_loads.unsupported_reason(point.load, gpus=gpus > 0)


@lru_cache
def _backend_reason(variant: ServerVariant, backends: frozenset[str]) -> str | None:
    for model in (variant.model, *variant.model.composing):
        name = backend.backend_name(model)
        if name not in (None, "ensemble", *backends):
            what = "it" if model is variant.model else f"'{model.name}', which it calls,"
            more = f"; hpcbench native --with {name} installs it" if name in _OPTIONAL else ""
            return (
                f"{what} needs the {name} backend, and the native prefix has "
                f"{', '.join(sorted(backends))}{more}"
            )
    return None


@lru_cache  # the points of a grid come variant by variant
def _variant_reason(variant: ServerVariant, gpus: int, native: bool) -> tuple[str | None, int]:
    """Return (what speaks against a variant, its max_batch_size)."""
    config = model_config.configure(variant)
    return next(_variant_problems(variant, config, gpus, native), None), config.max_batch_size


def _variant_problems(
    variant: ServerVariant, config: ModelConfig, gpus: int, native: bool
) -> Iterator[str]:
    """Yield everything that speaks against a variant; ``gpus`` is how many its server has."""
    axes = variant.axes
    own = backend.backend_name(variant.model)
    if own == "ensemble":
        yield from _ensemble_problems(variant)
    yield from _device_problems(config, gpus, native)
    accelerator = json.loads(str(axes.get("accelerator") or "{}"))
    if accelerator:
        yield from _accelerator_problems(accelerator, config, own, gpus, native)
    if axes.get("cuda_graphs") and own not in (None, "tensorrt"):
        yield f"cuda_graphs: only the tensorrt backend has them, and the model's is {own}"
    if "graph_level" in axes and own not in (None, "onnxruntime", "tensorflow"):
        yield (
            "graph_level: only the onnxruntime and tensorflow backends have it, and the model's "
            f"is {own}"
        )
    if axes.get("response_cache") and config.model_transaction_policy.decoupled:
        yield "response_cache: Triton does not cache the responses of decoupled models"
    batching = config.dynamic_batching
    # An axis may set a smaller limit under the preferred sizes of the model's config.pbtxt.
    for message in over_max_batch_size(batching.preferred_batch_size, config.max_batch_size):
        yield f"preferred_batch_size {message}"
    if batching.priority_levels > 1 and batching.preserve_ordering:
        yield "preserve_ordering: Triton preserves the order with one priority level only"
    if batching.default_priority_level > batching.priority_levels:
        yield (
            f"default_priority_level {batching.default_priority_level} is over priority_levels "
            f"{batching.priority_levels}"
        )


def _ensemble_problems(variant: ServerVariant) -> Iterator[str]:
    for axis in (*_INSTANCE_AXES, *BATCHING_AXES, "dynamic_batching"):
        if variant.axes.get(axis) is not None:
            yield f"{axis}: an ensemble has no instances of its own; set it for its models"
    if variant.axes.get("warmup"):
        yield "warmup: Triton does not warm up ensembles; set it for its models"


def _device_problems(config: ModelConfig, gpus: int, native: bool) -> Iterator[str]:
    lacking = (
        "the native runtime serves on CPUs only" if native else "the jobs of this pool have no GPU"
    )
    # Without an instance group, or with KIND_AUTO, Triton takes what there is.
    for group in config.instance_group:
        if (group.kind == _GPU or group.gpus) and not gpus:
            yield f"the model has instances on GPUs (instance_kind, gpus), and {lacking}"
        elif group.gpus and group.kind == _CPU:
            yield "gpus: the model's instances are KIND_CPU; add instance_kind: KIND_GPU"
        elif max(group.gpus, default=0) >= max(gpus, 1):
            yield f"gpus: there is no GPU {max(group.gpus)}; a job of the pool has {gpus}, from 0"


def _accelerator_problems(
    accelerator: dict[str, str], config: ModelConfig, backend: str | None, gpus: int, native: bool
) -> Iterator[str]:
    name, precision = accelerator["name"], accelerator.get("precision_mode")
    backends = SUPPORTED_PRECISIONS[name]
    if backend is not None and backend not in backends:
        yield f"{name}: only the {' and '.join(backends)} backends have it, not {backend}"
    if backend in backends and precision is not None and precision not in backends[backend]:
        accepted = ", ".join(backends[backend])
        yield f"precision_mode {precision}: the {backend} backend accepts {accepted}"
    if native:
        yield f"{name}: the native runtime serves on CPUs without accelerators"
    kinds = {group.kind for group in config.instance_group}
    if name == "tensorrt" and not gpus:
        yield "tensorrt needs a GPU, and the jobs of this pool have none"
    if name == "tensorrt" and kinds == {_CPU}:
        yield "tensorrt needs a GPU, and the model's instances are KIND_CPU"
    if name == "openvino" and gpus and kinds != {_CPU}:
        yield (
            "openvino runs on CPUs, and on this pool the model's instances are placed on GPUs; add "
            "instance_kind: KIND_CPU"
        )
