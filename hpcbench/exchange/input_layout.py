"""How columns of events become the inputs of a model: their types and the lengths of lists."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hpcbench.config.triton_protobuf import DataType, ModelConfig
from hpcbench.errors import BadInput, did_you_mean
from hpcbench.exchange.event_columns import Events, innermost_type, list_depth, type_text
from hpcbench.plan.model import TritonModel

NUMPY_TYPES = {
    "TYPE_BOOL": "bool",
    "TYPE_UINT8": "uint8",
    "TYPE_UINT16": "uint16",
    "TYPE_UINT32": "uint32",
    "TYPE_UINT64": "uint64",
    "TYPE_INT8": "int8",
    "TYPE_INT16": "int16",
    "TYPE_INT32": "int32",
    "TYPE_INT64": "int64",
    "TYPE_FP16": "float16",
    "TYPE_FP32": "float32",
    "TYPE_FP64": "float64",
    "TYPE_STRING": "object",
}
"""NumPy's types for those of Triton. BF16 is not among them: JSON cannot hold it."""

_CONVERTIBLE_KINDS = {"b": "b", "i": "iub", "u": "iub", "f": "fiub", "O": "O"}
"""For each kind of NumPy type the kinds that convert to it without a change of meaning."""


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How the user wants the inputs to be made.

    Attributes
    ----------
    columns
        The columns that make an input, by its name. Other inputs take the column of their name.
    shapes
        Dims of inputs that replace those with a -1.
    events
        Number of events; None for all.
    pad
        Value that fills lists that are too short; None makes such a list an error.
    truncate
        Whether lists that are too long are cut; otherwise such a list is an error.
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    events: int | None = None
    pad: float | None = None
    truncate: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How columns make one input.

    Attributes
    ----------
    name
        Name of the input.
    columns
        Names of the columns.
    data_type
        Triton's type of the input, such as ``TYPE_FP32``.
    axis
        Axis of the input along which the columns are stacked; None where one column is the input.
    sizes
        Lengths of a column's lists, the outermost level first; None where each event keeps its
        own.
    """

    name: str
    columns: tuple[str, ...]
    data_type: str
    axis: int | None
    sizes: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the input, without the batch dimension."""
        sizes = list(self.sizes)
        if self.axis is not None:
            sizes.insert(self.axis, len(self.columns))
        return tuple(sizes)

    @property
    def is_one_shape(self) -> bool:
        """Whether all events have the same shape. Otherwise only batch size 1 can be measured."""
        return None not in self.sizes


@dataclass
class _ListLengths:
    """The lists of an input's columns at one level: their number and their lengths."""

    shortest: int = 1 << 62
    longest: int = 0
    lists: int = 0
    too_short: int = 0
    too_long: int = 0


def plan_layouts(
    model: TritonModel, events: Events, options: InputOptions, count: int
) -> tuple[tuple[Layout, ...], tuple[str, ...]]:
    """Decide how events become the inputs of a model.

    Parameters
    ----------
    model
        The model.
    events
        The events.
    options
        How the user wants the inputs to be made.
    count
        Number of events that are used.

    Returns
    -------
    layouts : tuple of Layout
        One for each input.
    changes : tuple of str
        One sentence for each input in which lists are filled or cut.

    Raises
    ------
    BadInput
        The events do not fit the model.
    """
    inputs = ModelConfig.FromString(model.config).input
    _check_names(model, inputs, options)
    layouts = []
    changes: list[str] = []
    for each in inputs:
        columns = options.columns.get(each.name, (each.name,))
        if each.optional and each.name not in (*options.columns, *events.types):
            continue
        where = f"input '{each.name}' of model '{model.name}'"
        events.check(columns, where)
        data_type = DataType.Name(each.data_type)
        for column in columns:
            _check_type(events, column, data_type, where)
        dims = _dims(tuple(each.dims), options.shapes.get(each.name), where)
        axis = _axis(events, columns, dims, where)
        wanted = tuple(d for position, d in enumerate(dims) if position != axis)
        lengths = _survey(events, columns, wanted, count, where)
        sizes = _sizes(events, columns, wanted, lengths, options, where)
        changes += _changes(each.name, lengths)
        layouts.append(
            Layout(name=each.name, columns=columns, data_type=data_type, axis=axis, sizes=sizes)
        )
    return tuple(layouts), tuple(changes)


def _check_names(model: TritonModel, inputs: Sequence[Any], options: InputOptions) -> None:
    names = [each.name for each in inputs]
    if not names:
        raise BadInput(
            f"{model.folder}/config.pbtxt lists no inputs, so what the model takes is not known",
            "write its input entries into config.pbtxt, or start Triton with it and copy what "
            f"curl localhost:8000/v2/models/{model.name}/config says",
        )
    for option, given in (("--map", options.columns), ("--shape", options.shapes)):
        for name in given:
            if name not in names:
                raise BadInput(
                    f"{option} {name}: model '{model.name}' has no such input;"
                    f"{did_you_mean(name, names)} its inputs: {', '.join(names)}"
                )


def _check_type(events: Events, column: str, data_type: str, where: str) -> None:
    kind = innermost_type(events.types[column])
    if data_type not in NUMPY_TYPES:
        raise BadInput(f"{where} is {data_type[5:]}, which perf_analyzer's JSON cannot hold")
    strings = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    try:
        seen = "O" if strings else np.dtype(kind.to_pandas_dtype()).kind
    except (NotImplementedError, TypeError):
        seen = "?"
    wanted = np.dtype(NUMPY_TYPES[data_type]).kind
    if (seen == "O") != strings or seen not in _CONVERTIBLE_KINDS[wanted]:
        hint = {"O": "strings", "b": "booleans", "f": "numbers"}.get(wanted, "integers")
        raise BadInput(
            f"{events.source}: column '{column}' holds {kind}, and {where} takes {data_type[5:]}",
            f"convert the column first: it must hold {hint}",
        )


def _dims(dims: tuple[int, ...], given: tuple[int, ...] | None, where: str) -> tuple[int, ...]:
    if given is None:
        return dims
    if len(given) != len(dims) or any(d not in (-1, g) for d, g in zip(dims, given, strict=True)):
        raise BadInput(
            f"--shape: {where} has dims {list(dims)}, given: {list(given)}; only a -1 may be "
            "replaced, and the batch dimension is left out"
        )
    return given


def _axis(events: Events, columns: Sequence[str], dims: tuple[int, ...], where: str) -> int | None:
    """Return the axis of the input along which the columns are stacked."""
    ranks = {list_depth(events.types[column]) for column in columns}
    present = ", ".join(f"{column} ({type_text(events.types[column])})" for column in columns)
    wants = f"{where} has dims {list(dims)}"
    if len(columns) == 1 and ranks == {len(dims)}:
        return None
    if ranks == {len(dims) - 1}:
        for wanted in (len(columns), -1):
            axes = [position for position, dim in enumerate(dims) if dim == wanted]
            if len(axes) == 1:
                return axes[0]
            if axes:
                raise BadInput(
                    f"{events.source}: {wants}: it is unclear which of them stands for the "
                    f"{len(columns)} columns {present}",
                    "make one column of nested lists of that shape",
                )
    raise BadInput(
        f"{events.source}: {wants}, which cannot be made of the columns {present}",
        "map one column of lists nested as deep as there are dims, or one column less deep for "
        "each element of one of the dims: --map input=column,column,...",
    )


def _survey(
    events: Events, columns: Sequence[str], wanted: tuple[int, ...], count: int, where: str
) -> list[_ListLengths]:
    """Read all lengths once: the shape of all events must be known before the first is written."""
    found = [_ListLengths() for _ in wanted]
    if not wanted:
        return found
    for batch in events.batches(columns, count):
        first, *others = (events.list_column(name, batch[name]).lengths for name in columns)
        for name, lengths in zip(columns[1:], others, strict=True):
            if any(not np.array_equal(a, b) for a, b in zip(first, lengths, strict=True)):
                raise BadInput(
                    f"{events.source}: the lists of '{columns[0]}' and '{name}' differ in length, "
                    f"and together they make {where}",
                    "columns of one input must have the same number of values in each event",
                )
        for level, lengths in zip(found, first, strict=True):
            if len(lengths):
                level.shortest = min(level.shortest, int(lengths.min()))
                level.longest = max(level.longest, int(lengths.max()))
                level.lists += len(lengths)
        for level, lengths, size in zip(found, first, wanted, strict=True):
            if size != -1:
                level.too_short += int((lengths < size).sum())
                level.too_long += int((lengths > size).sum())
    return found


def _sizes(
    events: Events,
    columns: Sequence[str],
    wanted: tuple[int, ...],
    lengths: Sequence[_ListLengths],
    options: InputOptions,
    where: str,
) -> tuple[int | None, ...]:
    sizes: list[int | None] = []
    for size, level in zip(wanted, lengths, strict=True):
        message = (
            f"{events.source}: column '{columns[0]}' has lists of {level.shortest} to "
            f"{level.longest} values, and {where} takes {size}"
        )
        if size != -1 and level.too_long and not options.truncate:
            raise BadInput(message, f"--truncate cuts them to the first {size}")
        if size != -1 and level.too_short and options.pad is None:
            raise BadInput(message, "--pad 0 fills them with zeros, --pad -999 with that number")
        alike = 0 < level.shortest == level.longest
        if size != -1:
            sizes.append(size)
        elif alike or options.pad is not None:
            sizes.append(max(level.longest, 1))
        elif level.shortest == 0:
            raise BadInput(
                f"{events.source}: column '{columns[0]}' has empty lists, which {where} cannot "
                "take",
                "--pad 0 fills lists with zeros, up to the longest or to --shape",
            )
        else:
            sizes.append(None)
    return tuple(sizes)


def _changes(name: str, lengths: Sequence[_ListLengths]) -> Iterator[str]:
    for level in lengths:
        for what, lists in (("filled", level.too_short), ("cut", level.too_long)):
            if lists:
                yield f"{name}: {lists} of {level.lists} lists were {what}"
