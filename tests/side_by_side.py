"""Runs all tests: those that need the box, which mostly wait, beside those that do not.

    python -m tests.side_by_side [arguments of pytest]

What the others print is seen at once, what those in the box print when they are through.
"""

import contextlib
import subprocess
import sys
import tempfile


def main(arguments: list[str]) -> int:
    """The exit code: 0 where both parts passed."""
    # Two writers of one cache would trip over each other.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    with tempfile.TemporaryFile("w+") as printed:
        parts = [
            subprocess.Popen([*command, "-m", "box"], stdout=printed, stderr=subprocess.STDOUT),
            subprocess.Popen([*command, "-m", "not box"]),
        ]
        for part in reversed(parts):
            # The terminal interrupts both, and each ends what it has started.
            while part.poll() is None:
                with contextlib.suppress(KeyboardInterrupt):
                    part.wait()
        printed.seek(0)
        sys.stdout.write(f"\nin the box:\n{printed.read()}")
    return max(abs(part.returncode) for part in parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
