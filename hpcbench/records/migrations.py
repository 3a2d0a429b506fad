"""How a table of one version of the columns becomes one of the next."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Migration:
    """One step from a version of the columns to the next.

    Attributes
    ----------
    reads
        The columns that it reads, changes or renames. They are read with those that are asked for,
        so that the others of a large file need not be.
    migrate
        Turns a table with these columns, and any others of its version, into one of the next.
    """

    reads: tuple[str, ...]
    migrate: Callable[[pa.Table], pa.Table]


def _variant_without_base(table: pa.Table) -> pa.Table:
    """Version 2 leaves out of a variant what does not change the model's own configuration."""
    if "variant" not in table.column_names:
        # Some files have few columns: whoever needs this one says that it is missing.
        return table
    variants = table["variant"].combine_chunks().dictionary_encode()
    texts = [text and _changes_only(text) for text in variants.dictionary.to_pylist()]
    column = pa.array(texts, pa.string()).take(variants.indices)
    return table.set_column(table.schema.get_field_index("variant"), "variant", column)


def _changes_only(variant: str) -> str:
    axes = {axis: value for axis, value in json.loads(variant).items() if value != "base"}
    if axes.get("preferred_batch_size", ()) is None:
        axes.pop("max_queue_delay_us", None)
    return json.dumps(axes)


def _of_no_session(table: pa.Table) -> pa.Table:
    """Version 3 names a measurement by its session, too. Nobody knows those of older rows."""
    return table.append_column("run_id", pa.nulls(len(table), pa.string()))


MIGRATIONS: dict[int, Migration] = {
    1: Migration(("variant",), _variant_without_base),
    2: Migration((), _of_no_session),
}
"""By version n: the step to version n + 1."""
