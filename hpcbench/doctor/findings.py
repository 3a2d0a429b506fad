"""What `hpcbench doctor` checked: each check with what was found, and what to do about it."""

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
    """What was checked, on this host or for a job of ``pool``; what was found; what to do."""

    name: str
    state: State
    found: str
    todo: str = ""
    pool: str | None = None


class NothingToCheck(Exception):
    """Why there is nothing."""


Tell = Callable[[Check | str], None]
"""Hears each check as it is made, and between them what is waited for."""


@dataclass
class Findings:
    """The checks that were made so far."""

    tell: Tell
    checks: list[Check] = field(default_factory=list)

    def look(
        self,
        name: str,
        action: Callable[[], str],
        needs: Sequence[str] = (),
        pool: str | None = None,
    ) -> None:
        """Makes a check, unless another one that it ``needs`` was made and is not ok."""
        unmet = self.unmet(needs, pool)
        try:
            if unmet:
                check = Check(name, State.SKIPPED, f"needs {unmet[0]}", pool=pool)
            else:
                check = Check(name, State.OK, action(), pool=pool)
        except NothingToCheck as reason:
            check = Check(name, State.SKIPPED, str(reason), pool=pool)
        except Interrupted:
            raise
        except HpcbenchError as error:
            check = Check(name, State.FAILED, error.message, error.hint, pool)
        except OSError as error:
            found = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            check = Check(name, State.FAILED, found, pool=pool)
        self.checks.append(check)
        self.tell(check)

    def unmet(self, needs: Sequence[str], pool: str | None = None) -> list[str]:
        """Which of these checks, on this host or for the pool, were made and are not ok."""
        bad = {c.name for c in self.checks if c.state is not State.OK and c.pool in (None, pool)}
        return [need for need in needs if need in bad]

    def made(self, name: str, pool: str) -> bool:
        """Whether the check was made or skipped."""
        return any((check.name, check.pool) == (name, pool) for check in self.checks)
