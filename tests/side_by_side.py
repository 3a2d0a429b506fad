"""Runs all tests in groups beside each other, as none of them keeps two cores busy.

    python -m tests.side_by_side [arguments of pytest]

Each group is one pytest, and is printed as a whole when it has ended; the last one is seen at work.
"""

import contextlib
import os
import subprocess
import sys
import tempfile

from tests.box.paths import Places

GROUPS = {
    "the box, Slurm and HTCondor": "box and not images",
    "the box, images in Apptainer": "images",
    "Triton, a browser, and all that is quick": "not box",
}


def main(arguments: list[str]) -> int:
    """The exit code: 0 where all groups passed."""
    # Several writers of one cache would trip over each other.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    # What the batch systems' tests break, those of the images need: they get a box of their own.
    second = {**os.environ, "HPCBENCH_BOX": str(Places.here().second.home)}
    with contextlib.ExitStack() as stack:
        printed = {name: stack.enter_context(tempfile.TemporaryFile("w+")) for name in GROUPS}
        *_, seen = GROUPS
        running = {
            name: subprocess.Popen(
                [*command, "-m", which],
                env=second if which == "images" else None,
                stdout=None if name == seen else printed[name],
                stderr=subprocess.STDOUT,
            )
            for name, which in GROUPS.items()
        }
        for name, group in reversed(running.items()):
            # The terminal interrupts all groups, and each ends what it has started.
            while group.poll() is None:
                with contextlib.suppress(KeyboardInterrupt):
                    group.wait()
            printed[name].seek(0)
            sys.stdout.write(f"\n{name}:\n{printed[name].read()}" if name != seen else "")
            sys.stdout.flush()
    return max(abs(group.returncode) for group in running.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
