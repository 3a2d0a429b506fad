"""The models of a repository: what hpcbench has to know of each, from its folder."""

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.plan.digest import hash_id, model_digests, special_kind
from hpcbench.plan.model_links import checked_neighbours


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
        Hash of the model's files, with those of ``composing``.
    former_digests
        The same of more files, as hpcbench made it before it left out caches and what editors and
        version control leave; results may still have one of them.
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
        The models that an ensemble calls, those that the campaign says it needs, and those that
        they call in turn.
    needs
        Those of them that the campaign names, because config.pbtxt does not.
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
    needs: tuple[str, ...] = ()
    swappable: bool = True
    former_digests: tuple[str, ...] = ()

    def __hash__(self) -> int:
        # Of what tells models apart, not of all: a plan looks for a model a million times.
        return hash((self.name, self.digest))


def read_model(
    repository: Path | Sequence[Path],
    name: str,
    callers: tuple[str, ...] = (),
    bound: Sequence[Path] | None = None,
    *,
    needs: Sequence[str] = (),
) -> TritonModel:
    """Read one model of a repository.

    Parameters
    ----------
    repository
        Folder of model folders; or several, of which one has the model.
    name
        Name of the model.
    callers
        The ensembles that led to this model, outermost first.
    bound
        The folders outside of the repository to which links of the model may lead; None for all.
    needs
        Models that it calls without its config.pbtxt saying so.

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
    home = repository if isinstance(repository, Path) else _home(repository, name)
    folder = home / name
    versions = _versions(home, folder)
    if bound is not None:
        checked_neighbours(home, folder, bound)
    config = _read_config(folder / "config.pbtxt", name)
    has_inputs = bool(config.input)
    steps = [step.model_name for step in config.ensemble_scheduling.step]
    called = _read_called(repository, name, steps, callers, bound)
    # Sorted: the order in which the campaign names them changes nothing, nor the digest.
    needs = sorted(set(needs))
    needed = _read_called(repository, name, needs, callers, bound)
    composing = tuple({part.name: part for part in (*called, *needed)}.values())
    digest, *former = model_digests(folder)
    if composing:
        digest += f"-{hash_id(''.join(part.digest for part in composing))}"
        for n in range(len(former)):
            former[n] += f"-{hash_id(''.join(part.former_digests[n] for part in composing))}"
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
        needs=tuple(needs),
        # What a model calls must not leave its server while it stays there.
        swappable=is_swappable(config) and not needs,
        former_digests=tuple(former),
    )


def _home(repositories: Sequence[Path], name: str) -> Path:
    """Return the repository that has a model; the first where none has it."""
    # Of one only, `_versions` says more.
    for path in repositories if len(repositories) > 1 else ():
        if not path.is_dir():
            raise BadInput(
                f"model_repositories: {path} is not a folder",
                "Triton starts with none of them missing; correct the path, or take it out",
            )
    found = [path for path in repositories if (path / name).is_dir()]
    if len(found) > 1:
        raise BadInput(
            f"models: '{name}' is in {' and in '.join(map(str, found))}",
            "Triton serves none of two models of one name; name the repositories that you mean",
        )
    if not found and len(repositories) > 1:
        present = sorted({p.name for r in repositories if r.is_dir() for p in r.iterdir()})
        raise BadInput(
            f"models: there is no model '{name}' in {', '.join(map(str, repositories))};"
            f"{did_you_mean(name, present)} they hold: {', '.join(present) or 'nothing'}"
        )
    return (*found, *repositories)[0]


def _versions(repository: Path, folder: Path) -> tuple[int, ...]:
    for path in (repository, folder):
        if is_loop(path):
            raise BadInput(f"models: {path} is a link that leads back to itself")
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


def is_loop(path: Path) -> bool:
    """Whether a path is a link that leads back to itself.

    Parameters
    ----------
    path
        Any path.

    Returns
    -------
    bool
        False also where there is nothing.
    """
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _read_config(path: Path, name: str) -> ModelConfig:
    """Read a config.pbtxt; an empty configuration where there is none."""
    config = ModelConfig()
    if not os.path.lexists(path):
        return config
    if not path.is_file():
        raise BadInput(
            f"{path}: is {path_kind(path)}, and Triton reads a file there", "replace or remove it"
        )
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


def path_kind(path: Path) -> str:
    """Return what a path is that is there and is no file.

    Parameters
    ----------
    path
        The path.

    Returns
    -------
    str
        Words that go after "is".
    """
    if is_loop(path):
        return "a link that leads back to itself"
    if not path.exists():
        return f"a link to {path.readlink()}, which is not there"
    return "a folder" if path.is_dir() else special_kind(path) or "no regular file"


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


def _read_called(
    repository: Path | Sequence[Path],
    name: str,
    called_names: Sequence[str],
    callers: tuple[str, ...],
    bound: Sequence[Path] | None,
) -> tuple[TritonModel, ...]:
    """Read all models that an ensemble or its like needs besides itself, each once."""
    found: dict[str, TritonModel] = {}
    for called in dict.fromkeys(called_names):
        if called in (*callers, name):
            raise BadInput(f"models: '{called}' calls itself, through '{name}'")
        try:
            model = read_model(repository, called, (*callers, name), bound)
        except BadInput as error:
            why = error.message.removeprefix("models: ")
            raise BadInput(f"models: '{name}' needs '{called}': {why}", error.hint) from error
        found |= {part.name: part for part in (model, *model.composing)}
    return tuple(found.values())
