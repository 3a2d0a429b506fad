"""The file from which perf_analyzer takes the times between requests."""

from pathlib import Path

from hpcbench.config.load_axes import LoadVariant
from hpcbench.errors import BadInput
from hpcbench.measure import perf_analyzer
from hpcbench.plan.arrivals import read_intervals


def write_intervals_file(load: LoadVariant, folder: Path) -> str | None:
    """Write the file that perf_analyzer reads, if its load is one of recorded arrivals.

    Parameters
    ----------
    load
        The load.
    folder
        Where perf_analyzer runs.

    Returns
    -------
    str or None
        Why it would not be what was planned; None where it is.
    """
    if load.request_intervals is None:
        return None
    try:
        found = read_intervals(Path(load.request_intervals), "request_intervals")
    except BadInput as error:
        return error.message
    if found.columns["request_intervals_digest"] != load.request_intervals_digest:
        return f"request_intervals: {load.request_intervals} has changed since it was planned"
    (folder / perf_analyzer.INTERVALS_NAME).write_text(found.text)
    return None
