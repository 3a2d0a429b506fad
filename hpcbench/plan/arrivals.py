"""Files that say when requests arrive, so that an open loop can send them again.

Two kinds are read: the file that perf_analyzer takes as ``--request-intervals``, with a whole
number of microseconds on each line, and a Parquet file whose only column has times of arrival.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbench.config.campaign import Campaign
from hpcbench.config.load_axes import INTERVALS, Load
from hpcbench.errors import BadInput
from hpcbench.plan.digest import hash_id, special_kind

if TYPE_CHECKING:
    # Importing pyarrow takes longer than planning does.
    import pyarrow as pa

_PASSES = 3
_LONGEST_GAP = 0.9
"""perf_analyzer makes a report of three passes, none of which may be without an answer."""

_MOST_DIGITS = 12
"""Of microseconds: eleven days. A number of 400 digits would be no float."""

_HINT = (
    "name a file with a whole number of microseconds on each line, or a Parquet file with one "
    "column of times; hpcbench make-input --arrivals makes one from any column of timestamps"
)


@dataclass(frozen=True)
class Intervals:
    """The times between requests, which are played over and over.

    Attributes
    ----------
    microseconds
        The times between one request and the next, at least one of them over 0.
    """

    microseconds: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """How long it takes to play them once."""
        return sum(self.microseconds) / 1e6

    @property
    def rate(self) -> float:
        """The mean rate, in requests per second."""
        return len(self.microseconds) / self.seconds

    @property
    def window_s(self) -> float:
        """The time of the shortest window: the file once, or more often where a gap is long."""
        gap_s = max(self.microseconds) / 1e6
        plays = max(1, math.ceil(_PASSES * gap_s / (_LONGEST_GAP * self.seconds)))
        return plays * self.seconds

    @property
    def text(self) -> str:
        """What perf_analyzer reads.

        As the intervals are played over and over, they may begin anywhere. They begin after their
        longest: then a window ends in the longest gap, and cuts no burst in two.
        """
        first = self.microseconds.index(max(self.microseconds)) + 1
        played = (*self.microseconds[first:], *self.microseconds[:first])
        # An empty line would end perf_analyzer: it takes each line for a number.
        return "\n".join(map(str, played))

    @property
    def columns(self) -> dict[str, Any]:
        """What a record says of them, by the names of its columns."""
        return {
            "request_intervals_digest": hash_id(*self.text.splitlines()),
            "request_intervals_s": self.window_s,
            "request_rate": self.rate,
            "request_distribution": INTERVALS,
        }


def intervals_between(times_us: Iterable[int]) -> Intervals:
    """Return the intervals between arrivals.

    Parameters
    ----------
    times_us
        The times of arrival in microseconds, in any order.

    Returns
    -------
    Intervals
        One fewer than there are arrivals.

    Raises
    ------
    ValueError
        There are fewer than two arrivals, or all at the same time.
    """
    return _checked([later - earlier for earlier, later in pairwise(sorted(times_us))])


def _checked(microseconds: Sequence[int]) -> Intervals:
    if not any(microseconds):
        raise ValueError("has no two different times")
    return Intervals(tuple(microseconds))


def read_intervals(path: Path, where: str) -> Intervals:
    """Read a file that a campaign names as ``request_intervals``.

    Parameters
    ----------
    path
        The file.
    where
        File and key of the campaign, for messages.

    Returns
    -------
    Intervals
        What it holds.

    Raises
    ------
    BadInput
        It cannot be read, or holds something else.
    """
    if kind := special_kind(path):
        raise BadInput(f"{where}: {path} is {kind}, which can be read only once", _HINT)
    try:
        if path.suffix in (".parquet", ".pq"):
            return intervals_between(_parquet_times(path))
        return _checked(list(_whole_numbers(path)))
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise BadInput(f"{where}: {path} {reason}", _HINT) from error
    except ValueError as error:
        raise BadInput(f"{where}: {path} {error}", _HINT) from error


def _whole_numbers(path: Path) -> Iterator[int]:
    # Windows' editors begin a file with a byte order mark.
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if text and not (text.isascii() and text.isdigit()):
                raise ValueError(f"has {text[:40]!r} on line {number}, which is no such number")
            if len(text.lstrip("0")) > _MOST_DIGITS:
                raise ValueError(f"has a number of {len(text)} digits on line {number}")
            if text:
                yield int(text)


def _parquet_times(path: Path) -> list[int]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if table.num_columns != 1:
        raise ValueError(f"has {table.num_columns} columns: {', '.join(table.column_names[:20])}")
    return microseconds(table.column(0))


def microseconds(column: "pa.ChunkedArray") -> list[int]:
    """Return a column of times as whole microseconds.

    Parameters
    ----------
    column
        Timestamps, or numbers of seconds.

    Returns
    -------
    list of int
        Since 1970, or since whatever the seconds are counted from.

    Raises
    ------
    ValueError
        It holds something else, or a time is missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        raise ValueError(f"lacks {column.null_count} of its {len(column)} times")
    if pa.types.is_timestamp(column.type):
        times = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        seconds = column.cast(pa.float64())
        if not pc.all(pc.is_finite(seconds)).as_py():
            raise ValueError("holds a time that is no number")
        times = pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64())
    else:
        raise ValueError(f"holds values of type {column.type}, neither timestamps nor seconds")
    found: list[int] = times.to_pylist()
    return found


def named_intervals(campaign: Campaign) -> dict[str, Intervals]:
    """Read all files with intervals that a campaign names.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    dict
        What they hold, by their paths.

    Raises
    ------
    BadInput
        One cannot be read, or holds something else.
    """
    loads: list[Load | None] = [campaign.load_axes, *(model.load for model in campaign.models)]
    loads += [member.load for group in campaign.together for member in group.values()]
    sections = [*(load for load in loads if load), *campaign.variants.values()]
    names = {name for section in sections for name in section.request_intervals}
    where = f"{campaign.source}: load.request_intervals"
    return {name: read_intervals(Path(name), where) for name in sorted(names)}
