"""Reads one model of the user's repository: its configuration, its inputs, a hash of its files."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from hpcbench.config import yaml_model
from hpcbench.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class TritonModel:
    """A model folder as Triton knows it.

    ``config`` is the serialised ModelConfig of its config.pbtxt, empty where there is none (the
    server then completes it from the model). ``max_batch_size`` and ``inputs`` are None where
    only the server can know them. ``inputs`` holds (name, dims), dims without the batch
    dimension and -1 where the length varies. ``composing`` are the models that an ensemble calls,
    and those that they call; ``digest`` is over the files of all. A model that is not
    ``swappable`` is never loaded anew on a server that has unloaded it.
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


def read_model(repository: Path, name: str, callers: tuple[str, ...] = ()) -> TritonModel:
    """The model ``name`` of a repository. Raises BadInput where there is none to serve.

    ``callers`` are the ensembles on the way to it.
    """
    folder = repository / name
    if not repository.is_dir():
        raise BadInput(f"model_repository: {repository} is not a folder")
    if not folder.is_dir():
        present = sorted(path.name for path in repository.iterdir() if path.is_dir())
        raise BadInput(
            f"models: there is no model '{name}' in {repository};"
            f"{yaml_model.nearest(name, present)} it holds: {', '.join(present) or 'nothing'}"
        )
    versions = tuple(
        sorted(
            int(path.name)
            for path in folder.iterdir()
            if path.is_dir() and re.fullmatch(r"[0-9]+", path.name)
        )
    )
    if not versions:
        raise BadInput(
            f"models: {folder} has no version folder", "put the model file into a folder named 1"
        )
    config = ModelConfig()
    path = folder / "config.pbtxt"
    if path.is_file():
        try:
            text_format.Parse(path.read_text(encoding="utf-8"), config)
        except (text_format.ParseError, UnicodeDecodeError, OSError) as error:
            raise BadInput(f"{path}: is not a Triton model configuration: {error}") from error
        if config.name and config.name != name:
            raise BadInput(
                f"{path}: says name: \"{config.name}\", but its folder is called '{name}'",
                "Triton refuses this; make the two equal",
            )
    known = bool(config.input)
    composing = _composing(repository, name, config, callers)
    whole = hashlib.sha256("".join(part.digest for part in composing).encode()).hexdigest()[:16]
    return TritonModel(
        name=name,
        folder=folder,
        digest=f"{content_digest(folder)}-{whole}" if composing else content_digest(folder),
        config=config.SerializeToString(deterministic=True),
        max_batch_size=config.max_batch_size if known else None,
        dynamic_batching=config.HasField("dynamic_batching"),
        inputs=tuple((i.name, tuple(i.dims)) for i in config.input) if known else None,
        versions=versions,
        composing=composing,
        swappable=is_swappable(config),
    )


def is_swappable(config: ModelConfig) -> bool:
    """Whether Triton can be trusted to unload the model and to load it again.

    It has been known to crash at that with ensembles, and with accelerators such as TensorRT.
    """
    accelerated = config.optimization.HasField("execution_accelerators")
    return not (accelerated or config.HasField("ensemble_scheduling"))


def _composing(
    repository: Path, name: str, config: ModelConfig, callers: tuple[str, ...]
) -> tuple[TritonModel, ...]:
    """All models that an ensemble needs beside itself, each once."""
    found: dict[str, TritonModel] = {}
    for called in dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step):
        if called in (*callers, name):
            raise BadInput(f"models: the ensemble '{called}' calls itself, through '{name}'")
        try:
            model = read_model(repository, called, (*callers, name))
        except BadInput as error:
            why = error.message.removeprefix("models: ")
            raise BadInput(
                f"models: the ensemble '{name}' needs '{called}': {why}", error.hint
            ) from error
        found |= {part.name: part for part in (model, *model.composing)}
    return tuple(found.values())


def content_digest(path: Path) -> str:
    """A hash over the names and contents of all files at or below ``path``."""
    total = hashlib.sha256()
    for file in sorted(_files(path)) if path.is_dir() else [path]:
        total.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, also through links, as Triton sees them; no loop is followed."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names if (Path(place) / name).is_file())
