"""The overlay repository of one server variant: links to the model's files, its own config.pbtxt.

The user's repository is never written to.
"""

import shutil
from pathlib import Path

from google.protobuf import text_format

from hpcbench.config.triton_messages import ModelConfig
from hpcbench.plan.point import ServerVariant
from hpcbench.runtime import command


def write_overlay(variant: ServerVariant, config: ModelConfig, repository: Path) -> None:
    """Makes ``repository`` hold the model with ``config``, all at once: Triton may be watching.

    The models that an ensemble calls are there as they are, unless they have an overlay themselves.
    """
    folder = repository.with_name(f"{repository.name}.coming") / variant.model.name
    folder.mkdir(parents=True)
    for entry in variant.model.folder.iterdir():
        if entry.name != "config.pbtxt":
            (folder / entry.name).symlink_to(entry)
    (folder / "config.pbtxt").write_text(config_pbtxt(config), encoding="utf-8")
    repository.mkdir(exist_ok=True)
    for part in variant.model.composing:
        if not (repository / part.name).exists():
            (repository / part.name).symlink_to(part.folder)
    own = repository / variant.model.name
    if own.is_symlink():
        # An ensemble that shares the server calls it, and brought it as it is.
        own.unlink()
    folder.rename(own)


def remove_overlay(variant: ServerVariant, repository: Path) -> None:
    """Makes ``repository`` hold the model no longer, all at once."""
    gone = repository.with_name(f"{repository.name}.gone")
    (repository / variant.model.name).rename(gone)
    shutil.rmtree(gone)


def paths_to_mount(variant: ServerVariant) -> tuple[tuple[Path, Path], ...]:
    """(path, path as links name it) of all that must be seen to read the model.

    That is its folder, those of the models that it calls, and whatever links in them lead to.
    """
    return command.linked_paths(m.folder for m in (variant.model, *variant.model.composing))


def config_pbtxt(config: ModelConfig) -> str:
    """The configuration as Triton reads it from a file."""
    return str(text_format.MessageToString(config))
