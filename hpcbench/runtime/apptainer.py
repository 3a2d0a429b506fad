"""Apptainer, and Singularity from 3.9 on: how programs run in an image, and why one did not."""

import os
import re
import shlex
import shutil
import stat
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hpcbench.config.container import Container, ResolvedContainer
from hpcbench.errors import SiteError, end_of, hint_for, reason_in
from hpcbench.runtime import images, process, supervisor
from hpcbench.runtime.command import (
    AGAIN,
    SHARED_MEMORY,
    Image,
    ImageRuntime,
    NodeAccess,
    Software,
)
from hpcbench.runtime.mounts import Mount, check_binds, cuda_environment, mount_options, mounts_of
from hpcbench.runtime.process import Command

PULL_TIMEOUT_S = 24 * 3600.0


class _Apptainer:
    """Apptainer, by its command; see `ImageRuntime` for what each method is for."""

    def is_installed(self) -> bool:
        return _program() is not None

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

    def isolation_obstacle(self, container: Container) -> str | None:
        # In a user namespace a setuid program has no more rights than any other. Without it, the
        # image is mounted more slowly, or unpacked at every start.
        tool = Path(_require_program()).resolve()
        starter = tool.parents[1] / "libexec" / tool.name / "bin" / "starter-suid"
        setuid = starter.exists() and starter.stat().st_mode & stat.S_ISUID
        packed = Path(self.image_name(container, "server")).is_file()
        if os.geteuid() == 0 or not setuid or not packed:
            return None
        return f"{tool.name} mounts images by its setuid program, which has no rights there"

    def kill_orphans(self) -> None:
        supervisor.kill_orphaned_image_servers()

    def check_node(self, container: Container) -> None:
        _require_program()
        for image in ("server", "sdk"):
            images.check_readable(self.image_name(container, image))
        check_binds(container)

    def image_name(self, container: Container, image: Image) -> str:
        return images.location_of(container, image)

    def by_hand(self, container: Container, image: Image, words: list[str]) -> str:
        tool = _require_program()
        name = self.image_name(container, image)
        return shlex.join([tool, "exec", "--containall", name, *words])

    def image_command(
        self, container: Container, image: Image, words: list[str], access: NodeAccess
    ) -> Command:
        tool = _require_program()
        mounts = mounts_of(container, access)
        memory = SHARED_MEMORY / f"{access.shm_prefix}shm"
        if access.shm_prefix:
            mounts.append(_shared_memory(memory, access.folder))
        argv = [
            *(tool, "--quiet", "exec"),
            # No file, process, variable or memory of the user's session reaches a measurement.
            "--containall",
            *(["--nv"] if access.gpus else []),
            *mount_options(mounts),
            *("--pwd", str(access.folder)),
            self.image_name(container, image),
            *words,
        ]
        # Not by --env, which would cut "0,1" at its comma.
        name = Path(tool).name.upper()
        env = {
            f"{name}ENV_{key}": value for key, value in {**cuda_environment(), **access.env}.items()
        }
        # A node that cannot mount images unpacks them at each start: then on the scratch disk.
        env[f"{name}_TMPDIR"] = str(access.folder)
        # The server outlives the perf_analyzers of its points, which share its folder in turn.
        owns_memory = image == "server" and access.shm_prefix
        return Command(argv, env, (str(memory),) if owns_memory else ())

    def explain_failure(self, stderr: str) -> tuple[str, str]:
        reason = reason_in(stderr, ("FATAL:", "Error for command"))
        return re.sub(r"^FATAL:\s*", "", reason), hint_for(stderr, _HINTS)

    def pull(self, reference: str, target: Path) -> None:
        tool = _require_program()
        folder = str(target.parent)
        # Layers of 10 GB do not fit into every /tmp. A user who knows a better place has set it.
        env = {"APPTAINER_TMPDIR": folder, "SINGULARITY_TMPDIR": folder, **os.environ}
        done = process.run(
            Command([tool, "pull", "--disable-cache", str(target), reference], env),
            folder=target.parent,
            timeout_s=PULL_TIMEOUT_S,
        )
        if done.returncode or not target.is_file():
            raise SiteError(
                f"{reference} could not be pulled: {end_of(done.stderr)}",
                f"try it by hand: {tool} pull image.sif {reference}",
            )
        images.check_sif(target)


def _program() -> str | None:
    return shutil.which("apptainer") or shutil.which("singularity")


def _require_program() -> str:
    tool = _program()
    if tool is None:
        raise SiteError(
            "neither apptainer nor singularity is in PATH",
            "install Apptainer, load its module (prologue of the pool), or use runtime: native",
        )
    return tool


def _shared_memory(memory: Path, folder: Path) -> Mount:
    """A folder of the node's shared memory as /dev/shm of the container; makes it."""
    # On a disk it would cost throughput, and Apptainer's own /dev/shm is for one container only:
    # Triton's and perf_analyzer's must be the same.
    memory.mkdir(mode=0o700, exist_ok=True)
    # A source below /dev is mounted at its own path or not at all. A link elsewhere is not.
    link = folder / f".{memory.name}"
    if not link.is_symlink():
        link.symlink_to(memory)
    return Mount(link, SHARED_MEMORY)


_UNPACK = "unpack the image once, apptainer build --sandbox FOLDER IMAGE, and name the folder"
_HINTS = {
    r"unknown flag": "this Singularity is too old: load Apptainer, or a Singularity from 3.9 on",
    r"/dev/fuse|fuse: (device not found|failed to open)": (
        f"this node does not let users mount images: have /dev/fuse opened to them, or {_UNPACK}"
    ),
    r"user namespace|max_user_namespaces|newuidmap|[Oo]peration not permitted": (
        "this node does not let users make namespaces: its administrators can allow them "
        "(sysctl user.max_user_namespaces) or install Apptainer's setuid part (apptainer-suid)"
    ),
    r"unexpected EOF|reading descriptors|read the squashfs|not a valid|no such device or addr": (
        "the image is damaged, or was cut while it was copied: copy, pull or build it again"
    ),
    r"[Nn]o space left|[Dd]isk quota": (
        "free some space there, or set container.scratch to a folder on another disk"
    ),
    r"squashfuse\S* (was )?not found|image driver .*not found": (
        f"install squashfuse on the nodes, or {_UNPACK}"
    ),
}
"""What Apptainer prints, and what to do about it; the first that fits is used."""

RUNTIME: ImageRuntime = _Apptainer()
