"""What a Parquet file says of itself, before any row of it is read."""

from pathlib import Path

import pyarrow.parquet as pq

_MOST_EXPANSION, _SMALL_BYTES = 200, 1 << 26


def check_size(path: Path, metadata: pq.FileMetaData) -> None:
    """Refuse a small file that would fill the memory. Each row has an id and times of its own.

    Parameters
    ----------
    path
        The file.
    metadata
        What it says of itself.

    Raises
    ------
    ValueError
        It says that it holds far more than so many bytes can.
    """
    size = path.stat().st_size
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    inside = sum(group.total_byte_size for group in groups)
    if metadata.num_rows > size or inside > max(_SMALL_BYTES, _MOST_EXPANSION * size):
        raise ValueError(
            f"it is said to hold {metadata.num_rows} rows of {inside} bytes in {size} bytes"
        )


def columns_without_value(metadata: pq.FileMetaData) -> frozenset[str]:
    """Return the columns that hold nothing in any row.

    They need not be read, and Arrow takes several times as long for such a column as for another.

    Parameters
    ----------
    metadata
        What a file says of itself.

    Returns
    -------
    frozenset of str
        None of lists, whose statistics count an empty one like a missing one, and none where the
        file has no statistics.
    """
    columns = [metadata.schema.column(place) for place in range(metadata.num_columns)]
    places = [n for n, column in enumerate(columns) if column.max_repetition_level == 0]
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        places = [place for place in places if _is_without_value(group.column(place))]
    return frozenset(columns[place].path for place in places)


def _is_without_value(column: pq.ColumnChunkMetaData) -> bool:
    found = column.statistics
    return found is not None and found.has_null_count and found.null_count == column.num_values
