"""The overlay repository of a server: links to the models' files, and a config.pbtxt of its own.

Nothing is ever written to the user's repository. Python keeps compiled modules beside their
sources, and Triton's Python backend ignores the variables that would forbid it. So folders with
sources are made anew, with copies of the sources and links to other files, and Python is kept from
writing there, too: a Triton that polls would take that for a new version of the model. A model
that itself writes to one of its files still writes to the user's; and one that looks for modules
outside of its folder is linked, so that it finds them, and Python compiles them there.
"""

import os
import re
import shutil
from pathlib import Path

from google.protobuf import text_format

from hpcbench.config.container import Container
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.plan.digest import python_folders
from hpcbench.plan.model_links import bound_folders, check_links
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
    # Built beside the repository and renamed into it: Triton may be polling, and would load a
    # folder that is half written.
    folder = repository.with_name(f"{repository.name}.coming") / variant.model.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    _add(variant.model.folder, folder)
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
            _add(part.folder, repository / part.name)
    if (repository / variant.model.name).exists():
        # An ensemble on the same server calls this model and has linked it as it is.
        remove_overlay(variant, repository)
    folder.rename(repository / variant.model.name)


def _add(source: Path, target: Path) -> None:
    """Add a model as it is: its folders with Python sources made anew, all else linked."""
    python = python_folders(source)
    made: dict[str, Path] = {}
    sources: list[tuple[Path, Path]] = []
    waiting = [(source, target)]
    while waiting:
        path, new = waiting.pop()
        real = os.path.realpath(path)
        if real in made:
            # A second path to one folder: Python would write through a link to the user's. It is
            # relative, because the model is moved when it is complete.
            new.symlink_to(os.path.relpath(made[real], new.parent))
        elif real in python:
            made[real] = new
            new.mkdir()
            # A file in the place of the folder that Python would make; it goes on without.
            (new / _CACHE).touch()
            waiting += [(each, new / each.name) for each in path.iterdir() if each.name != _CACHE]
        elif path.suffix == ".py" and path.is_file():
            sources.append((path, new))
        else:
            new.symlink_to(path)
    stays = any(_looks_outside(path) for path, _ in sources)
    for path, new in sources:
        file = Path(os.path.realpath(path))
        if stays or (not path.is_symlink() and not _is_small(path)):
            new.symlink_to(path)
        elif not path.is_symlink():
            # A model that asks where its source really is would find the user's folder by a link.
            shutil.copy2(path, new)
        elif str(file.parent) in made:
            new.symlink_to(os.path.relpath(made[str(file.parent)] / file.name, new.parent))
        else:
            # It leads out of the model, which may look for other files there.
            new.symlink_to(path)


def _looks_outside(source: Path) -> bool:
    """Whether a source may look for files outside of its model, which a copy would not find."""
    return _is_small(source) and bool(_UPWARDS.search(source.read_bytes()))


_UPWARDS = re.compile(
    rb"\.\./\.\.|[\"']\.\.[\"'].*[\"']\.\.[\"']|pardir|parents\[|(\.parent\b.*){3}|(dirname\(.*){3}"
)
"""From a version folder, two folders up is the repository."""


def _is_small(source: Path) -> bool:
    return source.stat().st_size <= _LARGEST_COPY


_LARGEST_COPY = 2**20
"""Bytes. What is larger is hardly a source that people wrote."""

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
    if gone.is_symlink():
        gone.unlink()
    else:
        shutil.rmtree(gone)


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
    for folder in folders:
        check_links(folder.parent, folder, bound_folders(container))
    return command.linked_paths(folders)


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
