"""The result of each check of `hpcbench doctor`: what was found, and what to do about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hpcbench.errors import HpcbenchError, Interrupted


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """A finished check.

    Attributes
    ----------
    name
        What was checked.
    state
        How it ended.
    found
        What was found.
    todo
        What the user can do about it; empty where there is nothing to do, or nothing known.
    pool
        The pool whose job made the check; None for a check of this host.
    """

    name: str
    state: State
    found: str
    todo: str = ""
    pool: str | None = None


class NotChecked(Exception):
    """A check does not apply here; the message says why."""


CheckListener = Callable[[Check | str], None]
"""Takes each check when it is finished, and between them a line on what is waited for."""


@dataclass
class Findings:
    """The checks that are finished.

    Attributes
    ----------
    report
        Called with each of them.
    checks
        All of them, in the order in which they ended.
    """

    report: CheckListener
    checks: list[Check] = field(default_factory=list)

    def check(
        self,
        name: str,
        action: Callable[[], str],
        needs: Sequence[str] = (),
        pool: str | None = None,
    ) -> None:
        """Make a check, unless one that it needs has failed or was skipped.

        Parameters
        ----------
        name
            What is checked.
        action
            Returns what it found. Raises `HpcbenchError` or OSError where that is wrong, and
            `NotChecked` where the check does not apply.
        needs
            Names of checks of this host or the same pool.
        pool
            The pool whose job makes the check; None for a check of this host.

        Raises
        ------
        Interrupted
            After a signal.
        """
        failed = self.failed(needs, pool)
        try:
            if failed:
                check = Check(name, State.SKIPPED, f"needs {failed[0]}", pool=pool)
            else:
                check = Check(name, State.OK, action(), pool=pool)
        except NotChecked as reason:
            check = Check(name, State.SKIPPED, str(reason), pool=pool)
        # Before its base class below: it ends the checks, and is no result of one.
        except Interrupted:
            raise
        except HpcbenchError as error:
            check = Check(name, State.FAILED, error.message, error.hint, pool)
        except OSError as error:
            found = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            check = Check(name, State.FAILED, found, pool=pool)
        self.checks.append(check)
        self.report(check)

    def failed(self, names: Sequence[str], pool: str | None = None) -> list[str]:
        """Return which checks have failed or were skipped.

        Parameters
        ----------
        names
            The checks asked for. One that is not finished has not failed.
        pool
            Also look at the checks of this pool, not only at those of this host.

        Returns
        -------
        list of str
            Their names.
        """
        bad = {c.name for c in self.checks if c.state is not State.OK and c.pool in (None, pool)}
        return [name for name in names if name in bad]

    def has(self, name: str, pool: str) -> bool:
        """Return whether a check of a pool is finished, in whatever state.

        Parameters
        ----------
        name
            What was checked.
        pool
            The pool.

        Returns
        -------
        bool
            True also for a check that was skipped.
        """
        return any((check.name, check.pool) == (name, pool) for check in self.checks)
