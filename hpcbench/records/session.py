"""A session: one run of a campaign into a folder, however often it was interrupted and continued.

Its measurements share a ``run_id``, which is part of what names them: those of another night, or of
another folder, stand beside them as more repeats and replace nothing.
"""

import json
import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from hpcbench.errors import BadInput
from hpcbench.records.folder import Results, write_atomically


@dataclass(frozen=True)
class Repeated:
    """The session that a new one repeats, as its lock has it.

    Attributes
    ----------
    run_id
        Its name.
    seed
        That of its order. The new session has the same one.
    complete
        Whether a run of it has come to its end.
    """

    run_id: str
    seed: int
    complete: bool


@dataclass(frozen=True)
class Session:
    """One session.

    Attributes
    ----------
    run_id
        Its name: when it began, and a few random digits.
    seed
        From which the order of the points is drawn.
    started_at
        When it began, UTC.
    adopts
        Whether rows that have no run_id, of older versions, belong to it.
    repeats
        The run_id of the session whose lock it repeats; None for no other.
    """

    run_id: str
    seed: int
    started_at: datetime
    adopts: bool
    repeats: str | None = None

    def has(self, run_id: str | None) -> bool:
        """Return whether a row belongs to this session.

        Parameters
        ----------
        run_id
            The row's.

        Returns
        -------
        bool
            Whether a run that continues the session need not measure it again.
        """
        return run_id == self.run_id or (run_id is None and self.adopts)


def open_session(results: Results, *, new: bool, repeated: Repeated | None = None) -> Session:
    """Continue the session of a folder, or begin one.

    With a lock, a session is continued where it repeats that lock already: the command was
    interrupted, and is given again. So is the very session of the lock, where no run of it has come
    to its end.

    Parameters
    ----------
    results
        The results folder, locked by the caller.
    new
        Whether to begin another one even if there is one.
    repeated
        The session to repeat; None for a campaign without a lock.

    Returns
    -------
    Session
        What the folder's file of the session says from now on.
    """
    found = read_session(results)
    new = new or (repeated is not None and not _continues(found, repeated))
    if found is not None and not new:
        return found
    now = datetime.now(UTC)
    session = Session(
        run_id=f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        seed=repeated.seed if repeated else random.SystemRandom().getrandbits(31),
        started_at=now,
        adopts=not new,
        repeats=repeated.run_id if repeated else None,
    )
    content = vars(session) | {"started_at": now.isoformat()}
    write_atomically(results.session, json.dumps(content, indent=1).encode())
    return session


def _continues(found: Session | None, repeated: Repeated) -> bool:
    if found is None:
        return False
    unfinished = found.run_id == repeated.run_id and not repeated.complete
    return unfinished or found.repeats == repeated.run_id


def read_session(results: Results) -> Session | None:
    """Return the session that the newest run in a folder belongs to.

    Parameters
    ----------
    results
        The results folder.

    Returns
    -------
    Session or None
        None where no run has been started in the folder, or only one of an older version.

    Raises
    ------
    BadInput
        Where the file is not one that hpcbench wrote.
    """
    if not results.session.is_file():
        return None
    try:
        content = json.loads(results.session.read_text(encoding="utf-8"))
        started_at = datetime.fromisoformat(content.pop("started_at"))
        return Session(**content, started_at=started_at)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"{results.session}: does not describe a session: {error}",
            "remove it: the next run begins another session, beside what is there",
        ) from error
