"""NERSC's podman-hpc: how programs run in an image that it has migrated, and why one did not.

Podman keeps its state per user and node, and its containers belong to daemons (conmon) that outlive
their parent. Here each program gets a Podman of its own instead, in user, mount and process
namespaces: its state lies in a file system in memory that only this mount namespace has, and
whatever it starts is killed by the kernel together with the first process of the process namespace.
Nothing of it can stay, however it ends.

podman-hpc pulls an image with Podman and migrates it: a squashfs file with all its layers, in a
folder that Podman takes as a store to read. One such folder per image, named by the digest, lies in
the cache of the site.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hpcbench.config.container import DOCKER, Container, ResolvedContainer
from hpcbench.errors import SiteError, end_of, hint_for, reason_in
from hpcbench.runtime import images, process
from hpcbench.runtime.command import (
    AGAIN,
    SHARED_MEMORY,
    Image,
    ImageRuntime,
    NodeAccess,
    Software,
    scratch_folder,
)
from hpcbench.runtime.mounts import Mount, check_binds, cuda_environment, mount_options, mounts_of
from hpcbench.runtime.process import Command
from hpcbench.runtime.temporary import temporary_folder

PULL_TIMEOUT_S = 24 * 3600.0

# --kill-child: what kills unshare kills the first process of the namespace, and so all of it.
_OWN_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"),
    *("--kill-child", "--mount-proc", "sh", "-ec"),
)
# The first process is then Podman itself, which hands signals on to the container.
_WITH_MEMORY = 'mount -t tmpfs -o mode=700 podman "$0"; exec "$@"'
# The layers are deleted where this user is root: folders of an image may be closed to their owner.
_AND_DELETE = 'umask 022; code=0; "$@" || code=$?; rm -rf "$0"; exit $code'

_PATH = re.compile(r"[A-Za-z0-9._/+@%=-]+")
"""podman-hpc finds its folders again in the words of a mount command, by commas and colons."""


class _PodmanHpc:
    """podman-hpc, by its command; see `ImageRuntime` for what each method is for."""

    def is_installed(self) -> bool:
        return shutil.which("podman-hpc") is not None

    def find_software(self, container: Container) -> Software:
        resolved = images.resolve_images(container)
        assert isinstance(resolved, ResolvedContainer)
        return Software(resolved.server_digest, resolved.sdk_digest)

    def server_command(
        self, container: Container, arguments: list[str], access: NodeAccess
    ) -> Command:
        return self.image_command(container, "server", ["tritonserver", *arguments], access)

    def sdk_command(
        self,
        container: Container,
        arguments: list[str],
        access: NodeAccess,
        *,
        again: bool = False,
    ) -> Command:
        words = [*(AGAIN if again else ()), "perf_analyzer", *arguments]
        return self.image_command(container, "sdk", words, access)

    def exclusive_shared_memory(self) -> AbstractContextManager[None]:
        # A container has shared memory of its own, together with its server and with nobody else.
        return nullcontext()

    def isolation_obstacle(self, container: Container) -> str | None:  # noqa: ARG002
        # It makes a user namespace of its own in any case.
        return None

    def kill_orphans(self) -> None:
        """There are none: the kernel has killed them with their process namespace."""

    def check_node(self, container: Container) -> None:
        _require_programs()
        _check_path(str(scratch_folder(container)), "container.scratch")
        for image in ("server", "sdk"):
            store = self.image_name(container, image)
            _check_path(store, "container.cache")
            images.check_readable(store)
            image_id(Path(store))
        check_binds(container)

    def image_name(self, container: Container, image: Image) -> str:
        return images.location_of(container, image)

    def by_hand(self, container: Container, image: Image, words: list[str]) -> str:
        store = self.image_name(container, image)
        options = ["podman-hpc", "--squash-dir", store, "run", "--rm", "--entrypoint", ""]
        return shlex.join([*options, image_id(Path(store)), *words])

    def image_command(
        self, container: Container, image: Image, words: list[str], access: NodeAccess
    ) -> Command:
        _require_programs()
        store = self.image_name(container, image)
        state = access.folder / ".podman"
        state.mkdir(mode=0o700, exist_ok=True)
        mounts = mounts_of(container, access)
        memory = SHARED_MEMORY / f"{access.shm_prefix}shm"
        if access.shm_prefix:
            # Triton's and perf_analyzer's must be the same.
            memory.mkdir(mode=0o700, exist_ok=True)
            mounts.append(Mount(memory, SHARED_MEMORY))
        variables = {**cuda_environment(), **access.env}
        argv = [
            *(*_OWN_NAMESPACES, _WITH_MEMORY, str(state)),
            *("podman-hpc", "--squash-dir", store, "run"),
            *(["--gpu"] if access.gpus else []),
            # What follows is Podman's: podman-hpc would take options of our words for its own.
            *("--", "--rm", "--pull", "never", "--log-driver", "none"),
            # What isolates the programs is around Podman: the process namespace, in which a signal
            # ends them as it does outside, and the loopback of their own.
            *("--pid", "host", "--network", "host"),
            # Proxies are the only variables of the session that Podman hands on.
            "--http-proxy=false",
            *(f"--env={key}={value}" for key, value in variables.items()),
            *mount_options(mounts),
            *("--workdir", str(access.folder)),
            # NVIDIA's images print a text before they start anything.
            *("--entrypoint", ""),
            image_id(Path(store)),
            *words,
        ]
        # The server outlives the perf_analyzers of its points, which share its folder in turn.
        owns_memory = image == "server" and access.shm_prefix
        return Command(argv, _environment(state), (str(memory),) if owns_memory else ())

    def explain_failure(self, stderr: str) -> tuple[str, str]:
        reason = reason_in(stderr, ("Error:", "unshare:", "mount:"))
        return re.sub(r"^Error:\s*", "", reason), hint_for(stderr, _HINTS)

    def pull(self, reference: str, target: Path) -> None:
        _require_programs()
        name = reference.removeprefix(DOCKER)
        # Layers cannot be unpacked on every file system of a cluster, but below /tmp. A user who
        # knows a better place has set TMPDIR.
        with temporary_folder() as folder:
            state = folder / "podman"
            _check_path(str(target), "container.cache")
            _check_path(str(state), "TMPDIR")
            state.mkdir()
            command = Command(
                [
                    *(*_OWN_NAMESPACES, _AND_DELETE, str(state)),
                    *("podman-hpc", "--squash-dir", str(target), "pull", name),
                ],
                {**_proxies(), **_environment(state)},
                sweep=(str(folder.parent),),
            )
            done = process.run(command, folder=folder, timeout_s=PULL_TIMEOUT_S)
        try:
            image_id(target)
        except SiteError as error:
            # It exits with 0 also where it could not migrate the image.
            reason = self.explain_failure(done.stderr)[0] if done.returncode else None
            raise SiteError(
                f"{reference} could not be pulled and migrated: {reason or end_of(done.stderr)}",
                hint_for(done.stderr, _HINTS) or f"try it by hand: podman-hpc pull {name}",
            ) from error


def image_id(store: Path) -> str:
    """Return the id by which Podman finds the one image of a store.

    Parameters
    ----------
    store
        A folder that podman-hpc has migrated an image into.

    Returns
    -------
    str
        Hexadecimal digits.

    Raises
    ------
    SiteError
        Where the store has no image, or not all of it.
    """
    try:
        found = json.loads((store / "overlay-images" / "images.json").read_text())
        ids = [str(entry["id"]) for entry in found]
    except (OSError, ValueError, KeyError, TypeError):
        ids = []
    # The image is named there before its layers are, but after the file is complete.
    if len(ids) == 1 and any((store / "overlay" / "l").glob("*.squash")):
        return ids[0]
    raise SiteError(
        f"{store} holds no image that podman-hpc has migrated",
        f"remove it, and pull the image again: rm -r {shlex.quote(str(store))}; hpcbench images",
    )


def _environment(state: Path) -> Mapping[str, str]:
    """Variables that make a Podman which is root in its namespaces keep all it has in a folder."""
    return {
        # As `podman unshare` sets them: it makes no further namespace, and no process that stays.
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "_CONTAINERS_ROOTLESS_UID": str(os.getuid()),
        "_CONTAINERS_ROOTLESS_GID": str(os.getgid()),
        "PODMANHPC_GRAPH_ROOT": str(state / "graph"),
        "PODMANHPC_RUN_ROOT": str(state / "run"),
        "PODMANHPC_CONFIG_HOME": str(state / "config"),
        "XDG_CONFIG_HOME": str(state / "config"),
        "TMPDIR": str(state),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
    }


def _proxies() -> dict[str, str]:
    """How this host reaches registries; what measures reaches nothing by them."""
    return {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}


def _require_programs() -> None:
    for program, advice in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise SiteError(f"{program} is not in PATH", advice)


def _check_path(path: str, what: str) -> None:
    if not _PATH.fullmatch(path):
        raise SiteError(
            f"podman-hpc cannot use {path}: it takes letters, digits and . _ / + @ % = -",
            f"name another folder: {what}",
        )


_PROGRAMS = {
    "podman-hpc": "load its module (prologue of the pool), or use runtime: apptainer",
    "unshare": "install util-linux",
}
_HINTS = {
    r"unknown flag: --gpu": (
        "podman-hpc has no module for GPUs on this node (gpu.yaml in its modules_dir): "
        "ask for nodes with GPUs, or its administrators"
    ),
    r"No (\S+) binary found": "podman-hpc is installed here only in part: tell its administrators",
    r"cgroup": "Podman found no cgroups that it knows on this node: tell its administrators",
    r"/dev/fuse|fuse: (device not found|failed to open)": (
        "this node does not let users mount images: have /dev/fuse opened to them"
    ),
    r"unshare failed|user namespace|max_user_namespaces|[Oo]peration not permitted": (
        "this node does not let users make namespaces: its administrators can allow them "
        "(sysctl user.max_user_namespaces)"
    ),
    r"[Nn]o space left|[Dd]isk quota": (
        "free some space there; a pull unpacks the image below TMPDIR"
    ),
}
"""What podman-hpc and Podman print, and what to do about it; the first that fits is used."""

RUNTIME: ImageRuntime = _PodmanHpc()
