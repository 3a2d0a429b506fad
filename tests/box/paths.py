"""Where the box lies, what it says, and how it gives up."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
USER = "physicist"
USER_ID = 20017  # one that no user of the machine outside is likely to have
STRANGER = "stranger"
STRANGER_ID = 20666


class BoxError(Exception):
    """Why there is no box: what is wrong, and what to do."""


def say(text: str) -> None:
    """Tells the person at the terminal; standard output belongs to the commands inside."""
    sys.stderr.write(f"box: {text}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Places:
    """The folders of one box."""

    home: Path

    @classmethod
    def here(cls) -> "Places":
        """The folder that HPCBENCH_BOX names, else .box in the checkout."""
        return cls(Path(os.environ.get("HPCBENCH_BOX") or CHECKOUT / ".box").absolute())

    @property
    def copies(self) -> tuple["Places", ...]:
        """The folders of boxes that have the same software, and can run at the same time."""
        return Places(self.home / "second"), Places(self.home / "third")

    @property
    def root(self) -> Path:
        """The root folder of the machine inside."""
        return self.home / "root"

    @property
    def logs(self) -> Path:
        """What is /var/log inside; kept until the next `up`."""
        return self.home / "logs"

    @property
    def lock(self) -> Path:
        """Held by whoever builds, starts or stops."""
        return self.home / "lock"

    @property
    def running(self) -> Path:
        """Says which process is the first one of the box."""
        return self.home / "running"


RESULTS = CHECKOUT / "results"
NATIVE = CHECKOUT / ".native"


def tail(file: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def logged(command: list[str], log: Path, what: str, env: dict[str, str] | None = None) -> None:
    """Runs a command with its output in a log; what went wrong ends the box's own command."""
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, check=False
        )
    if done.returncode:
        raise BoxError(
            f"{what} failed (exit code {done.returncode}); {log} ends with:\n{tail(log)}"
        )
