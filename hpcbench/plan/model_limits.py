"""What a model itself cannot take, on any server: batch sizes, shapes, versions, settings.

These are errors of the campaign. What only some pools cannot measure is in
`hpcbench.plan.applicability`.
"""

from collections.abc import Iterable, Iterator, Mapping

from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.model import Dims, Model
from hpcbench.config.server_axes import BATCHING_AXES, Server
from hpcbench.config.triton_protobuf import TYPE_STRING, ModelConfig
from hpcbench.config.unsupported_loads import always_unsupported_reason
from hpcbench.config.values import BASE
from hpcbench.errors import did_you_mean
from hpcbench.plan import backend
from hpcbench.plan.model import TritonModel


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
        *_server_problems(server, limit=own, batching=batching),
        *_batch_problems(model, triton_model, load, _largest_batch(server, own)),
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
    unsupported = always_unsupported_reason(load, measurement)
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


def _server_problems(server: Server, *, limit: int | None, batching: bool | None) -> list[str]:
    """What no combination can take; what some cannot is found when they are made."""
    found = []
    largest = _largest_batch(server, limit)
    if largest is not None:
        on = [
            name
            for name in ("dynamic_batching", *BATCHING_AXES)
            if _asks_for_batching(server, name)
        ]
        if largest == 0 and on:
            found.append(
                f"server.{on[0]}: dynamic batching needs a max_batch_size of at least 1, and this "
                "model has 0"
            )
        found += [
            f"server.preferred_batch_size: {list(sizes)} goes over its max_batch_size of {largest}"
            for sizes in server.preferred_batch_size
            if isinstance(sizes, tuple) and any(size > largest > 0 for size in sizes)
        ]
    if limit == 0 and set(server.max_batch_size) - {BASE}:
        found.append(
            "server.max_batch_size: this model has 0, which is without a batch dimension, and "
            "cannot be given one; leave the axis out"
        )
    stays_off = batching is False and {BASE} & set(server.dynamic_batching)
    if stays_off and BASE in server.preferred_batch_size:
        found += [
            f"server.{name}: the model has no dynamic batching; switch it on with "
            "dynamic_batching: true"
            for name in BATCHING_AXES
            if any(value != BASE for value in getattr(server, name))
            and name != "preferred_batch_size"
        ]
    levels = [value for value in server.priority_levels if value != BASE]
    most = max(levels, default=0)
    found += [
        f"server.default_priority_level: {level} is over priority_levels; allowed: 1 to {most}"
        for level in server.default_priority_level
        if level != BASE and len(levels) == len(server.priority_levels) and level > most > 0
    ]
    return found


def _largest_batch(server: Server, limit: int | None) -> int | None:
    """The largest max_batch_size of the variants; None where only the server knows it."""
    asked = [size for size in server.max_batch_size if size != BASE]
    if len(asked) == len(server.max_batch_size):
        return max(asked)
    return None if limit is None else max(limit, *asked, 0)


def _asks_for_batching(server: Server, name: str) -> bool:
    return any(value not in (BASE, None, False) for value in getattr(server, name))


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
