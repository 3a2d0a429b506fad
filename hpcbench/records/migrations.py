"""How a table of one version of the columns becomes one of the next."""

import json
from collections.abc import Callable

import pyarrow as pa

Migration = Callable[[pa.Table], pa.Table]


def _variant_without_base(table: pa.Table) -> pa.Table:
    """Version 2 leaves out of a variant what does not change the model's own configuration."""
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


MIGRATIONS: dict[int, Migration] = {1: _variant_without_base, 2: _of_no_session}
"""By version n: the function that turns a table of version n, with all its columns, into one of
version n + 1."""
