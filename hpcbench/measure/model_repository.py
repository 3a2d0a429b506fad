"""The overlay repository of a server: links to the models' files, and a config.pbtxt of its own.

Nothing is ever written to the user's repository. Python keeps compiled modules beside their
sources, and Triton's Python backend ignores the variables that would forbid it. So folders with
sources are made anew, with links to their files, and Python is kept from writing there, too: a
Triton that polls would take that for a new version of the model.
"""

import shutil
from collections.abc import Set as AbstractSet
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
    folder.mkdir(parents=True)
    _link_entries(variant.model.folder, folder, python_folders(variant.model.folder))
    (folder / "config.pbtxt").unlink(missing_ok=True)
    (folder / "config.pbtxt").write_text(config_pbtxt(config), encoding="utf-8")
    repository.mkdir(exist_ok=True)
    for part in variant.model.composing:
        if not (repository / part.name).exists():
            _link(part.folder, repository / part.name, python_folders(part.folder))
    if (repository / variant.model.name).exists():
        # An ensemble on the same server calls this model and has linked it as it is.
        remove_overlay(variant, repository)
    folder.rename(repository / variant.model.name)


def _link(source: Path, target: Path, made_anew: AbstractSet[Path]) -> None:
    if source not in made_anew:
        target.symlink_to(source)
        return
    target.mkdir()
    _link_entries(source, target, made_anew)


def _link_entries(source: Path, target: Path, made_anew: AbstractSet[Path]) -> None:
    for entry in source.iterdir():
        if entry.name != _CACHE:
            _link(entry, target / entry.name, made_anew)
    if source in made_anew:
        # A file in the place of the folder that Python would make; it goes on without.
        (target / _CACHE).touch()


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
