"""Times of arrival from a log as the file of intervals that a campaign's load plays again."""

from pathlib import Path
from typing import TYPE_CHECKING

from hpcbench.errors import BadInput, did_you_mean
from hpcbench.exchange.whole_file import whole_file
from hpcbench.plan.arrivals import Intervals, intervals_between, microseconds

if TYPE_CHECKING:
    import pyarrow as pa


def write_intervals(
    source: Path, column: str, out: Path, *, events: int | None = None
) -> Intervals:
    """Write the times between arrivals as perf_analyzer reads them.

    Parameters
    ----------
    source
        A CSV file with a header, or a Parquet file.
    column
        Its column with the times: timestamps, or numbers of seconds, in any order.
    out
        The file; it is replaced only once the new one is whole.
    events
        How many arrivals to use, from the earliest on; None for all.

    Returns
    -------
    Intervals
        What was written.

    Raises
    ------
    BadInput
        The file or the column is not there, holds something else, or cannot be written.
    """
    times = _column(source, column)
    try:
        found = intervals_between(sorted(microseconds(times))[:events])
    except ValueError as error:
        raise BadInput(f"{source}: column '{column}' {error}") from error
    with whole_file(out) as temporary:
        temporary.write_text("".join(f"{each}\n" for each in found.microseconds))
    return found


def _column(source: Path, column: str) -> "pa.ChunkedArray":
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        if source.suffix in (".parquet", ".pq"):
            known = pq.read_schema(source).names
            table = pq.read_table(source, columns=[column]) if column in known else None
        else:
            whole = pyarrow.csv.read_csv(source)
            known = whole.column_names
            table = whole.select([column]) if column in known else None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadInput(
            f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}",
            "--arrivals takes CSV files with a header, and Parquet files",
        ) from error
    if table is None:
        raise BadInput(
            f"{source}: there is no column '{column}';{did_you_mean(column, known)} it has: "
            f"{', '.join(known)}"
        )
    return table.column(0)
