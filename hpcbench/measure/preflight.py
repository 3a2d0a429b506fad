"""Check a node before anything is measured: scratch folder, images, driver, perf_analyzer.

A check that fails raises UnusableNode: the points are then measured on another node. What the
images say of themselves goes into the records.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hpcbench.config.container import Container, ResolvedContainer
from hpcbench.errors import SiteError, UnusableNode
from hpcbench.measure import device, perf_analyzer
from hpcbench.runtime import command, images, process
from hpcbench.runtime.command import (
    Image,
    ImageRuntime,
    NodeAccess,
    image_runtime_of,
    runtime_of,
    scratch_folder,
)
from hpcbench.runtime.native import read_manifest
from hpcbench.runtime.temporary import temporary_folder

# On a full disk what Triton and perf_analyzer write would be cut.
_SCRATCH_BYTES = 50_000_000


def check_scratch(scratch: Path) -> None:
    """Check that a measurement can keep its files on this node.

    Parameters
    ----------
    scratch
        The scratch folder.

    Raises
    ------
    UnusableNode
        If it is missing, full, not writable, or has a name that Triton does not take.
    """
    problem = ""
    if not (scratch.is_dir() and os.access(scratch, os.W_OK)):
        problem = "is missing or not writable"
    elif not command.SAFE_PATH.fullmatch(str(scratch)):
        problem = f"has characters that Triton cannot take; allowed: {command.SAFE}"
    elif shutil.disk_usage(scratch).free < _SCRATCH_BYTES:
        problem = f"has less than {_SCRATCH_BYTES / 1e6:.0f} MB free"
    if problem:
        raise UnusableNode(
            f"{platform.node()}: the scratch folder {scratch} {problem}",
            "set container.scratch in the site file to a folder on the node's own disk",
        )


@dataclass(frozen=True)
class InstalledPerfAnalyzer:
    """The installed perf_analyzer.

    Attributes
    ----------
    version
        Its version; None if it does not print one.
    flags
        The flags that it knows, with their dashes.
    """

    version: str | None
    flags: frozenset[str]


# Cached: starting a container takes seconds, and a worker measures many placements.
@cache
def installed_perf_analyzer(sdk: Container) -> InstalledPerfAnalyzer:
    """Run perf_analyzer on this node to learn its version and flags, once per process.

    Parameters
    ----------
    sdk
        Where perf_analyzer comes from.

    Returns
    -------
    InstalledPerfAnalyzer
        Its version and flags.

    Raises
    ------
    UnusableNode
        If it does not run.
    """
    with temporary_folder(scratch_folder(sdk)) as folder:

        def output(*arguments: str) -> str:
            program = runtime_of(sdk).sdk_command(sdk, list(arguments), NodeAccess(folder=folder))
            answer = process.run(program, folder=folder, timeout_s=60)
            return answer.stdout + answer.stderr

        version = output("--version")
        # No version has a flag for its usage text. All of them print it when -m is missing.
        usage = output()
    flags = perf_analyzer.known_flags(usage)
    if "-m" not in flags:
        raise UnusableNode(
            f"{platform.node()}: perf_analyzer does not run here: {usage.strip()[:500]}",
            "run perf_analyzer --version on that node",
        )
    words = version.split("Version")
    return InstalledPerfAnalyzer(words[1].split()[0] if len(words) > 1 else None, flags)


_TIMEOUT_S = 120.0
_NOT_IN_IMAGE = 86  # an exit code that neither sh nor a container runtime uses

_PROBE = """\
command -v "$0" >/dev/null || exit 86
for name in CUDA_VERSION TENSORRT_VERSION TRT_VERSION; do
    eval "echo \\"$name=\\${$name:-}\\""
done
for folder in /opt/tritonserver/backends/*/; do
    echo "backend=$(basename "$folder") $(ls "$folder" | tr '\\n' ' ')"
done
python3 --version 2>/dev/null
echo "manifest=$(tr -d '\\n' </opt/tritonserver/manifest.json 2>/dev/null)"
"""
"""Run by sh in an image, with a program's name as $0. NVIDIA's images have their versions in
variables and in the names of libraries, ours in the manifest of the native prefix inside."""


@dataclass(frozen=True)
class ImageContents:
    """What a server image or a prefix says of itself.

    Attributes
    ----------
    cuda
        Version of CUDA; None if there is none or it is not known.
    tensorrt
        Version of TensorRT; None in the same cases.
    backends
        Versions by the names of the backends; None for a version that is not known.
    """

    cuda: str | None
    tensorrt: str | None
    backends: Mapping[str, str | None]

    @property
    def columns(self) -> dict[str, Any]:
        """The values by the names of the record's columns."""
        return {
            "cuda_version": self.cuda,
            "tensorrt_version": self.tensorrt,
            "backend_versions": json.dumps(dict(self.backends), sort_keys=True),
        }


@cache
def check_images(container: Container, *, gpus: bool) -> ImageContents:
    """Check that the container runtime and the images work on this node, once per process.

    Parameters
    ----------
    container
        The runtime and its images, or a prefix.
    gpus
        Whether the server gets GPUs.

    Returns
    -------
    ImageContents
        What the server's image or the prefix holds.

    Raises
    ------
    UnusableNode
        If they do not work, or if the driver is too old for the image.
    """
    runtime = image_runtime_of(container)
    if runtime is None:
        assert container.prefix is not None
        return _backends(read_manifest(container.prefix).get("versions", {}))
    try:
        runtime.check_node(container)
    except SiteError as error:
        raise _unusable(error) from error
    contents = parse_probe(_probe(runtime, container, "server", gpus))
    _probe(runtime, container, "sdk", gpus=False)
    check_driver(contents, gpus=gpus)
    return contents


def _unusable(error: SiteError) -> UnusableNode:
    return UnusableNode(f"{platform.node()}: {error.message}", error.hint)


def check_unchanged(container: Container) -> None:
    """Check that the images are those whose digests the records carry.

    Parameters
    ----------
    container
        The container as the driver resolved it; one that is not resolved is not checked.

    Raises
    ------
    UnusableNode
        If an image cannot be read here, or is another one.
    """
    if not isinstance(container, ResolvedContainer):
        return
    for image in container.images:
        try:
            found = images.image_fingerprint(image)
        except OSError as error:
            raise _unusable(images.unreadable_on_node(image)) from error
        if found != dict(container.fingerprints)[image]:
            raise UnusableNode(
                f"{platform.node()}: {image} is not the image that this run began with: it has "
                "changed since, or this node has another copy",
                "run the same command again: records are kept, and points of the new image are "
                "measured anew; if each node has a copy of the image, update all copies",
            )


_PROGRAMS: dict[Image, str] = {"server": "tritonserver", "sdk": "perf_analyzer"}


def _probe(runtime: ImageRuntime, container: Container, image: Image, gpus: bool) -> str:
    program = _PROGRAMS[image]
    scratch = scratch_folder(container)
    with temporary_folder(scratch) as folder:
        access = NodeAccess(folder=folder, gpus=gpus)
        words = ["sh", "-c", _PROBE, program]
        command = runtime.image_command(container, image, words, access)
        done = process.run(command, folder=access.folder, timeout_s=_TIMEOUT_S)
    path = runtime.image_name(container, image)
    by_hand = runtime.by_hand(container, image, [program, "--version"])
    if done.timed_out:
        raise UnusableNode(
            f"{platform.node()}: {path} did not open within {_TIMEOUT_S:.0f} s",
            f"try on that node: {by_hand}",
        )
    if done.returncode == _NOT_IN_IMAGE:
        raise UnusableNode(
            f"{platform.node()}: there is no {program} in the PATH of {path}",
            "are server_image and sdk_image the right way round? perf_analyzer is in NVIDIA's "
            "images whose tag ends with -sdk, tritonserver in the others",
        )
    if done.returncode:
        reason, hint = runtime.explain_failure(done.stderr)
        raise UnusableNode(
            f"{platform.node()}: {path} does not open: {reason}",
            hint or f"try on that node: {by_hand}",
        )
    return done.stdout


def parse_probe(text: str) -> ImageContents:
    """Read what the probe printed in an image.

    Parameters
    ----------
    text
        Its standard output.

    Returns
    -------
    ImageContents
        What the image holds.
    """
    output = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    cuda = output.get("CUDA_VERSION") or None
    tensorrt = output.get("TENSORRT_VERSION") or output.get("TRT_VERSION") or None
    if output.get("manifest"):
        return _backends(json.loads(output["manifest"]).get("versions", {}))
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        name, _, files = line.removeprefix("backend=").partition(" ")
        if line.startswith("backend=") and name != "*":
            version = re.search(rf"\blib{re.escape(name)}\.so\.(\d+(?:\.\d+)+)", files)
            found[name] = version[1] if version else None
    if "tensorrt" in found:
        found["tensorrt"] = tensorrt
    python = re.search(r"^Python (\S+)", text, re.MULTILINE)
    if "python" in found and python:
        found["python"] = python[1]
    return ImageContents(cuda, tensorrt, found)


def _backends(versions: Mapping[str, str]) -> ImageContents:
    others = {k: v for k, v in versions.items() if k not in ("tritonserver", "perf_analyzer")}
    return ImageContents(None, None, others)


def check_driver(contents: ImageContents, *, gpus: bool) -> None:
    """Check that the node's driver is new enough for the image.

    Only CUDA's major version counts: within one, newer minor versions run on older drivers (CUDA
    Compatibility, "minor version compatibility").

    Parameters
    ----------
    contents
        What the server's image holds.
    gpus
        Whether the server gets GPUs.

    Raises
    ------
    UnusableNode
        If the image needs a newer driver.
    """
    supported = device.driver_cuda_version() if gpus else None
    if supported is None or contents.cuda is None:
        return
    wanted = int(contents.cuda.partition(".")[0])
    if wanted > supported[0]:
        driver = device.gpu_columns().get("gpu_driver")
        raise UnusableNode(
            f"{platform.node()}: the server image needs CUDA {contents.cuda}, and the driver "
            f"{driver} of this node supports at most CUDA {supported[0]}.{supported[1]}",
            "choose an image with an older CUDA, or nodes with a newer driver",
        )
