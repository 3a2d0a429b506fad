"""The section ``container:`` of a site file: where Triton and perf_analyzer come from."""

import os
import re
from dataclasses import dataclass
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
from pydantic_core import PydanticCustomError, PydanticKnownError

from hpcbench.config import yaml_model
from hpcbench.config.values import Name
from hpcbench.config.yaml_model import FileSection

DOCKER = "docker://"
_REFERENCE = re.compile(
    r"docker://[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?"
)

_LIKE_A_REFERENCE = re.compile(
    r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:[0-9]+)?(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})"
)
"""The name of a registry's image, as other programs take it. SIF files rarely have a colon."""

RESERVED_PATHS = ("/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/proc", "/sys")
"""What every container has of its own, so that nothing can be mounted there."""


@dataclass(frozen=True)
class RuntimeEntry:
    """What a site file says about one runtime, and where its code is.

    Attributes
    ----------
    module
        The module whose ``RUNTIME`` implements `hpcbench.runtime.command.Runtime`. Its name only:
        reading a site file must not load what starts programs.
    keys
        The keys that this runtime needs; those of other runtimes mean nothing to it.
    gpus
        Whether a server gets the GPUs of its job.
    pulled
        How the name of what it makes of a registry's image ends, in the cache.
    only_registries
        Whether it runs images of registries only, and neither files nor folders.
    """

    module: str
    keys: tuple[str, ...]
    gpus: bool = True
    pulled: str = ""
    only_registries: bool = False


_IMAGES = ("server_image", "sdk_image")

RUNTIMES: dict[str, RuntimeEntry] = {
    "native": RuntimeEntry("hpcbench.runtime.native", ("prefix",), gpus=False),
    "apptainer": RuntimeEntry("hpcbench.runtime.apptainer", _IMAGES, pulled=".sif"),
    "podman-hpc": RuntimeEntry(
        "hpcbench.runtime.podman_hpc", _IMAGES, pulled=".store", only_registries=True
    ),
}
"""The runtimes, by the name that ``runtime`` has in a site file. There is no other list."""


def _has_images(runtime: str | None) -> bool:
    return runtime in RUNTIMES and RUNTIMES[runtime].keys == _IMAGES


def _known_runtime(value: str) -> str:
    if value not in RUNTIMES:
        expected = ", ".join(f"'{name}'" for name in RUNTIMES)
        raise PydanticKnownError("literal_error", {"expected": expected})
    return value


def _absolute(value: Path, info: ValidationInfo) -> Path:
    return yaml_model.absolute_path(Path(os.path.expandvars(value)), info)


def _unresolved(text: str, info: ValidationInfo) -> str:
    """A path made absolute, with its links: "latest.sif" says more than what it points to."""
    folder: Path = (info.context or {}).get("folder", Path())
    path = folder / Path(os.path.expandvars(text)).expanduser()
    return os.path.normpath(path.absolute())


def _image(text: str, info: ValidationInfo) -> str:
    if not text.strip():
        # As a path it would be the folder itself.
        raise ValueError("is empty: name a SIF file, an unpacked folder or docker://...")
    if text.startswith(DOCKER):
        if not _REFERENCE.fullmatch(text):
            raise ValueError("must be docker://registry/name:tag, or docker://...@sha256:...")
        return text
    if "://" in text:
        raise ValueError("must be the path of a SIF file or a sandbox folder, or docker://...")
    path = _unresolved(text, info)
    if _LIKE_A_REFERENCE.fullmatch(text) and not os.path.lexists(path):
        raise ValueError(
            f"there is no such file or folder here; an image of a registry is {DOCKER}{text}, and "
            "a path may begin with ./"
        )
    return path


def _bind(text: str) -> str:
    paths = [os.path.expandvars(path) for path in text.split(":")]
    if len(paths) > 2 or not all(Path(path).is_absolute() for path in paths):
        raise ValueError("must be an absolute path, or two of them: /outside:/inside")
    paths = [os.path.normpath(path) for path in paths]
    if paths[-1] in RESERVED_PATHS:
        raise ValueError(
            f"a container has a {paths[-1]} of its own; bind folders in it, or bind to another "
            "place: /outside:/inside"
        )
    return ":".join(paths)


def _binds(value: tuple[str, ...]) -> tuple[str, ...]:
    inside = [text.rpartition(":")[2] for text in value]
    twice = sorted({path for path in inside if inside.count(path) > 1})
    if twice:
        raise ValueError(f"two of these would be {', '.join(twice)} inside; leave one out")
    return value


def _cache(value: Path, info: ValidationInfo) -> Path:
    # Only images are kept there. Without them it does not matter that a user has no home folder.
    if not _has_images(info.data.get("runtime")):
        return value
    # A plan made elsewhere does not need it; whoever pulls says that a variable is not set.
    if "$" in os.path.expandvars(value):
        return value
    try:
        return _absolute(value, info)
    except ValueError as error:
        raise ValueError(
            "cache: you have no home folder here; name a folder that all nodes see"
        ) from error


def _check_kind(image: str, runtime: str | None) -> None:
    """Raise where a runtime does not run images of this kind."""
    if runtime in RUNTIMES and RUNTIMES[runtime].only_registries and not image.startswith(DOCKER):
        raise ValueError(
            f"must be docker://registry/name:tag: {runtime} runs images of registries only, and "
            "neither SIF files nor unpacked folders"
        )


def _pairs(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of names to images")
    return tuple(value.items())


def _only_with_images(value: Any, info: ValidationInfo) -> Any:
    runtime = info.data.get("runtime")
    if value and runtime and not _has_images(runtime):
        raise ValueError(f"has no meaning with runtime: {runtime}")
    return value


def _word_off(value: Any) -> Any:
    # YAML reads the word off as false.
    return "off" if value is False else value


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
ImageName = Annotated[str, AfterValidator(_image)]
NamedImages = Annotated[
    tuple[tuple[Name, ImageName], ...],
    BeforeValidator(_pairs),
    AfterValidator(_only_with_images),
    PlainSerializer(dict),
]


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


class Container(FileSection):
    """Where Triton and perf_analyzer come from.

    Attributes
    ----------
    runtime
        One of `RUNTIMES`: ``native`` runs the programs of ``prefix`` bare, on CPUs; ``apptainer``
        and ``podman-hpc`` run them in images.
    cpus_only
        That Triton is meant to serve on CPUs in jobs that have GPUs. Without it, such jobs are
        refused where the runtime cannot give a server their GPUs.
    prefix
        The folder that ``hpcbench native`` fills.
    server_image
        Triton's image: a SIF file, a sandbox folder, or a docker:// reference.
    sdk_image
        The image with perf_analyzer, likewise.
    server_images
        Pairs (name, image) of other images of Triton. A model of a campaign can ask for one by its
        name.
    binds
        Further paths of the node that both containers see and cannot write: "/path", or
        "/outside:/inside".
    cache
        A folder that all nodes see. Images of registries are pulled into it.
    scratch
        A folder on the node's own disk for what a placement needs while it lasts.
    network_isolation
        Whether the programs get a loopback of their own: where the node allows it, always, or not.
    """

    runtime: Annotated[str, AfterValidator(_known_runtime)] = "native"
    cpus_only: Annotated[bool, Field(strict=True)] = False
    prefix: AbsolutePath | None = Field(default=None, validate_default=True)
    server_image: ImageName | None = Field(default=None, validate_default=True)
    sdk_image: ImageName | None = Field(default=None, validate_default=True)
    server_images: NamedImages = ()
    binds: Annotated[tuple[Annotated[str, AfterValidator(_bind)], ...], AfterValidator(_binds)] = ()
    cache: Annotated[Path, AfterValidator(_cache)] = Field(
        default=Path("~/.cache/hpcbench"), validate_default=True
    )
    scratch: Annotated[str, AfterValidator(os.path.expanduser)] = "/tmp"
    network_isolation: Annotated[Literal["auto", "required", "off"], BeforeValidator(_word_off)] = (
        "auto"
    )

    @field_validator("cpus_only")
    @classmethod
    def _only_without_gpus(cls, value: bool, info: ValidationInfo) -> bool:
        runtime = info.data.get("runtime")
        if value and runtime and RUNTIMES[runtime].gpus:
            raise ValueError(f"has no meaning with runtime: {runtime}; use a pool without GPUs")
        return value

    @field_validator("prefix", "server_image", "sdk_image")
    @classmethod
    def _belongs_to_the_runtime(
        cls, value: Path | str | None, info: ValidationInfo
    ) -> Path | str | None:
        runtime = info.data.get("runtime")
        if runtime is None:
            return value
        needed = info.field_name in RUNTIMES[runtime].keys
        if info.field_name == "prefix" and needed and value is None:
            return default_prefix()
        if needed and value is None:
            raise PydanticCustomError("missing", "is missing")
        if value is not None and not needed:
            raise ValueError(f"has no meaning with runtime: {runtime}")
        if needed and info.field_name != "prefix":
            _check_kind(str(value), runtime)
        return value

    @field_validator("server_images")
    @classmethod
    def _of_registries(cls, value: NamedImages, info: ValidationInfo) -> NamedImages:
        for _, image in value:
            _check_kind(image, info.data.get("runtime"))
        return value

    @property
    def bound_paths(self) -> list[tuple[Path, Path]]:
        """(path of the node, path in the container) of each bind."""
        pairs = (text.partition(":") for text in self.binds)
        return [(Path(outside), Path(inside or outside)) for outside, _, inside in pairs]

    @property
    def has_images(self) -> bool:
        """Whether the programs run in images."""
        return _has_images(self.runtime)

    @property
    def wastes_gpus(self) -> bool:
        """Whether the GPUs of a job would stand idle, without anybody having said so."""
        return not RUNTIMES[self.runtime].gpus and not self.cpus_only

    @property
    def images(self) -> tuple[str, str]:
        """The two images (server_image, sdk_image) of a runtime that has images."""
        assert self.server_image is not None
        assert self.sdk_image is not None
        return self.server_image, self.sdk_image

    def with_images(self, server_image: str | None, sdk_image: str | None) -> "Container":
        """Return the section with other images than those of its file.

        Parameters
        ----------
        server_image, sdk_image
            A SIF file, an unpacked folder or a docker:// reference; None for that of the file.

        Returns
        -------
        Container
            A copy; the section itself where both are None.

        Raises
        ------
        BadInput
            Where one of them is no image, or the runtime has none.
        """
        given = {"server_image": server_image, "sdk_image": sdk_image}
        changes = {key: image for key, image in given.items() if image is not None}
        if not changes:
            return self
        return yaml_model.validate(
            yaml_model.plain(self) | changes,
            Container,
            source=" and ".join(f"--{key.replace('_', '-')}" for key in changes),
            folder=Path.cwd(),
        )

    def with_server_image(self, name: str | None) -> Self:
        """Return the section for a server that runs in another image.

        Parameters
        ----------
        name
            One of ``server_images``; None for the usual image.

        Returns
        -------
        Container
            A copy; the section itself for None.
        """
        if name is None:
            return self
        return self.model_copy(update={"server_image": dict(self.server_images)[name]})


class ResolvedContainer(Container):
    """A container section with what its images are. The driver makes it once per run.

    It is never read from a file.

    Attributes
    ----------
    server_digest
        The digest of ``server_image``.
    sdk_digest
        The digest of ``sdk_image``.
    digests
        Pairs (name, digest) of the ``server_images``.
    fingerprints
        Pairs (image, fingerprint): a node compares them with the images that it has.
    """

    server_digest: str
    sdk_digest: str
    digests: tuple[tuple[str, str], ...] = ()
    fingerprints: tuple[tuple[str, str], ...] = ()

    def with_server_image(self, name: str | None) -> Self:
        """Return the section for a server that runs in another image, with that one's digest.

        Parameters
        ----------
        name
            One of ``server_images``; None for the usual image.

        Returns
        -------
        ResolvedContainer
            A copy; the section itself for None.
        """
        if name is None:
            return self
        update = {"server_digest": dict(self.digests)[name]}
        return super().with_server_image(name).model_copy(update=update)
