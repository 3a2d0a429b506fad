"""Checks the axes of a campaign against a model: what it cannot take is told before a job runs."""

from collections.abc import Iterator, Mapping

from tritonclient.grpc.model_config_pb2 import TYPE_STRING, ModelConfig

from hpcbench.config import load_axes, server_axes
from hpcbench.config.campaign import Dims, Model
from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.server_axes import Server
from hpcbench.config.yaml_model import nearest
from hpcbench.plan.model import TritonModel


def problems(
    model: Model, triton_model: TritonModel, server: Server, load: Load, measurement: Measurement
) -> list[str]:
    """What this model cannot take, each with key, value and what is allowed."""
    own = triton_model.max_batch_size
    known = triton_model.inputs is not None
    batching = triton_model.dynamic_batching if known else None
    found = [
        *server_axes.problems(server, limit=own, batching=batching),
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
    refusal = load_axes.always_refused(measurement)
    return [*found, refusal] if refusal else found


def lengths(model: TritonModel, shapes: Mapping[str, Dims]) -> dict[str, Dims]:
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
        given = lengths(triton_model, shapes)
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
            yield f"it has no input '{name}';{nearest(name, inputs)} its inputs: {there}"
    known = lengths(model, shapes)
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
