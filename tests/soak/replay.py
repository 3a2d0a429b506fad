"""A perf_analyzer that prints at once what a real one printed in a quarter of a minute.

It asks no server: so a point takes as long as hpcbench itself does, and an hour holds a thousand
faults. A share of the points is handed on to the real program, which the server then feels. Which
ones, their command lines say: the same ones each time.
"""

import os
import re
import signal
import sys
import time
import zlib

# SETTINGS
REPORT_S = 0.03
"""Seconds between two reports. Real ones are three passes of the interval that was asked for."""


def wants_the_real_one(words: list[str], share: float) -> bool:
    """Whether a point belongs to the share. Ports differ each time, and do not count."""
    point = re.sub(r"-u \S+", "", " ".join(words))
    return zlib.crc32(point.encode()) % 1000 < 1000 * share


def recorded(name: str) -> str:
    """What the real program printed in a case."""
    with open(os.path.join(RECORDED, name)) as file:  # noqa: F821, PTH118, PTH123
        return file.read()


def reports(text: str) -> tuple[str, list[str]]:
    """The head of the output, and its reports, the last of which was interrupted."""
    head, *found = re.split(r"(?m)^(?=Request concurrency: )", text)
    return head, found[:-1]


def say(text: str) -> None:
    """Print without waiting for more."""
    sys.stdout.write(text)
    sys.stdout.flush()


def main(words: list[str]) -> int:
    """Print until somebody ends it, as the real one does with a step of 0."""
    if "-m" not in words:
        if "--version" in words:
            os.execv(REAL_PROGRAM, [REAL_PROGRAM, *words])  # noqa: F821
        sys.stderr.write(recorded("unknown_flag/stderr.txt"))
        return 99
    if wants_the_real_one(words, REAL_SHARE):  # noqa: F821
        os.execv(REAL_PROGRAM, [REAL_PROGRAM, *words])  # noqa: F821
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    head, its = reports(recorded("repeated/stdout.txt"))
    say(head)
    while True:
        for report in its:
            say(report)
            time.sleep(REPORT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
