"""What a campaign names on disk: models of the repository, and input data for perf_analyzer."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from hpcbench.config.triton_messages import DataType, ModelConfig
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.plan.model_links import check_links


@dataclass(frozen=True, kw_only=True)
class TritonModel:
    """A model folder as Triton sees it.

    Attributes
    ----------
    name
        Name of the folder and of the model.
    folder
        The model's folder in the repository.
    digest
        Hash of the model's files, with those of the models that an ensemble calls.
    config
        Serialised ModelConfig of its config.pbtxt; empty where there is none. The server then
        completes it from the model.
    max_batch_size
        The model's batch limit, 0 without a batch dimension; None where only the server knows it.
    dynamic_batching
        Whether config.pbtxt switches dynamic batching on.
    inputs
        (name, dims) of each input, without the batch dimension and with -1 for a variable length;
        None where only the server knows them.
    versions
        Numbers of the version folders, in ascending order.
    composing
        The models that an ensemble calls, and those that they call in turn.
    swappable
        Whether a running server may unload the model and load it again.
    """

    name: str
    folder: Path
    digest: str
    config: bytes
    max_batch_size: int | None
    dynamic_batching: bool
    inputs: tuple[tuple[str, tuple[int, ...]], ...] | None
    versions: tuple[int, ...]
    composing: tuple["TritonModel", ...] = ()
    swappable: bool = True


def read_model(
    repository: Path,
    name: str,
    callers: tuple[str, ...] = (),
    bound: Sequence[Path] | None = None,
) -> TritonModel:
    """Read one model of a repository.

    Parameters
    ----------
    repository
        Folder of model folders.
    name
        Name of the model.
    callers
        The ensembles that led to this model, outermost first.
    bound
        The folders outside of the repository to which links of the model may lead; None for all.

    Returns
    -------
    TritonModel
        What hpcbench has to know of it.

    Raises
    ------
    BadInput
        There is no such model, Triton would refuse it, or one of its links leads elsewhere.
    """
    if name in {"", ".", ".."} or "/" in name or not name.isprintable():
        raise BadInput(f"models: {name!r} cannot be the name of a folder in {repository}")
    folder = repository / name
    versions = _versions(repository, folder)
    if bound is not None:
        check_links(repository, folder, bound)
    config = _read_config(folder / "config.pbtxt", name)
    has_inputs = bool(config.input)
    composing = _composing(repository, name, config, callers, bound)
    digest = content_digest(folder)
    if composing:
        digest += f"-{hash_id(''.join(part.digest for part in composing))}"
    return TritonModel(
        name=name,
        folder=folder,
        digest=digest,
        config=config.SerializeToString(deterministic=True),
        # Without inputs, config.pbtxt leaves them and max_batch_size to the server.
        max_batch_size=config.max_batch_size if has_inputs else None,
        dynamic_batching=config.HasField("dynamic_batching"),
        inputs=tuple((i.name, tuple(i.dims)) for i in config.input) if has_inputs else None,
        versions=versions,
        composing=composing,
        swappable=is_swappable(config),
    )


def _versions(repository: Path, folder: Path) -> tuple[int, ...]:
    if not repository.is_dir():
        raise BadInput(f"model_repository: {repository} is not a folder")
    if not folder.is_dir():
        present = sorted(path.name for path in repository.iterdir() if path.is_dir())
        raise BadInput(
            f"models: there is no model '{folder.name}' in {repository};"
            f"{did_you_mean(folder.name, present)} it holds: "
            f"{', '.join(present) or 'nothing'}"
        )
    # As in Triton, folders with other names than numbers are no versions.
    found = [path.name for path in folder.iterdir() if path.is_dir()]
    versions = sorted(int(name) for name in found if re.fullmatch(r"[0-9]+", name))
    if not versions:
        raise BadInput(
            f"models: {folder} has no version folder", "put the model file into a folder named 1"
        )
    return tuple(versions)


def _read_config(path: Path, name: str) -> ModelConfig:
    """Read a config.pbtxt; an empty configuration where there is none."""
    config = ModelConfig()
    if not path.is_file():
        return config
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    # A number that is too large for its field is a ValueError.
    except (text_format.ParseError, ValueError, OSError) as error:
        raise BadInput(f"{path}: is not a Triton model configuration: {error}") from error
    if config.name and config.name != name:
        raise BadInput(
            f"{path}: says name: \"{config.name}\", but its folder is called '{name}'",
            "Triton requires both to be equal; change one of them",
        )
    return config


def is_swappable(config: ModelConfig) -> bool:
    """Whether a running Triton may unload the model and load it again.

    Triton has crashed when it reloaded ensembles, and models with accelerators such as TensorRT.

    Parameters
    ----------
    config
        The model's configuration.

    Returns
    -------
    bool
        False for such models.
    """
    accelerated = config.optimization.HasField("execution_accelerators")
    return not (accelerated or config.HasField("ensemble_scheduling"))


def _composing(
    repository: Path,
    name: str,
    config: ModelConfig,
    callers: tuple[str, ...],
    bound: Sequence[Path] | None,
) -> tuple[TritonModel, ...]:
    """Read all models that an ensemble needs besides itself, each once."""
    found: dict[str, TritonModel] = {}
    for called in dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step):
        if called in (*callers, name):
            raise BadInput(f"models: the ensemble '{called}' calls itself, through '{name}'")
        try:
            model = read_model(repository, called, (*callers, name), bound)
        except BadInput as error:
            why = error.message.removeprefix("models: ")
            raise BadInput(
                f"models: the ensemble '{name}' needs '{called}': {why}", error.hint
            ) from error
        found |= {part.name: part for part in (model, *model.composing)}
    return tuple(found.values())


def hash_id(*parts: str) -> str:
    """Return an id for what these strings define.

    Parameters
    ----------
    *parts
        Strings without line breaks, in an order that matters.

    Returns
    -------
    str
        16 hexadecimal digits of a SHA-256.
    """
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def content_digest(path: Path) -> str:
    """Return a hash of the names and contents of all files at or below a path.

    Parameters
    ----------
    path
        A file, or a folder; links in it are followed.

    Returns
    -------
    str
        16 hexadecimal digits of a SHA-256.
    """
    total = hashlib.sha256()
    for file in sorted(_files(path)) if path.is_dir() else [path]:
        # The length keeps one file's end apart from the next file's name.
        total.update(os.fsencode(f"{file.relative_to(path)}\0{file.stat().st_size}\0"))
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, also through links, as Triton sees them."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()  # a link that leads back up would be followed for ever
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names if (Path(place) / name).is_file())


GENERATED_INPUT = ("random", "zero")
"""Input data that perf_analyzer makes itself."""

_HINT = (
    "allowed: random, zero, or the path of a JSON file or folder, relative to the campaign file; "
    "hpcbench make-input writes such a file from events"
)
_VALUE_BYTES = {
    **dict.fromkeys(("TYPE_BOOL", "TYPE_UINT8", "TYPE_INT8"), 1),
    **dict.fromkeys(("TYPE_UINT16", "TYPE_INT16", "TYPE_FP16", "TYPE_BF16"), 2),
    **dict.fromkeys(("TYPE_UINT32", "TYPE_INT32", "TYPE_FP32"), 4),
    **dict.fromkeys(("TYPE_UINT64", "TYPE_INT64", "TYPE_FP64"), 8),
}
"""Size of one value in bytes. Strings have no fixed size."""


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
        size = _VALUE_BYTES.get(DataType.Name(each.data_type))
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
