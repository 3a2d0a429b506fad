"""The lock of a session: what it measured and with what, in one file that can be run again.

It holds the campaign and the site as resolved, which the results folder also has as files to edit,
and what was found: digests, versions, nodes, the seed of the order.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationInfo, model_validator

from hpcbench.config import yaml_model
from hpcbench.config.campaign import Campaign
from hpcbench.config.container import DOCKER
from hpcbench.config.site import Site
from hpcbench.config.yaml_model import FileSection, mistake
from hpcbench.errors import BadInput
from hpcbench.plan.secrets import left_out
from hpcbench.records.session import Repeated

FORMAT = 1
"""Raised when a lock of the new kind cannot be read by an older hpcbench."""

KEY = "hpcbench_lock"
"""The first key of a lock. No campaign file has it."""

HEADER = """\
# The lock of session {run_id}: what hpcbench measured, and with what.
# To measure it again, in a session of its own:
#     hpcbench run {name} --results FOLDER
# It says first what is different. A model repository or an input that is not at its path is looked
# for beside this file, under the last parts of its path. --site SITE measures at another site.
# hpcbench refuses a lock that was edited: edit campaign.yaml and site.yaml beside it instead.
"""


class LockedSession(FileSection):
    """The session.

    Attributes
    ----------
    run_id
        Its name.
    seed
        From which the order of the points is drawn.
    started_at
        When it began, UTC.
    repeats
        The run_id of the session that it repeats; None for no other.
    complete
        Whether a run of it has come to its end. A lock is first written before anything is
        measured.
    """

    run_id: str
    seed: int
    started_at: datetime
    repeats: str | None = None
    complete: bool = False


class LockedPoints(FileSection):
    """The points of the grid.

    Attributes
    ----------
    count
        How many.
    digest
        Hash of their ids: where it is the same, rows of both sessions are repeats of each other.
    """

    count: int
    digest: str


class LockedNode(FileSection):
    """A node on which something was measured.

    Attributes
    ----------
    name
        Its host name.
    pool
        The pool whose job it was.
    gpu, gpu_count, gpu_driver
        Its GPUs, as NVML names them; None without a GPU.
    cpu, cpu_count
        Its CPUs.
    """

    name: str
    pool: str
    gpu: str | None = None
    gpu_count: int | None = None
    gpu_driver: str | None = None
    cpu: str | None = None
    cpu_count: int | None = None


class Lock(FileSection):
    """The content of a lock.

    Attributes
    ----------
    hpcbench_lock
        The format of the file.
    session
        The session.
    pools
        The pools that were used.
    only
        The point_ids that were measured; empty for all.
    points
        The points of the grid.
    models, inputs, images
        Digests: of models by name, of files by path; of images by their name in the site file.
    versions, backends, packages
        Versions of programs, of Triton's backends, and of Python packages.
    nodes
        The nodes, as far as they are known.
    campaign, site
        As resolved. Images of registries are named by their digest.
    digest
        Hash of all else in the file.
    """

    hpcbench_lock: int = FORMAT
    session: LockedSession
    pools: tuple[str, ...]
    only: tuple[str, ...] = ()
    points: LockedPoints
    models: dict[str, str]
    inputs: dict[str, str] = Field(default={})
    images: dict[str, str]
    versions: dict[str, str] = Field(default={})
    backends: dict[str, str] = Field(default={})
    packages: dict[str, str] = Field(default={})
    nodes: tuple[LockedNode, ...] = ()
    campaign: Campaign
    site: Site
    digest: str = ""

    @model_validator(mode="before")
    @classmethod
    def _is_as_written(cls, data: Any, info: ValidationInfo) -> Any:
        # Only a file comes with the folder that it lies in.
        if info.context is None or not isinstance(data, dict):
            return data
        if data.get(KEY) != FORMAT:
            raise mistake((KEY,), f"must be {FORMAT}; another hpcbench wrote this lock")
        if data.get("digest") != _digest(data):
            raise mistake(
                ("digest",),
                "the lock has been edited, or is damaged; take it as hpcbench wrote it. To change "
                "what is measured, edit campaign.yaml and site.yaml of the results folder",
            )
        return _with_paths_of_here(data, info.context["folder"])

    @property
    def repeated(self) -> Repeated:
        """The session, for the one that repeats it."""
        its = self.session
        return Repeated(its.run_id, its.seed, its.complete)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a lock.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        Lock
            Its content. Paths of the campaign that are not here lead to what lies beside the lock.

        Raises
        ------
        BadInput
            Where it is no lock, was edited, or names a model repository or an input that is
            nowhere.
        """
        lock = yaml_model.load_yaml(Path(path), cls)
        lock.campaign.read_from(path)
        named = {"model_repository": str(lock.campaign.model_repository)}
        named |= {
            f"model_repositories[{number}]": str(path)
            for number, path in enumerate(lock.campaign.model_repositories)
        }
        named |= {f"the input {Path(each).name}": each for each in lock.inputs}
        _refuse_missing(
            path, named, "copy or link them to where the lock lies, under the last part of the path"
        )
        return lock

    def check_site(self, path: str | Path) -> None:
        """Check that the site of the lock can be used here.

        Parameters
        ----------
        path
            The lock, for messages.

        Raises
        ------
        BadInput
            Where the site lacks secrets, or names an image or a prefix that is not here.
        """
        if lacking := sorted(left_out(yaml_model.plain(self.site))):
            raise BadInput(
                f"{path}: site '{self.site.name}': the lock does not hold {', '.join(lacking)}",
                "give the site file that has them: --site FILE",
            )
        container = self.site.container
        named = {"container.prefix": str(container.prefix)} if container.prefix else {}
        if container.has_images:
            images = {"server_image": container.images[0], "sdk_image": container.images[1]}
            images |= {f"server_images.{name}": image for name, image in container.server_images}
            named |= {
                f"container.{key}": image
                for key, image in images.items()
                if not image.startswith(DOCKER)
            }
        _refuse_missing(path, named, "name a site of this machine: --site NAME, or --site FILE")


def _refuse_missing(path: str | Path, named: Mapping[str, str], hint: str) -> None:
    lacking = [f"{key}: {place}" for key, place in named.items() if not Path(place).exists()]
    if lacking:
        raise BadInput("\n  ".join([f"{path}: not on this machine:", *lacking]), hint)


def as_data(lock: Lock) -> dict[str, Any]:
    """Return what the file of a lock holds.

    Parameters
    ----------
    lock
        The lock.

    Returns
    -------
    dict
        Values that YAML can hold, with their digest.
    """
    data = yaml_model.plain(lock)
    return {KEY: FORMAT, **data, "digest": _digest(data)}


def _digest(data: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in data.items() if key not in ("digest", KEY)}
    text = json.dumps(rest, sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _with_paths_of_here(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Replace paths that are not here by what lies beside the lock, if it does."""
    campaign = data["campaign"]
    paths = [campaign["model_repository"], *campaign.get("model_repositories", ())]
    paths += data.get("inputs", {})
    found = {path: here for path in paths if (here := _beside(Path(path), folder))}

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {found.get(key, key): replaced(each) for key, each in value.items()}
        if isinstance(value, list):
            return [replaced(each) for each in value]
        return found.get(value, value) if isinstance(value, str) else value

    return data | {key: replaced(data.get(key, {})) for key in ("campaign", "inputs")}


def _beside(path: Path, folder: Path) -> str | None:
    """The longest end of a path that exists in a folder; None for what exists where it is."""
    if path.exists():
        return None
    ends = (folder.joinpath(*path.parts[first:]) for first in range(1, len(path.parts)))
    return next((str(end.absolute()) for end in ends if end.exists()), None)
