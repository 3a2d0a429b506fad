"""Watches a results folder, and remembers each row that was once durable there."""

import threading
import time
from pathlib import Path
from typing import Self

from pyarrow import ArrowException

from tests.soak.invariants import MEASURED, Key, digest, key_of, read_rows, record_files

_LOOK_S = 0.1


class Durable:
    """The rows that were seen in a folder, read by a thread beside the campaign.

    Attributes
    ----------
    measured
        For each measured row its digest.
    at
        When each row was first seen, by `time.monotonic`, in that order, with its status.
    unreadable
        Files that had their name and could not be read, which a rename never shows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.measured: dict[Key, str] = {}
        self.at: list[tuple[float, str]] = []
        self.unreadable: list[str] = []
        self._seen: set[str] = set()
        self._files: set[tuple[str, int]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        """Read what is new."""
        for path in record_files(self.folder):
            try:
                which = path.name, path.stat().st_mtime_ns
                if which in self._files:
                    continue
                rows = read_rows(path)
            except OSError:
                continue  # merged meanwhile, or the folder is away
            except ArrowException as error:
                self.unreadable.append(f"{path.name}: {error}")
                continue
            self._files.add(which)
            for row in rows:
                its = digest(row)
                if its in self._seen:
                    continue
                self._seen.add(its)
                self.at.append((time.monotonic(), str(row["status"])))
                if row["status"] in MEASURED:
                    # Where there are two of a key, the invariants say so.
                    self.measured[key_of(row)] = its
