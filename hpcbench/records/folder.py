"""The results folder: the names in it, files that are whole or absent, and the lock of a run.

What only looks after a run needs no more than this, and so does not load Arrow.
"""

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcbench.errors import BadInput
from hpcbench.records.lease import hold_lease, lease_holder
from hpcbench.runtime.ownership import link_refused, open_no_link
from hpcbench.runtime.process import lock_until_closed


@dataclass(frozen=True)
class Results:
    """The names inside a results folder. No other code knows them.

    Attributes
    ----------
    folder
        The results folder.
    """

    folder: Path

    @property
    def records(self) -> Path:
        """The folder of Parquet files with records."""
        return self.folder / "records"

    @property
    def logs(self) -> Path:
        """The folder of logs: of servers, jobs and the driver."""
        return self.folder / "logs"

    @property
    def campaign(self) -> Path:
        """The campaign file, as resolved."""
        return self.folder / "campaign.yaml"

    @property
    def site(self) -> Path:
        """The site file, as resolved."""
        return self.folder / "site.yaml"

    @property
    def campaign_lock(self) -> Path:
        """The lock of the newest session, from which it can be repeated elsewhere."""
        return self.folder / "campaign.lock.yaml"

    @property
    def plan(self) -> Path:
        """What the newest run set out to measure."""
        return self.folder / "plan.parquet"

    @property
    def session(self) -> Path:
        """The session that the newest run belongs to."""
        return self.folder / "session.json"

    @property
    def state(self) -> Path:
        """What the newest run says of itself."""
        return self.folder / "run.json"

    @property
    def ledger(self) -> Path:
        """The jobs that were submitted."""
        return self.folder / "jobs.jsonl"

    @property
    def keys(self) -> Path:
        """The folder of TLS keys, which is deleted when the run ends."""
        return self.folder / ".keys"

    @property
    def cancel(self) -> Path:
        """A file whose existence asks the run to end."""
        return self.folder / ".cancel"

    @property
    def lock(self) -> Path:
        """The file that a run at work holds locked."""
        return self.folder / ".lock"

    @property
    def lease(self) -> Path:
        """The file that stands for the lock where the file system has no locks."""
        return self.folder / ".lease"

    def create(self) -> None:
        """Create the folder, and try whether it can be written.

        Raises
        ------
        BadInput
            Where it cannot be created or written, or has links, through which a run would write
            elsewhere.
        """
        try:
            self._refuse_links()
            for path in (self.records, self.logs):
                path.mkdir(parents=True, exist_ok=True)
            for path in (self.folder, self.records, self.logs):
                # Permissions do not say it: a file system may be read-only, or a quota used up.
                probe = path / f".probe-{uuid.uuid4().hex}"
                probe.write_bytes(b"")
                probe.unlink()
        except OSError as error:
            raise BadInput(
                f"--results {self.folder}: cannot be written: {error.strerror}",
                "name a folder in which you may create files",
            ) from error

    def _refuse_links(self) -> None:
        for folder in (self.folder, self.records, self.logs):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise link_refused(Path(entry.path))


def folders_of_campaign(campaign: Path) -> list[Path]:
    """Return the results folders nearby that hold results of a campaign.

    Parameters
    ----------
    campaign
        The campaign file.

    Returns
    -------
    list of Path
        Those beside the file and in the working folder, and in a folder ``results`` there, whose
        own campaign has the same name.
    """
    name = _campaign_name(campaign)
    found: dict[Path, Path] = {}
    places = ("campaign.yaml", "*/campaign.yaml", "results/*/campaign.yaml")
    for near in (campaign.parent, Path()):
        for copy in (path for place in places for path in sorted(near.glob(place))):
            folder = copy.parent
            if name and Results(folder).records.is_dir() and _campaign_name(copy) == name:
                found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _campaign_name(path: Path) -> str:
    # By its line: whoever names a site file, or a file that is broken, gets a message all the same.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key == "name":
                return value.partition(" #")[0].strip().strip("'\"")
    return ""


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file: afterwards it holds the new content, or the old one if anything failed.

    Parameters
    ----------
    path
        The file, which need not exist.
    content
        All of its content.
    durable
        Whether to wait until the content is on the disk. Otherwise a crash of the machine, and
        only that, may leave neither the old nor the new content.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
    temporary.rename(path)
    if durable:
        # The content is safe by now, but the new name is only safe with the folder.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def lock_folder(results: Results) -> Iterator[None]:
    """Keep other runs out of the folder while the block lasts. A crash ends the lock, too.

    Parameters
    ----------
    results
        The results folder, which exists.

    Yields
    ------
    None
        While the folder is locked.

    Raises
    ------
    BadInput
        Where another run is using the folder.
    """
    with open_no_link(results.lock, "a+") as stream, ExitStack() as stack:
        with contextlib.suppress(OSError):
            # Whoever can read a file can lock it, and so keep the user's own runs out.
            os.fchmod(stream.fileno(), 0o660)
        try:
            if not lock_until_closed(stream, wait=False):
                stack.enter_context(hold_lease(results.lease))
        except BlockingIOError as error:
            stream.seek(0)
            raise BadInput(
                f"--results {results.folder}: another run is using it: {stream.read()}",
                "wait for it, end it, or name another folder",
            ) from error
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield


def is_folder_locked(results: Results) -> bool:
    """Return whether a run is using the folder now.

    Parameters
    ----------
    results
        The results folder.

    Returns
    -------
    bool
        False also where the folder does not exist.
    """
    try:
        with results.lock.open() as stream:
            # Shared, because several `hpcbench status` at once must not see each other.
            if lock_until_closed(stream, wait=False, shared=True):
                return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    return lease_holder(results.lease) is not None
