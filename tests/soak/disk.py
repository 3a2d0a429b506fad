"""A small disk of a campaign's own, in the box and here, that can be full, read-only or hang.

It is a file with ext4 behind a loop device, which every machine of the box mounts at one path.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.soak import processes
from tests.soak.workplace import USER

SIZE_BYTES = 256_000_000
_FILLER = ".filler"

# As a program of its own, in a session of its own: whoever ends the soak must not leave a file
# system frozen. It freezes the loop device's and no other.
_FREEZE = """
import fcntl, os, sys, time
folder, device, times, frozen_s, between_s = sys.argv[1:]
file = os.open(folder, os.O_RDONLY)
if os.fstat(file).st_dev != int(device) or os.major(int(device)) != 7:
    sys.exit("not the loop device")
for _ in range(int(times)):
    fcntl.ioctl(file, 0xC0045877, 0)
    try:
        time.sleep(float(frozen_s))
    finally:
        fcntl.ioctl(file, 0xC0045878, 0)
    time.sleep(float(between_s))
"""


@dataclass(frozen=True)
class Disk:
    """A disk that is mounted.

    Attributes
    ----------
    folder
        Where.
    device
        The number of its loop device.
    first
        The first process of the box.
    """

    folder: Path
    device: int
    first: int

    def fill(self) -> bool:
        """Leave no byte free; whether it could be done."""
        number = os.open(self.folder / _FILLER, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            end, step = os.fstat(number).st_size, 2**26
            while step >= 512:
                try:
                    os.posix_fallocate(number, end, step)
                    end += step
                except OSError:
                    step //= 2
        finally:
            os.close(number)
        return os.statvfs(self.folder).f_bavail == 0

    def empty(self) -> None:
        """Take back what `fill` took."""
        (self.folder / _FILLER).unlink(missing_ok=True)

    def hang(self, times: int, frozen_s: float, between_s: float) -> bool:
        """Let all that is written wait, so many times; returns when it is over."""
        numbers = map(str, (self.device, times, frozen_s, between_s))
        done = subprocess.run(
            [sys.executable, "-c", _FREEZE, self.folder, *numbers],
            start_new_session=True,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def make_read_only(self, folder: Path) -> None:
        """Cover a folder of it with itself, read-only: what is opened from now on is that."""
        in_each_world(self.first, "mount", "--bind", str(folder), str(folder))
        in_each_world(self.first, "mount", "-o", "remount,bind,ro", str(folder))

    def make_writable(self, folder: Path) -> None:
        """Uncover a folder, however often it was covered: no disk is mounted there itself."""
        again = 'while umount --lazy "$0"; do :; done'
        in_each_world(self.first, "sh", "-c", again, str(folder))

    def is_covered(self, folder: Path) -> bool:
        """Whether a folder is read-only on the login node."""
        return str(folder) in processes.mounts(self.first)


def in_each_world(first: int, *command: str) -> None:
    """Run a command as root in each world of mounts in the box, if it works there or not."""
    for pid in _worlds(first).values():
        # Both: umount looks at itself in the /proc of that world.
        enter = ["nsenter", "--target", str(pid), "--mount", "--pid", "--", *command]
        subprocess.run(enter, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _worlds(first: int) -> dict[str, int]:
    """A process of root's in each; those of containers, which are a user's, are left alone.

    The one that is deepest in namespaces of processes: whoever has made a node is outside of its.
    """
    found: dict[str, tuple[int, int]] = {}
    for process in processes.in_box(first):
        with contextlib.suppress(OSError, processes.psutil.Error):
            if process.uids().real == 0:
                world = str(Path(f"/proc/{process.pid}/ns/mnt").readlink())
                its = processes.depth(process.pid), process.pid
                found[world] = max(its, found.get(world, its))
    return {world: pid for world, (_, pid) in found.items()}


@contextmanager
def mounted(folder: Path, first: int) -> Iterator[Disk]:
    """Make a disk and mount it in the box and here."""
    image = folder.with_name(f"{folder.name}.img")
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image))
    device = _run("losetup", "--find", "--show", str(image))
    folder.mkdir()
    number = Path(device).stat().st_rdev
    node = ["mknod", "-m", "600", device, "b", str(os.major(number)), str(os.minor(number))]
    # All nodes of the box have one /dev.
    subprocess.run(["nsenter", "--target", str(first), "--mount", "--", *node], check=False)
    mount = ("mount", "-o", "noatime", device, str(folder))
    unmount = ("umount", "--lazy", str(folder))
    try:
        _run(*mount)
        in_each_world(first, *mount)
        # From now on it is free as soon as it is mounted nowhere, however this ends.
        _run("losetup", "--detach", device)
        os.chown(folder, USER, USER)
        (folder / "lost+found").rmdir()
        yield Disk(folder, number, first)
    finally:
        in_each_world(first, *unmount)
        subprocess.run(unmount, check=False)
        image.unlink()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()
