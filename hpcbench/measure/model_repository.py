"""The overlay repository of a server: the models' files, and a config.pbtxt of its own for each.

Nothing is ever written to the user's repository. Python keeps compiled modules beside their
sources, and Triton's Python backend ignores the variables that would forbid it; a model in Python
may write to its files, too. So of such a model all folders are made anew, with copies of small
files, and links to large ones only: weights, which nobody writes while they are served. Python is
kept from writing into the overlay, too: a Triton that polls would take that for a new version of
the model.
"""

import os
import shutil
from pathlib import Path

from google.protobuf import text_format

from hpcbench.config.container import Container
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.plan.digest import files_below
from hpcbench.plan.model import TritonModel
from hpcbench.plan.model_links import LARGEST_SOURCE, bound_folders, checked_neighbours, neighbours
from hpcbench.plan.point import ServerVariant
from hpcbench.runtime import command


def write_overlay(variant: ServerVariant, config: ModelConfig, repository: Path) -> None:
    """Add a model with its configuration to an overlay repository.

    The models that an ensemble calls are added as they are, unless they have an overlay already.

    Parameters
    ----------
    variant
        Whose model to add.
    config
        What to write into its config.pbtxt.
    repository
        The overlay repository; created if it is missing.
    """
    folder = _add_beside(variant.model, repository)
    if folder.is_symlink():
        # Without Python in it, the folder would be linked as a whole, with its config.pbtxt.
        folder.unlink()
        folder.mkdir()
        for entry in variant.model.folder.iterdir():
            (folder / entry.name).symlink_to(entry)
    (folder / "config.pbtxt").unlink(missing_ok=True)
    (folder / "config.pbtxt").write_text(config_pbtxt(config), encoding="utf-8")
    repository.mkdir(exist_ok=True)
    for part in variant.model.composing:
        if not (repository / part.name).exists():
            _put(part, _add_beside(part, repository), repository)
    if (repository / variant.model.name).exists():
        # An ensemble on the same server calls this model and has linked it as it is.
        remove_overlay(variant, repository)
    _put(variant.model, folder, repository)


def _add_beside(model: TritonModel, repository: Path) -> Path:
    """Add a model beside the repository, from where it is moved when it is complete.

    Triton may be polling, and would load a folder that is half written.
    """
    folder = repository.with_name(f"{repository.name}.coming") / model.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    _add(model.folder, folder)
    return folder


def _put(model: TritonModel, folder: Path, repository: Path) -> None:
    """Move a model into the repository, together with what its sources read beside it.

    Triton takes what lies in a repository for a model. So such a model stands in another folder,
    among its neighbours, and the repository has a link to it: two folders up are these.
    """
    beside = neighbours(model.folder)
    if not beside:
        folder.rename(repository / model.name)
        return
    place = repository.with_name(f"{repository.name}.beside")
    place.mkdir(exist_ok=True)
    for path in beside:
        if not os.path.lexists(place / path.name):
            _add(path, place / path.name)
    _remove(place / model.name)
    folder.rename(place / model.name)
    (repository / model.name).symlink_to(place / model.name)


def _add(source: Path, target: Path) -> None:
    """Add a model as it is: anew where it has Python sources, else as a link."""
    if not any(path.suffix == ".py" for path in files_below(source)):
        target.symlink_to(source)
        return
    made: dict[str, Path] = {}
    files: list[tuple[Path, Path]] = []
    waiting = [(source, target)]
    while waiting:
        path, new = waiting.pop()
        real = os.path.realpath(path)
        if real in made:
            # A second path to one folder: Python would write through a link to the user's. It is
            # relative, because the model is moved when it is complete.
            new.symlink_to(os.path.relpath(made[real], new.parent))
        elif path.is_dir():
            made[real] = new
            new.mkdir()
            waiting += [(each, new / each.name) for each in path.iterdir() if each.name != _CACHE]
        else:
            files.append((path, new))
    for path, new in files:
        if path.suffix == ".py":
            # A file in the place of the folder that Python would make; it goes on without.
            (new.parent / _CACHE).touch()
        file = Path(os.path.realpath(path))
        if path.is_symlink() and str(file.parent) in made:
            new.symlink_to(os.path.relpath(made[str(file.parent)] / file.name, new.parent))
        elif path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_SOURCE:
            # A link leads out of the model, to what other models have, too.
            new.symlink_to(path)
        else:
            # A model that asks where its source really is would find the user's folder by a link.
            shutil.copy2(path, new)


_CACHE = "__pycache__"


def remove_overlay(variant: ServerVariant, repository: Path) -> None:
    """Remove the model of a variant from an overlay repository.

    Parameters
    ----------
    variant
        Whose model to remove.
    repository
        The overlay repository.
    """
    # Renamed first: Triton may be polling, and would see a folder that is half deleted.
    gone = repository.with_name(f"{repository.name}.gone")
    (repository / variant.model.name).rename(gone)
    _remove(gone)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def paths_to_mount(variant: ServerVariant, container: Container) -> tuple[tuple[Path, Path], ...]:
    """Return what a container must see to read the model of a variant.

    Parameters
    ----------
    variant
        The variant.
    container
        Its ``binds`` are where links of a model may lead outside of the repository.

    Returns
    -------
    tuple of tuple of Path
        (path, path as links name it): the model's folder, those of the models that it calls, and
        what the links in them lead to.

    Raises
    ------
    BadInput
        Where a link leads elsewhere: it may have been made after the campaign was planned.
    """
    folders = [model.folder for model in (variant.model, *variant.model.composing)]
    bound = bound_folders(container)
    beside = [
        path for folder in folders for path in checked_neighbours(folder.parent, folder, bound)
    ]
    return command.linked_paths(dict.fromkeys((*folders, *beside)))


def config_pbtxt(config: ModelConfig) -> str:
    """Write a configuration as Triton reads it from config.pbtxt.

    Parameters
    ----------
    config
        The configuration of one model.

    Returns
    -------
    str
        Protobuf's text format.
    """
    return str(text_format.MessageToString(config))
