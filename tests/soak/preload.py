"""Clocks that are set while a campaign runs, and a quota that is used up: `preload.c` does it.

The kernel has one clock for all, and quotas need a file system that not every kernel has.
"""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("preload.c")
_NUMBERS = struct.Struct("qq")


@dataclass(frozen=True)
class Machine:
    """The clock and the quota of the programs of one machine.

    Attributes
    ----------
    state
        The file that they read.
    """

    state: Path

    def set_state(self, *, step_s: int = 0, quota_is_used_up: bool = False) -> None:
        """Set both, for programs that run and those that come."""
        content = _NUMBERS.pack(step_s, quota_is_used_up)
        # In place: they have mapped the file.
        with self.state.open("r+b" if self.state.exists() else "wb") as file:
            file.write(content)


@dataclass(frozen=True)
class Preload:
    """The library, and the machines of a campaign: that of the driver, and those of its jobs."""

    library: Path
    results: Path
    driver: Machine
    jobs: Machine

    def variables(self, machine: Machine) -> dict[str, str]:
        """What a program of a machine finds in its environment."""
        return {
            "LD_PRELOAD": str(self.library),
            "SOAK_STATE": str(machine.state),
            "SOAK_QUOTA": str(self.results),
        }


def make_preload(folder: Path, results: Path) -> Preload:
    """Compile the library and write the files of both machines. It takes a C compiler."""
    library = folder / "preload.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    machines = [Machine(folder / f"{name}.state") for name in ("driver", "jobs")]
    for machine in machines:
        machine.set_state()
    return Preload(library, results, *machines)
