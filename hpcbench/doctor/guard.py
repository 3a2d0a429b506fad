"""Ends what an examination leaves behind where its driver is killed.

Run as ``python -m hpcbench.doctor.guard FOLDER`` under the supervisor, which asks it to end in
any case and then deletes the folder. Where the folder is gone by then, nothing is left to do.
"""

import signal
import sys
import time
from pathlib import Path

SUBMITTING_S = 3.0
"""A submission that was under way when the driver died is over by then."""


def main(folder: Path) -> None:
    signal.sigwait([signal.SIGTERM])
    if not folder.is_dir():
        return
    time.sleep(SUBMITTING_S)
    # Imported only now: in most cases, they are not needed.
    from hpcbench.cluster import ledger
    from hpcbench.records.folder import Results

    for path in folder.glob("*/jobs.jsonl"):
        ledger.cancel_orphaned_jobs(Results(path.parent), lambda _: None)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    main(Path(sys.argv[1]))
