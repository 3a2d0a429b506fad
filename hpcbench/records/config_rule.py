"""Whether a server had the configuration that was asked for: the rule CONFIG, axis by axis."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcbench.records.rule_columns import Flags, is_there, numbers
from hpcbench.records.variants import BASE

Codes = npt.NDArray[np.int64]
"""Which of some values each row has; -1 for none."""

VariantAxes = dict[str, Any]
"""What a variant asks for, by the names of the axes; what it does not change is missing."""


def _is_other(asked: Any, loaded: Any) -> bool:
    return bool(asked != loaded)


def _is_other_kind(asked: str, loaded: str) -> bool:
    # With KIND_AUTO the server decides.
    return asked not in ("KIND_AUTO", *loaded.split(","))


def _is_other_list(asked: list[int] | None, loaded: list[int]) -> bool:
    # Triton prefers the largest batch where no size is preferred, and says so.
    return bool(asked) and sorted(asked or ()) != sorted(loaded)


def _is_other_accelerator(asked: str | VariantAxes | None, loaded: str) -> bool:
    if asked is None:
        return loaded not in ("", "null")
    wanted = json.loads(asked) if isinstance(asked, str) else asked
    its = [dict(json.loads(each)) for each in loaded.split("; ")]

    def agrees(one: VariantAxes) -> bool:
        names = [name for name in ("name", "precision_mode") if wanted.get(name) and one.get(name)]
        return all(wanted[name] == one[name] for name in names)

    return not any(map(agrees, its))


def _batching(axes: VariantAxes) -> Any:
    """Whether requests are joined to batches."""
    if axes.get("preferred_batch_size", BASE) != BASE:
        return axes["preferred_batch_size"] is not None
    return axes.get("dynamic_batching", BASE)


_Compare = Callable[[Any, Any], bool]

_AXES: dict[str, _Compare] = {
    "max_batch_size": _is_other,
    "max_queue_delay_us": _is_other,
    "preserve_ordering": _is_other,
    "priority_levels": _is_other,
    "default_priority_level": _is_other,
    "response_cache": _is_other,
    "graph_level": _is_other,
    "cuda_graphs": _is_other,
    "instance_kind": _is_other_kind,
    "gpus": _is_other_list,
    "preferred_batch_size": _is_other_list,
    "accelerator": _is_other_accelerator,
}
"""The axes whose column has the same name, and when what was loaded is something else."""

CONFIG_COLUMNS = (
    *("variant", "batch_size", "max_batch_size", "instance_count", "gpu_count"),
    *("dynamic_batching", "part_of", "capacity_step", *_AXES),
)


def has_other_config(table: pa.Table) -> Flags:
    """Return where a server's configuration is not the one asked for.

    Parameters
    ----------
    table
        n rows with some of `CONFIG_COLUMNS`.

    Returns
    -------
    numpy.ndarray
        Shape (n,), booleans. An axis of which the row does not say what was loaded breaks nothing.
    """
    most = numbers(table, "max_batch_size")
    too_large: Flags = (most > 0) & (numbers(table, "batch_size") > most)
    if "variant" not in table.column_names:
        return too_large
    variants = _encoded(table["variant"])
    asked = [_axes(text) for text in variants.dictionary.to_pylist()]
    which = _codes(variants)
    other = _has_other_instances(table, which, asked)
    other |= _differs(table, "dynamic_batching", which, [_batching(a) for a in asked])
    for axis in _AXES:
        other |= _differs(table, axis, which, [axes.get(axis, BASE) for axes in asked])
    # The variant of a model that an ensemble called is the ensemble's.
    is_called = is_there(table, "part_of") & ~is_there(table, "capacity_step")
    return too_large | (other & ~is_called)


def _axes(variant: str | None) -> VariantAxes:
    try:
        return dict(json.loads(variant or "{}"))
    except (ValueError, TypeError):
        # Whoever reads the column says what is wrong with it.
        return {}


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """A column with each value once, and which row has which; lists as JSON."""
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        return array
    if pa.types.is_list(array.type):
        array = pc.binary_join(array.cast(pa.list_(pa.string())), ",")
        return pc.binary_join_element_wise("[", array, "]", "").dictionary_encode()
    return array.dictionary_encode()


def _codes(encoded: pa.DictionaryArray) -> Codes:
    found = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    codes: Codes = found.astype(np.int64)
    return codes


def _differs(table: pa.Table, column: str, which: Codes, asked: list[Any]) -> Flags:
    """Return where a column is not what its variant asks for."""
    if column not in table.column_names or all(each == BASE for each in asked):
        return np.zeros(len(table), dtype=bool)
    encoded = _encoded(table[column])
    loaded = encoded.dictionary.to_pylist()
    if pa.types.is_list(table[column].type):
        loaded = [json.loads(text) for text in loaded]
    # Each pair that occurs is compared once: variants are few, and so is what they load.
    what = _codes(encoded)
    pairs = np.where((which >= 0) & (what >= 0), which * len(loaded) + what, -1)
    distinct, places = np.unique(pairs, return_inverse=True)
    found = [
        pair >= 0 and _is_wrong(asked[pair // len(loaded)], loaded[pair % len(loaded)], column)
        for pair in distinct.tolist()
    ]
    return np.array(found, dtype=bool)[places]


def _is_wrong(asked: Any, loaded: Any, column: str) -> bool:
    try:
        return bool(asked != BASE and _AXES.get(column, _is_other)(asked, loaded))
    except (ValueError, TypeError, AttributeError):
        # Somebody else's text, of which nobody can say what it means.
        return False


def _has_other_instances(table: pa.Table, which: Codes, asked: list[VariantAxes]) -> Flags:
    # The axis is the count of the one group that stays. The server tells the sum, which may be
    # over the GPUs.
    counts = [axes.get("instance_count") for axes in asked]
    wanted = np.array([each if type(each) is int else np.nan for each in [*counts, None]], float)
    per_gpu = wanted[which]
    gpus = numbers(table, "gpu_count")
    most = np.where(np.isnan(gpus), np.inf, np.fmax(1.0, gpus))
    found = numbers(table, "instance_count")
    wrong: Flags = (np.fmod(found, per_gpu) > 0) | (found > most * per_gpu)
    return wrong
