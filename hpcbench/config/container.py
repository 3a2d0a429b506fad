"""The section ``container:`` of a site file: where Triton and perf_analyzer come from."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from hpcbench.config import yaml_model
from hpcbench.config.yaml_model import Frozen, Name

DOCKER = "docker://"
_REFERENCE = re.compile(
    r"docker://[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?"
)


RESERVED_PATHS = ("/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/proc", "/sys")
"""What a container has of its own."""


def _absolute(value: Path, info: ValidationInfo) -> Path:
    return yaml_model.absolute_path(Path(os.path.expandvars(value)), info)


def _unresolved(text: str, info: ValidationInfo) -> str:
    """A path made absolute, its links as they are: they name an image better than their ends."""
    folder: Path = (info.context or {}).get("folder", Path())
    path = folder / Path(os.path.expandvars(text)).expanduser()
    return os.path.normpath(path.absolute())


def _image(text: str, info: ValidationInfo) -> str:
    if text.startswith(DOCKER):
        if not _REFERENCE.fullmatch(text):
            raise ValueError("must be docker://registry/name:tag, or docker://...@sha256:...")
        return text
    if "://" in text:
        raise ValueError("must be the path of a SIF file or a sandbox folder, or docker://...")
    return _unresolved(text, info)


def _bind(text: str) -> str:
    paths = [os.path.expandvars(path) for path in text.split(":")]
    if len(paths) > 2 or not all(Path(path).is_absolute() for path in paths):
        raise ValueError("must be an absolute path, or two of them: /outside:/inside")
    paths = [os.path.normpath(path) for path in paths]
    if paths[-1] in RESERVED_PATHS:
        raise ValueError(
            f"{paths[-1]} of the container is its own; name folders within it, or another place: "
            "/outside:/inside"
        )
    return ":".join(paths)


def _binds(value: tuple[str, ...]) -> tuple[str, ...]:
    inside = [text.rpartition(":")[2] for text in value]
    twice = sorted({path for path in inside if inside.count(path) > 1})
    if twice:
        raise ValueError(f"two of these want to be {', '.join(twice)} inside; leave one out")
    return value


def _cache(value: Path, info: ValidationInfo) -> Path:
    # Only images are kept there; without them, it does not matter that a user has no home.
    if info.data.get("runtime") == "native":
        return value
    try:
        return _absolute(value, info)
    except ValueError as error:
        raise ValueError(
            "cache: you have no home here; name a folder that all nodes see"
        ) from error


def _pairs(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of names to images")
    return tuple(value.items())


def _only_with_images(value: Any, info: ValidationInfo) -> Any:
    if value and info.data.get("runtime") == "native":
        raise ValueError("has no meaning with runtime: native")
    return value


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Image = Annotated[str, AfterValidator(_image)]
NamedImages = Annotated[
    tuple[tuple[Name, Image], ...],
    BeforeValidator(_pairs),
    AfterValidator(_only_with_images),
    PlainSerializer(dict),
]

KEYS = {
    "native": ("prefix",),
    "apptainer": ("server_image", "sdk_image"),
}
"""The keys that each runtime cannot do without."""


def default_prefix() -> Path:
    """Return the prefix of a site file that names none, and of ``hpcbench native`` without one.

    Returns
    -------
    Path
        The value of HPCBENCH_NATIVE, where it is set; else ``.native`` in the folder above the
        package, where that is a checkout; else a folder for data of the user.
    """
    named = os.environ.get("HPCBENCH_NATIVE")
    if named:
        return Path(named).absolute()
    above = Path(__file__).resolve().parents[2]
    if (above / "pyproject.toml").is_file():
        return above / ".native"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "hpcbench" / "native"


class Container(Frozen):
    """Where the two programs come from.

    ``native`` runs them from ``prefix``, which ``hpcbench native`` fills. ``apptainer`` runs
    tritonserver in ``server_image`` and perf_analyzer in ``sdk_image``: SIF files, sandbox
    folders, or docker:// references, which are pulled into ``cache``, a folder that all nodes
    see. ``server_images`` are others of Triton, by a name that a model of a campaign can ask for.
    ``binds`` are further paths of the node that both see, read only.

    ``scratch`` is a folder on the node's own disk for what a placement needs while it lasts.
    """

    runtime: Literal["native", "apptainer"] = "native"
    prefix: AbsolutePath | None = Field(default=None, validate_default=True)
    server_image: Image | None = Field(default=None, validate_default=True)
    sdk_image: Image | None = Field(default=None, validate_default=True)
    server_images: NamedImages = ()
    binds: Annotated[tuple[Annotated[str, AfterValidator(_bind)], ...], AfterValidator(_binds)] = ()
    cache: Annotated[Path, AfterValidator(_cache)] = Field(
        default=Path("~/.cache/hpcbench"), validate_default=True
    )
    scratch: Annotated[str, AfterValidator(os.path.expanduser)] = "/tmp"

    @field_validator("prefix", "server_image", "sdk_image")
    @classmethod
    def _belongs_to_the_runtime(
        cls, value: Path | str | None, info: ValidationInfo
    ) -> Path | str | None:
        runtime = info.data.get("runtime")
        if runtime is None:
            return value
        needed = info.field_name in KEYS[runtime]
        if info.field_name == "prefix" and needed and value is None:
            return default_prefix()
        if needed and value is None:
            raise PydanticCustomError("missing", "is missing")
        if value is not None and not needed:
            raise ValueError(f"has no meaning with runtime: {runtime}")
        return value

    def with_server_image(self, name: str | None) -> Self:
        """The container whose server runs in that one of ``server_images``; itself for None."""
        if name is None:
            return self
        return self.model_copy(update={"server_image": dict(self.server_images)[name]})

    @property
    def images(self) -> tuple[str, str]:
        """(server_image, sdk_image) of ``runtime: apptainer``."""
        assert self.server_image is not None
        assert self.sdk_image is not None
        return self.server_image, self.sdk_image


class ResolvedContainer(Container):
    """A container with the digests of its images, those of ``server_images`` by their names.

    ``fingerprints``, by the names of images, are how a node knows them again. The driver makes
    all this, once per run; it is never read from a file.
    """

    server_digest: str
    sdk_digest: str
    digests: tuple[tuple[str, str], ...] = ()
    fingerprints: tuple[tuple[str, str], ...] = ()

    def with_server_image(self, name: str | None) -> Self:
        if name is None:
            return self
        update = {"server_digest": dict(self.digests)[name]}
        return super().with_server_image(name).model_copy(update=update)
