"""The section ``server:`` of a campaign: the axes that need another Triton configuration."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, model_validator

from hpcbench.config.server_values import (
    AcceleratorOrNone,
    Batch,
    Count,
    Delay,
    Devices,
    Fragment,
    Graph,
    Kind,
    Level,
    LimiterOrNone,
    PolicyOrNone,
    Setting,
    Sizes,
    Switch,
)
from hpcbench.config.values import BASE, as_axis
from hpcbench.config.yaml_model import FileSection

BATCHING_AXES = (
    *("preferred_batch_size", "max_queue_delay_us", "preserve_ordering"),
    *("priority_levels", "default_priority_level", "default_queue_policy"),
)
"""The axes that have an effect only where the server batches dynamically."""

FIELDS_OF_AXES = {
    "instance_group": ("instance_count", "instance_kind", "gpus", "rate_limiter"),
    "max_batch_size": ("max_batch_size",),
    "dynamic_batching": ("dynamic_batching", *BATCHING_AXES),
    "response_cache": ("response_cache",),
    "model_warmup": ("warmup",),
    "optimization.execution_accelerators": ("accelerator",),
    "optimization.graph": ("graph_level",),
    "optimization.cuda": ("cuda_graphs",),
}
"""By the part of a ModelConfig: the axes that write it."""


def _axis_of_lists(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        sizes = list(value)
        raise ValueError(
            f"each value of this axis is itself a list: write [{sizes}] for one configuration "
            f"with all of them together, {[[size] for size in sizes]} for one each"
        )
    return as_axis(value)


_AXIS, _LISTS = BeforeValidator(as_axis), BeforeValidator(_axis_of_lists)


class Server(FileSection):
    """The axes that need another Triton configuration, hence another placement.

    Each attribute is an axis: a value or a list of values. "base" keeps what the model has.

    Attributes
    ----------
    instance_count
        How many instances of the model run at the same time.
    instance_kind
        "KIND_GPU", "KIND_CPU", "KIND_AUTO" or "KIND_MODEL".
    gpus
        Lists of the GPUs with instances, counted from 0 among those of the job.
    max_batch_size
        The largest batch that the model takes [inferences].
    dynamic_batching
        Whether the server joins requests to batches.
    preferred_batch_size
        Lists of the batches that it tries to make [inferences]; None for no dynamic batching.
    max_queue_delay_us
        How long a request may wait for others [us].
    preserve_ordering
        Whether responses have the order of the requests.
    priority_levels
        How many priorities there are.
    default_priority_level
        The priority of requests that name none.
    default_queue_policy
        What happens to requests that wait: a mapping, see docs/axes.md.
    accelerator
        None, or a mapping such as ``{"name": "tensorrt", "precision_mode": "FP16"}``.
    graph_level
        How much the backend optimizes the graph, from -1 to 2.
    cuda_graphs
        Whether TensorRT captures CUDA graphs.
    response_cache
        Whether equal requests are answered from a cache.
    rate_limiter
        None, or which resources an instance needs: a mapping, see docs/axes.md.
    warmup
        Whether the model is warmed up with each batch size and shape before it is ready.
    config
        Any other part of Triton's ModelConfig, as a mapping or as lines of a config.pbtxt.
    """

    instance_count: Annotated[tuple[Count, ...], _AXIS] = (BASE,)
    instance_kind: Annotated[tuple[Kind, ...], _AXIS] = (BASE,)
    gpus: Annotated[tuple[Devices, ...], _LISTS] = (BASE,)
    max_batch_size: Annotated[tuple[Batch, ...], _AXIS] = (BASE,)
    dynamic_batching: Annotated[tuple[Switch, ...], _AXIS] = (BASE,)
    preferred_batch_size: Annotated[tuple[Sizes, ...], _LISTS] = (BASE,)
    max_queue_delay_us: Annotated[tuple[Delay, ...], _AXIS] = (BASE,)
    preserve_ordering: Annotated[tuple[Switch, ...], _AXIS] = (BASE,)
    priority_levels: Annotated[tuple[Level, ...], _AXIS] = (BASE,)
    default_priority_level: Annotated[tuple[Count, ...], _AXIS] = (BASE,)
    default_queue_policy: Annotated[tuple[PolicyOrNone, ...], _AXIS] = (BASE,)
    accelerator: Annotated[tuple[AcceleratorOrNone, ...], _AXIS] = (BASE,)
    graph_level: Annotated[tuple[Graph, ...], _AXIS] = (BASE,)
    cuda_graphs: Annotated[tuple[Switch, ...], _AXIS] = (BASE,)
    response_cache: Annotated[tuple[Switch, ...], _AXIS] = (BASE,)
    rate_limiter: Annotated[tuple[LimiterOrNone, ...], _AXIS] = (BASE,)
    warmup: Annotated[tuple[Switch, ...], _AXIS] = (BASE,)
    config: Annotated[tuple[Fragment, ...], _AXIS] = (BASE,)

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> "Server":
        if True in self.dynamic_batching and None in self.preferred_batch_size:
            raise ValueError(
                "dynamic_batching: true contradicts preferred_batch_size: null, which means no "
                "dynamic batching; keep one of the two axes"
            )
        for fragment in self.config:
            for part, axes in FIELDS_OF_AXES.items():
                clash = [name for name in axes if getattr(self, name) != (BASE,)]
                if fragment != BASE and clash and _has(json.loads(fragment), part):
                    raise ValueError(
                        f"config: {part} and the axis {clash[0]} would write the same field; keep "
                        "one of the two"
                    )
        return self


def _has(fragment: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(fragment, dict) or key not in fragment:
            return False
        fragment = fragment[key]
    return True


SCHEDULING_AXES = frozenset({"instance_count", "dynamic_batching", *BATCHING_AXES})
"""The axes that only say how many instances there are and how requests are given to them.

Others decide where a model runs, how it is compiled, or its largest batch.
"""


def config_changes(asked: Mapping[str, Any]) -> dict[str, Setting]:
    """Return what one value of each axis changes in a model's configuration.

    Parameters
    ----------
    asked
        One value by axis; axes that are missing are at "base".

    Returns
    -------
    dict
        The changes by axis, the same for equal variants. An axis at "base" changes nothing and is
        left out; so is one that has no effect beside the others. Mappings are JSON strings, so
        that variants can be compared and hashed.
    """
    changed = {name: value for name, value in asked.items() if value != BASE}
    no_effect: set[str] = set()
    off = changed.get("preferred_batch_size", BASE) is None
    if off or changed.get("dynamic_batching") is False:
        # Without dynamic batching nothing waits in a queue for a batch to fill.
        changed["preferred_batch_size"] = None
        no_effect |= {"dynamic_batching", *BATCHING_AXES} - {"preferred_batch_size"}
    elif "preferred_batch_size" in changed:
        no_effect.add("dynamic_batching")
    if changed.get("priority_levels") == 0:
        no_effect.add("default_priority_level")
    if changed.get("instance_kind") in ("KIND_CPU", "KIND_MODEL"):
        no_effect.add("gpus")
    if changed.get("warmup") is True and isinstance(changed.get("accelerator"), BaseModel):
        no_effect.add("warmup")
    kept = [name for name in changed if name in _PLACES and name not in no_effect]
    kept.sort(key=_PLACES.__getitem__)
    return {name: getattr(changed[name], "text", changed[name]) for name in kept}


_PLACES = {name: place for place, name in enumerate(Server.model_fields)}
