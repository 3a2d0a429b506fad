"""The TLS keys of one run: who has them can talk to its schedulers and workers, nobody else."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed.security import Security

CERTIFICATE, KEY = "certificate.pem", "key.pem"


@dataclass(frozen=True)
class Keys:
    """A certificate and its key, in files that only their owner can read.

    Attributes
    ----------
    folder
        Where the two files are.
    """

    folder: Path

    @property
    def files(self) -> tuple[Path, Path]:
        """The certificate and its key."""
        return self.folder / CERTIFICATE, self.folder / KEY

    def security(self, folder: Path | None = None) -> Security:
        """Return Dask's settings for encrypted connections with these keys.

        Parameters
        ----------
        folder
            Where the files are for whoever gets the settings; by default where they are here.

        Returns
        -------
        Security
            One certificate serves all: whoever has its key belongs to the run.
        """
        where = self.folder if folder is None else folder
        certificate, key = str(where / CERTIFICATE), str(where / KEY)
        roles = ("client", "scheduler", "worker")
        return Security(
            require_encryption=True,
            tls_ca_file=certificate,
            **{f"tls_{role}_cert": certificate for role in roles},
            **{f"tls_{role}_key": key for role in roles},
        )


@contextmanager
def make_keys(folder: Path) -> Iterator[Keys]:
    """Make the keys of one run.

    Parameters
    ----------
    folder
        Where the files go. It is made here.

    Yields
    ------
    Keys
        They are deleted when the block is left.
    """
    # A run that was killed may have left its own.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        temporary = Security.temporary()
        contents = {CERTIFICATE: temporary.tls_ca_file, KEY: temporary.tls_worker_key}
        for name, content in contents.items():
            # The mode is set as the file is made: later would leave a moment for others.
            number = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="ascii") as stream:
                stream.write(content)
        yield Keys(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
