"""The keys of one run: whoever holds them can talk to its schedulers and workers, nobody else."""

import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed.security import Security

CERTIFICATE, KEY = "certificate.pem", "key.pem"


@dataclass(frozen=True)
class Keys:
    """A certificate and its key, made for one run, in files that only their owner can read."""

    folder: Path

    def security(self, folder: Path | None = None) -> Security:
        """Dask's settings for them, where they lie in ``folder``; by default in their own."""
        where = self.folder if folder is None else folder
        certificate, key = str(where / CERTIFICATE), str(where / KEY)
        roles = ("client", "scheduler", "worker")
        return Security(
            require_encryption=True,
            tls_ca_file=certificate,
            **{f"tls_{role}_cert": certificate for role in roles},
            **{f"tls_{role}_key": key for role in roles},
        )

    @property
    def files(self) -> tuple[Path, Path]:
        return self.folder / CERTIFICATE, self.folder / KEY


@contextmanager
def made(folder: Path) -> Iterator[Keys]:
    """New keys in ``folder``, which is deleted when the block is left, however it is left."""
    remove(folder)
    folder.mkdir(mode=0o700, parents=True)
    try:
        temporary = Security.temporary()
        contents = {CERTIFICATE: temporary.tls_ca_file, KEY: temporary.tls_worker_key}
        for name, content in contents.items():
            number = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="ascii") as stream:
                stream.write(content)
        yield Keys(folder)
    finally:
        remove(folder)


def survive_closed_connections() -> None:
    """Keeps one peer that goes away from taking other connections of this process along.

    A peer that closes without saying so in TLS makes OpenSSL send it an alert. Where that fails,
    the error stays in OpenSSL's queue and is taken for that of the next connection that is read
    (seen with Python 3.13 and OpenSSL 3.5). Dask's messages carry their lengths, so that nothing
    cut off is taken for whole where such an end is no error.
    """
    dask_security: Any = Security
    made = dask_security._get_tls_context  # noqa: SLF001 - Dask has no setting for it
    if getattr(made, "survives", False):
        return

    def context(self: Security, *arguments: Any) -> Any:
        found = made(self, *arguments)
        if found is not None:
            found.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        return found

    context.survives = True  # type: ignore[attr-defined]
    dask_security._get_tls_context = context  # noqa: SLF001


def remove(folder: Path) -> None:
    """Deletes the keys, also those that a killed run left behind."""
    shutil.rmtree(folder, ignore_errors=True)
