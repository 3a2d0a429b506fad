"""Input data for perf_analyzer that a campaign names on disk."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hpcbench.config.campaign import Campaign
from hpcbench.config.triton_protobuf import DataType, ModelConfig
from hpcbench.errors import BadInput
from hpcbench.plan.digest import content_digest, special_kind
from hpcbench.plan.model import TritonModel
from hpcbench.plan.model_limits import has_strings
from hpcbench.plan.point import Point
from hpcbench.plan.stored_events import VALUE_BYTES, check_compared

GENERATED_INPUT = ("random", "zero")
"""Input data that perf_analyzer makes itself."""

_HINT = (
    "allowed: random, zero, or the path of a JSON file or folder, relative to the campaign file; "
    "hpcbench make-input writes such a file from events"
)


def input_digest(name: str, where: str) -> str:
    """Return the digest of a JSON file or folder that a campaign names.

    Parameters
    ----------
    name
        Path of the file or folder.
    where
        File and key of the campaign, for messages.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    BadInput
        perf_analyzer could not read it.
    """
    path = Path(name)
    if kind := special_kind(path):
        # Read here first, it would be empty when perf_analyzer reads it.
        raise BadInput(f"{where}: {name} is {kind}, which can be read only once", _HINT)
    try:
        if path.is_file() and "data" not in json.loads(path.read_text(encoding="utf-8")):
            raise BadInput(
                f"{where}: {name} has no list 'data', which perf_analyzer expects", _HINT
            )
        return content_digest(path)
    except OSError as error:
        raise BadInput(f"{where}: {name} cannot be read: {error.strerror}", _HINT) from error
    except (ValueError, TypeError) as error:
        raise BadInput(f"{where}: {name} is not JSON: {error}", _HINT) from error


def folder_problems(
    folder: Path, model: TritonModel, shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Return why perf_analyzer could not take its input from a folder.

    Parameters
    ----------
    folder
        A folder with one file per input, which holds the values of one event in binary.
    model
        The model that gets them.
    shapes
        Lengths of the inputs that have a -1 in their dims.

    Returns
    -------
    list of str
        One message per problem.
    """
    found = []
    for each in ModelConfig.FromString(model.config).input:
        path = folder / each.name
        dims = shapes.get(each.name, tuple(each.dims))
        size = VALUE_BYTES.get(DataType.Name(each.data_type))
        if not path.is_file():
            if not each.optional:
                found.append(
                    f"{folder} has no file '{each.name}' for that input of model '{model.name}'; "
                    "it must hold the input's values of one event, row by row, in binary"
                )
        elif -1 in dims:
            found.append(
                f"{folder} does not say how long the input '{each.name}' of model "
                f"'{model.name}' is, and its dims are {list(dims)}; write shapes: into the campaign"
            )
        elif size is not None and path.stat().st_size != size * math.prod(dims):
            found.append(
                f"{path} has {path.stat().st_size} bytes; the input of model '{model.name}' is "
                f"{DataType.Name(each.data_type)[5:]} {list(dims)}, which takes "
                f"{size * math.prod(dims)}"
            )
    return found


def gets_random_strings(point: Point) -> bool:
    """Whether a point sends random strings, which many models cannot read.

    Parameters
    ----------
    point
        The point.

    Returns
    -------
    bool
        False also where only the server knows the inputs.
    """
    load, model = point.load, point.variant.model
    random = load.input_data == "random" and load.string_data is None
    return random and model.inputs is not None and has_strings(model)


def strings_hints(points: Iterable[Point]) -> tuple[str, ...]:
    """Return a hint for each model that gets random strings.

    Parameters
    ----------
    points
        The points of a campaign.

    Returns
    -------
    tuple of str
        A sentence each.
    """
    # One point of each kind of load: there may be a million of them.
    kinds = {(p.variant.label, p.load.input_data, p.load.string_data is None): p for p in points}
    labels = dict.fromkeys(p.variant.label for p in kinds.values() if gets_random_strings(p))
    return tuple(
        f"model '{label}': its inputs of TYPE_STRING get random letters; if it reads anything else "
        "from them, give that with string_data, or a file as input_data"
        for label in labels
    )


def input_digests(campaign: Campaign) -> dict[str, str]:
    """Return the digest of each data file of a campaign.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    dict of str to str
        16 hexadecimal digits by the path of the file or folder.

    Raises
    ------
    BadInput
        perf_analyzer could not read one of them.
    """
    measured = [
        campaign.measurement,
        *(model.measurement for model in campaign.models),
        *campaign.variants.values(),
    ]
    names = {name for measurement in measured if measurement for name in measurement.input_data}
    where = f"{campaign.source}: measurement.input_data"
    files = sorted(names.difference(GENERATED_INPUT))
    found = {name: input_digest(name, where) for name in files}
    for model in campaign.models:
        asked = campaign.comparison_of(model)
        if asked is not None:
            key = f"{campaign.source}: compare_outputs.inputs"
            if not asked.inputs.is_file():
                raise BadInput(
                    f"{key}: {asked.inputs} is not a file",
                    "name a JSON file of perf_analyzer; hpcbench make-input writes one from events",
                )
            found[str(asked.inputs)] = input_digest(str(asked.inputs), key)
    return found


def check_inputs(campaign: Campaign, points: Sequence[Point]) -> None:
    """Check that folders of input data, and events to compare, hold what their models take.

    Parameters
    ----------
    campaign
        The campaign.
    points
        Its points.

    Raises
    ------
    BadInput
        With everything that is missing or of another size.
    """
    used = {
        (point.load.input_data, point.variant.model, point.shapes)
        for point in points
        if point.load.input_data_digest
    }
    check_compared(campaign, points)
    problems = [
        f"{campaign.source}: measurement.input_data: {problem}"
        for name, model, shapes in sorted(used, key=lambda each: (each[0], each[1].name, each[2]))
        if Path(name).is_dir()
        for problem in folder_problems(Path(name), model, dict(shapes))
    ]
    if problems:
        raise BadInput("\n".join(dict.fromkeys(problems)))
