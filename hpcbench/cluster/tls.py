"""The TLS keys of one run: who has them can talk to its schedulers and workers, nobody else."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed.security import Security

from hpcbench.cluster import afs

CERTIFICATE, KEY = "certificate.pem", "key.pem"

VALID = timedelta(days=365)
"""How long a certificate is valid: longer than any run."""

CLOCKS_DIFFER = timedelta(days=1)
"""How far the clock of a node may be behind the driver's."""


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
        return _security(str(where / CERTIFICATE), str(where / KEY))


def keys_in_memory() -> Security:
    """Return Dask's settings for encrypted connections with new keys, which are in no file.

    Returns
    -------
    Security
        For processes of this computer.
    """
    return _security(*make_certificate())


def _security(certificate: str, key: str) -> Security:
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=certificate,
        **{f"tls_{role}_cert": certificate for role in roles},
        **{f"tls_{role}_key": key for role in roles},
    )


def make_certificate() -> tuple[str, str]:
    """Make a certificate that is signed with its own key.

    Dask's own begins at this moment, so that a node whose clock is seconds behind refuses it, and
    has an RSA key, which takes longer to find.

    Returns
    -------
    tuple of str
        The certificate and the key, in PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hpcbench")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + VALID)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), text.decode()


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

    Raises
    ------
    SiteError
        Where others may read the folder, as its file system knows no modes.
    """
    # A run that was killed may have left its own.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        if afs.is_on_afs(folder):
            afs.keep_private(folder)
        for name, content in zip((CERTIFICATE, KEY), make_certificate(), strict=True):
            # The mode is set as the file is made: later would leave a moment for others.
            number = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="ascii") as stream:
                stream.write(content)
        yield Keys(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
