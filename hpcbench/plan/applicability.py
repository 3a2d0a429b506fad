"""Which points a pool cannot measure, though others can; and which a loaded model cannot take.

They become records with the status ``not_applicable``. What the model cannot take anywhere, as far
as it is known before a job runs, is an error of the campaign: `hpcbench.plan.model_limits`.
"""

import json
from collections.abc import Iterator
from functools import lru_cache

from hpcbench.config import unsupported_loads
from hpcbench.config.server_axes import BATCHING_AXES
from hpcbench.config.server_values import Setting
from hpcbench.config.site import Pool
from hpcbench.config.triton_protobuf import ModelConfig, ModelInstanceGroup
from hpcbench.plan import backend, model_config
from hpcbench.plan.accelerators import SUPPORTED_PRECISIONS
from hpcbench.plan.model import TritonModel
from hpcbench.plan.model_limits import over_max_batch_size
from hpcbench.plan.point import Point, ServerVariant

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
        if variant is not point.variant:
            why = why or _variant_reason(variant, gpus, native)[0]
        if backends is not None:
            why = why or _backend_reason(variant.model, backends)
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
def _backend_reason(model: TritonModel, backends: frozenset[str]) -> str | None:
    for each in (model, *model.composing):
        name = backend.backend_name(each)
        if name not in (None, "ensemble", *backends):
            what = "it" if each is model else f"'{each.name}', which it calls,"
            more = f"; hpcbench native --with {name} installs it" if name in _OPTIONAL else ""
            return (
                f"{what} needs the {name} backend, and the native prefix has "
                f"{', '.join(sorted(backends))}{more}"
            )
    return None


_ANY_VALUE = ("instance_count", "max_queue_delay_us")
"""Axes of which no value is worse than another: what speaks against one, speaks against all."""


def _variant_reason(variant: ServerVariant, gpus: int, native: bool) -> tuple[str | None, int]:
    """Return (what speaks against a variant, its max_batch_size)."""
    changes = tuple([(axis, 1 if axis in _ANY_VALUE else v) for axis, v in variant.changes])
    return _reason_of_all_alike(variant.model, changes, gpus, native)


@lru_cache(maxsize=2**16)  # a campaign may have a million variants, of which most are alike
def _reason_of_all_alike(
    model: TritonModel, changes: tuple[tuple[str, Setting], ...], gpus: int, native: bool
) -> tuple[str | None, int]:
    variant = ServerVariant(
        model=model, label=model.name, position=0, version=None, changes=changes
    )
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


def unfit_reason(point: Point, config: ModelConfig) -> str | None:
    """Return why a point cannot be measured on what the server has completed by itself.

    Parameters
    ----------
    point
        The point. The plan has checked what config.pbtxt says of its model.
    config
        The configuration with which Triton serves the model.

    Returns
    -------
    str or None
        A sentence with the key of the campaign; None where nothing is against it.
    """
    load, limit = point.load, config.max_batch_size
    if config.model_transaction_policy.decoupled and not load.streaming:
        return (
            "measurement.streaming: the model is decoupled, as the server found when it loaded "
            "it, and answers through a stream only; set streaming: true"
        )
    if point.variant.model.inputs is None and load.batch_size > max(limit, 1):
        return (
            f"load.batch_size: {load.batch_size} is over max_batch_size {limit}, which the server "
            f"found when it loaded the model; allowed: {f'1 to {limit}' if limit > 1 else 1}"
        )
    return None
