"""Files that are replaced only once the new one is whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcbench.errors import BadInput


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Yield where to write what takes the place of a file, unless that fails.

    Parameters
    ----------
    out
        The file, which need not exist.

    Yields
    ------
    Path
        A name beside it, which is gone afterwards.

    Raises
    ------
    BadInput
        It cannot be written.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
