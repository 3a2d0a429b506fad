"""Whether a server's outputs are those of a reference, on the same stored events."""

import base64
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcbench.config.container import Container
from hpcbench.config.server_values import Setting
from hpcbench.config.triton_protobuf import DataType, ModelConfig
from hpcbench.measure import server as triton
from hpcbench.measure.inference import infer
from hpcbench.measure.server import RunningServer, ServerOptions
from hpcbench.plan.point import OutputComparison, ServerVariant
from hpcbench.plan.stored_events import event_problem, read_steps

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
EventOutputs = Sequence[Mapping[str, Array]]
"""Tensors by their names, of one event after the other."""

# A worker measures many placements with the same reference, which needs a server of its own.
_known: dict[tuple[OutputComparison, str | None, Container], EventOutputs] = {}


def references(
    variants: Sequence[ServerVariant], container: Container, log_path: Path, options: ServerOptions
) -> dict[ServerVariant, EventOutputs | str]:
    """Return the outputs of the references of variants, each from a server of its own.

    A reference is a model as it stands in the repository, on CPUs; on the devices that it asks for
    where it cannot run on CPUs.

    Parameters
    ----------
    variants
        The variants that will be compared.
    container
        Where tritonserver comes from.
    log_path
        The file to which Triton's output is appended.
    options
        How the measured server will be started.

    Returns
    -------
    dict
        The outputs of each event, or a sentence where there are none. Without variants for which
        nothing is to be compared.
    """
    # It has no engines and swaps nothing.
    plain = ServerOptions(cpus=options.cpus, pinned=options.pinned, gpus=options.gpus)
    return {
        variant: _reference(variant.compared, variant.server_image, container, log_path, plain)
        for variant in variants
        if variant.compared is not None
    }


def _reference(
    compared: OutputComparison,
    image: str | None,
    container: Container,
    log_path: Path,
    options: ServerOptions,
) -> EventOutputs | str:
    if (compared, image, container) in _known:
        return _known[compared, image, container]
    reason = ""
    for changes in _REFERENCES:
        own = ServerVariant(
            model=compared.reference,
            label=compared.reference.name,
            position=0,
            version=None,
            server_image=image,
            changes=changes,
        )
        try:
            with triton.serve([own], container, log_path, options) as server:
                _known[compared, image, container] = _outputs(server, own, compared)
            return _known[compared, image, container]
        except Exception as error:  # noqa: BLE001 - no comparison is worth the measurements
            log.warning("the reference %s gives no outputs: %s", own.label, error)
            reason = reason or f"it gives no outputs: {error}"
    return reason


_REFERENCES: tuple[tuple[tuple[str, Setting], ...], ...] = (
    (("instance_kind", "KIND_CPU"), ("accelerator", None)),
    (),
)
"""Changes of the reference; the first with which it can be served are taken."""


def output_columns(
    server: RunningServer, right: Mapping[ServerVariant, EventOutputs | str]
) -> dict[str, dict[str, Any]]:
    """Send the stored events to a server, and return how its outputs differ.

    Parameters
    ----------
    server
        The measured server, before its first load. Variants that it is swapped to later differ in
        scheduling, not in their outputs.
    right
        The outputs of the references, as `references` returned them.

    Returns
    -------
    dict
        By the label of each model that is compared: values by the names of their columns.
    """
    return {each.label: _columns(server, each, right[each]) for each in right}


def _columns(
    server: RunningServer, variant: ServerVariant, reference: EventOutputs | str
) -> dict[str, Any]:
    assert variant.compared is not None
    name = variant.compared.reference.name
    if isinstance(reference, str):
        return {"output_reference": f"not compared with {name}: {reference}"}
    try:
        found = differences(_outputs(server, variant, variant.compared), reference)
    except Exception as error:  # noqa: BLE001 - no comparison is worth the measurements
        log.warning("the outputs of %s are not compared: %s", variant.label, error)
        return {"output_reference": f"not compared with {name}: {error}"}
    lacking = [output for output in reference[0] if output not in found]
    without = f", without {', '.join(lacking)}, which the variant lacks" if lacking else ""
    return {
        "output_reference": f"{name}, {len(reference)} events{without}",
        "output_differences": json.dumps(found),
        **{f"output_{kind}_difference": max(d[kind] for d in found.values()) for kind in _KINDS},
    }


_KINDS = ("max", "relative", "rms")


def differences(found: EventOutputs, reference: EventOutputs) -> dict[str, dict[str, float]]:
    """Return how outputs differ from those of a reference.

    Parameters
    ----------
    found, reference
        The outputs of the same events.

    Returns
    -------
    dict of str to dict
        By the name of each output that both have: ``max`` is the largest absolute difference,
        ``rms`` the root of the mean square of all, both in the unit of the output, ``relative`` the
        largest over the reference's value where that is not 0. Not a number on one side only is
        infinite. Strings differ by 0 or 1.

    Raises
    ------
    ValueError
        If they have no output in common, or one has another shape.
    """
    names = [name for name in reference[0] if name in found[0]]
    if not names:
        raise ValueError(f"the outputs have other names: {', '.join(found[0])}")
    return {name: _difference(name, found, reference) for name in names}


def _difference(name: str, found: EventOutputs, reference: EventOutputs) -> dict[str, float]:
    gaps, sizes = [], []
    for one, other in zip(found, reference, strict=True):
        a, b = one[name], other[name]
        if a.shape != b.shape:
            raise ValueError(f"{name}: the shape is {a.shape}, that of the reference {b.shape}")
        if a.dtype == object:
            gaps.append((a != b).astype(float).ravel())
            sizes.append(np.zeros(a.size))
            continue
        a, b = a.astype(float).ravel(), b.astype(float).ravel()
        with np.errstate(invalid="ignore"):
            gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        gaps.append(np.where(np.isnan(gap), np.inf, gap))
        sizes.append(np.abs(b))
    gap, size = np.concatenate(gaps), np.concatenate(sizes)
    with np.errstate(invalid="ignore"):
        relative = gap[size > 0] / size[size > 0]
    return {
        "max": float(gap.max(initial=0.0)),
        "relative": float(np.where(np.isnan(relative), np.inf, relative).max(initial=0.0)),
        "rms": float(np.sqrt(np.mean(gap**2))) if gap.size else 0.0,
    }


def _outputs(
    server: RunningServer, variant: ServerVariant, compared: OutputComparison
) -> EventOutputs:
    name, port = variant.model.name, server.http_port
    config = server.configs[server.variants.index(variant)]
    found = []
    for event in read_events(Path(compared.inputs), compared.events, config):
        inputs = {tensor: (_kind(config, tensor), values) for tensor, values in event.items()}
        try:
            found.append(infer(port, name, inputs, variant.version))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found


def _kind(config: ModelConfig, tensor: str) -> str:
    """The client's name of an input's data type."""
    (data_type,) = (each.data_type for each in config.input if each.name == tensor)
    kind = DataType.Name(data_type).removeprefix("TYPE_")
    return "BYTES" if kind == "STRING" else kind


def read_events(path: Path, count: int, config: ModelConfig) -> Iterator[dict[str, Array]]:
    """Read the first events of a JSON file of perf_analyzer.

    Parameters
    ----------
    path
        The file.
    count
        How many; fewer where the file has fewer.
    config
        The configuration of the model that gets them.

    Yields
    ------
    dict of str to numpy.ndarray
        The inputs of one event, with a batch dimension of 1 where the model has one: one event at
        a time is a batch that every engine takes.

    Raises
    ------
    ValueError
        If an event is not what the model takes.
    """
    from tritonclient.utils import triton_to_np_dtype

    for number, step in enumerate(read_steps(path)[:count]):
        problem = event_problem(step, config)
        if problem is not None:
            raise ValueError(f"{path}: event {number} {problem}")
        event = {}
        for each in config.input:
            if each.name not in step:
                continue
            kind = triton_to_np_dtype(_kind(config, each.name))
            values = _tensor(step[each.name], kind, tuple(each.dims))
            event[each.name] = values[np.newaxis] if config.max_batch_size else values
        yield event


def _tensor(value: Any, kind: Any, dims: tuple[int, ...]) -> Array:
    shape = dims
    if isinstance(value, dict):
        shape = tuple(value.get("shape", dims))
        if "b64" in value:
            return np.frombuffer(base64.b64decode(value["b64"]), kind).reshape(shape)
        value = value["content"]
    if kind is np.object_:
        texts = [each.encode() for each in np.array(value, object).ravel()]
        return np.array(texts, object).reshape(shape)
    return np.array(value, kind).reshape(shape)
