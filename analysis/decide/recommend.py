"""Which configuration to deploy: the best that was measured within limits, per model and device.

Everything here is measured, nothing is modelled. A configuration meets a limit where the mean over
its repeats does. Those that did not settle take part, because their figures are real; where one
of them is the best, that is said, and the best of those that settled stands beside it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpcbench.analysis.decide.size import Sizing, size
from hpcbench.analysis.summary import limits, statistics
from hpcbench.analysis.summary.configuration import (
    LOAD,
    MODEL,
    NEEDED,
    REQUEST,
    compact,
    floats,
    group_numbers,
    plain_rows,
)
from hpcbench.analysis.summary.limits import LATENCY, Figure, Limit, Wanted
from hpcbench.analysis.summary.statistics import Interval, Sample
from hpcbench.errors import BadInput

COLUMNS = tuple(
    dict.fromkeys((*NEEDED, *limits.NEEDED, "point_id", "reason", "part_of", "own_config"))
)
"""The columns of `hpcbench.records.columns` that `recommend` reads."""

MOST_RUNNERS_UP = 5

Row = dict[str, Any]
"""A configuration: CONFIGURATION, ``point_id``, ``position`` among those of its model and device,
counts, and figures as `statistics.configurations` has them; what is missing is None."""


@dataclass(frozen=True)
class Compared:
    """A configuration beside the recommended one: the objective's ratio, recommended to this.

    ``as_good``: their difference is within the noise; None where one was measured once, so that
    nobody knows.
    """

    row: Row
    ratio: float
    low: float
    high: float
    as_good: bool | None


@dataclass(frozen=True)
class Advice:
    """What is recommended for one model on one device, or why nothing is.

    ``best`` is None where nothing meets the limits; then ``nearest`` is the configuration that is
    the least beyond them, if any has the figures, and ``failing`` says in sentences which limits
    cannot be met. ``base`` is the best of the model's own configuration, ``base_meets`` whether it
    keeps to the limits. ``as_good`` counts the others that are statistically as good.
    ``settled`` is the best one of which all measurements settled, where ``best`` is not.
    """

    wanted: Wanted
    about: Row
    configurations: int
    measured: int
    meeting: int
    best: Row | None
    notes: tuple[str, ...]
    base: Compared | None
    base_meets: bool
    runners_up: tuple[Compared, ...]
    as_good: int
    settled: Compared | None
    nearest: Row | None
    failing: tuple[str, ...]
    sizing: Sizing | None


def recommend(frame: pd.DataFrame, wanted: Wanted) -> list[Advice]:
    """The advice for every model and device, in the order of the table.

    ``frame`` has COLUMNS, as `load_results` reads them. Unlike shapes and input data are unlike
    work, and get advice of their own. What shared its server with another model, and what was
    called by an ensemble, is no configuration of a server that could be deployed as it is, and is
    left out. Raises BadInput where nothing could be chosen from.
    """
    if frame.empty:
        raise BadInput("there are no results to choose from", "hpcbench run measures them")
    frame = frame[frame["part_of"].isna() & frame["beside"].isna()]
    if frame.empty:
        raise BadInput(
            "these results are of models that shared a server or that an ensemble called, only",
            "measure the models alone, too: each model of the campaign is, under its own load",
        )
    frame = compact(frame.reset_index(drop=True))
    limits.check_prices(frame, wanted)
    found = limits.figures(frame, wanted.prices)
    requests = floats(frame["request_count"])
    table = statistics.configurations(
        frame.assign(**found, requests=requests), (*found, "requests")
    )
    if wanted.figure.column not in table:
        table[wanted.figure.column] = np.nan
    rows = table.pop("row").to_numpy()
    table["point_id"] = frame["point_id"].iloc[rows].to_numpy(dtype=object)
    table["own"] = is_base(frame)[rows]
    table["reason"] = frame["reason"].iloc[rows].to_numpy(dtype=object)
    groups = group_numbers(_devices(table), (*MODEL, *REQUEST, *DEVICE))
    return [_advise(part, wanted) for _, part in table.groupby(groups, sort=False)]


DEVICE = ("gpu_name", "gpu_count", "cpu_name", "cpu_count")


def _devices(table: pd.DataFrame) -> pd.DataFrame:
    """With a GPU that serves, the processor beside it does not make another device."""
    on_gpu = table["gpu_name"].notna() & (table["instance_kind"] != "KIND_CPU").fillna(True)
    gpu = {name: table[name].where(on_gpu) for name in ("gpu_name", "gpu_count")}
    cpu = {name: table[name].mask(on_gpu) for name in ("cpu_name", "cpu_count")}
    return table.assign(**gpu, **cpu)


def _advise(table: pd.DataFrame, wanted: Wanted) -> Advice:
    table = table.reset_index(drop=True)
    table["position"] = np.arange(len(table))
    figure = wanted.figure
    measured = table["measured"].to_numpy() > 0
    values = floats(table[figure.column])
    meets = measured & np.isfinite(values) & (values > 0)
    for limit in wanted.limits:
        meets &= limit.met(floats(table[limit.figure.column]))
    order = _best_first(table, figure, meets)
    best = int(order[0]) if len(order) else None
    about = _row(table, int(np.flatnonzero(measured)[0]) if measured.any() else 0)
    base, base_meets = _base(table, figure, meets, best)
    runners_up, as_good = _runners_up(table, figure, order)
    nearest = _nearest(table, wanted.limits) if best is None and wanted.limits else None
    return Advice(
        wanted=wanted,
        about=about,
        configurations=len(table),
        measured=int(measured.sum()),
        meeting=int(meets.sum()),
        best=None if best is None else _row(table, best),
        notes=() if best is None else _notes(_row(table, best), wanted),
        base=None if base is None or best is None else _compare(table, figure, best, [base])[0],
        base_meets=base_meets,
        runners_up=tuple(runners_up),
        as_good=as_good,
        settled=_settled(table, figure, order),
        nearest=None if nearest is None else _row(table, nearest),
        failing=() if best is not None else _failing(table, wanted),
        sizing=None if best is None else size(table, best, wanted),
    )


def _row(table: pd.DataFrame, position: int) -> Row:
    return plain_rows(table, [position])[0]


def _best_first(
    table: pd.DataFrame, figure: Figure, which: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The positions of those rows, by the figure; of equal ones those that settled first."""
    values = floats(table[figure.column])
    order = np.lexsort((table["unstable"].to_numpy(), -values if figure.highest else values))
    return order[which[order]]


def _runners_up(
    table: pd.DataFrame, figure: Figure, order: npt.NDArray[np.int64]
) -> tuple[list[Compared], int]:
    """(the next best, those as good as the first before all others; how many are as good)."""
    if len(order) < 2:
        return [], 0
    best, others = int(order[0]), order[1:]
    good, _ = _as_good(_ratio(table, figure, best, others))
    shown = others[np.argsort(~good, kind="stable")[:MOST_RUNNERS_UP]]
    return _compare(table, figure, best, shown), int(good.sum())


def _settled(table: pd.DataFrame, figure: Figure, order: npt.NDArray[np.int64]) -> Compared | None:
    settled = order[table["unstable"].to_numpy()[order] == 0]
    if not len(settled) or settled[0] == order[0]:
        return None
    return _compare(table, figure, int(order[0]), settled[:1])[0]


def _compare(
    table: pd.DataFrame, figure: Figure, best: int, others: Sequence[int] | npt.NDArray[np.int64]
) -> list[Compared]:
    positions = np.asarray(others, dtype=np.int64)
    ratio = _ratio(table, figure, best, positions)
    good, known = _as_good(ratio)
    return [
        Compared(
            row=_row(table, int(position)),
            ratio=float(ratio.value[i]),
            low=float(ratio.low[i]),
            high=float(ratio.high[i]),
            as_good=bool(good[i]) if known[i] else None,
        )
        for i, position in enumerate(positions)
    ]


def _as_good(ratio: Interval) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(where a ratio of the best to another leaves that as good, where that can be told)."""
    return (ratio.low <= 1) & (ratio.high >= 1), np.isfinite(ratio.low)


def _ratio(
    table: pd.DataFrame, figure: Figure, best: int, others: npt.NDArray[np.int64]
) -> Interval:
    sample = Sample.of(table, figure.column)
    one = Sample(*(v[np.full(len(others), best)] for v in (sample.n, sample.mean, sample.std)))
    rest = Sample(sample.n[others], sample.mean[others], sample.std[others])
    return statistics.ratio(one, rest)


def _base(
    table: pd.DataFrame, figure: Figure, meets: npt.NDArray[np.bool_], best: int | None
) -> tuple[int | None, bool]:
    """(the best of the model's own configuration, whether it keeps to the limits).

    Where none of it does, the one under the load of the recommended configuration.
    """
    own = table["own"].to_numpy(dtype=bool)
    order = _best_first(table, figure, own & meets)
    if len(order) or best is None:
        return (int(order[0]), True) if len(order) else (None, False)
    alike = own & (table["measured"].to_numpy() > 0) & np.isfinite(floats(table[figure.column]))
    loads = group_numbers(table, LOAD)
    order = _best_first(table, figure, alike & (loads == loads[best]))
    return (int(order[0]) if len(order) else None), False


def is_base(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Where the server had the model's own configuration, whatever the campaign says of its axes.

    Records that do not tell, because they are old, have it where no axis is changed.
    """
    codes, texts = pd.factorize(frame["variant"])
    unchanged = [all(v == "base" for v in json.loads(text).values()) for text in texts]
    # Code -1, a variant that is not known, finds the last.
    found = pd.Series(np.array([*unchanged, False], dtype=bool)[codes], index=frame.index)
    known = frame["own_config"]
    return known.where(known.notna(), found).to_numpy(dtype=bool)


def _notes(best: Row, wanted: Wanted) -> tuple[str, ...]:
    """What a user must know before relying on it."""
    notes = []
    if best["unstable"]:
        notes.append(
            f"{best['unstable']} of its {best['measured']} measurements did not settle: measure it "
            "again on a quiet machine, or with longer windows"
        )
    if best["measured"] == 1:
        notes.append("it was measured once, so nobody knows the spread: add repeats")
    uses_latency = LATENCY in (wanted.figure, *(limit.figure for limit in wanted.limits))
    requests = best["requests_min"]
    needed = statistics.requests_needed(99)
    if uses_latency and requests is not None and requests < needed:
        notes.append(
            f"its p99 stands on {requests:.0f} requests; below {needed} the true one may be "
            "worse: measure for longer"
        )
    for limit in wanted.limits:
        low, high = (best[f"{limit.figure.column}_{end}"] for end in ("low", "high"))
        beyond = low if limit.figure.highest else high
        if beyond is not None and not limit.met(np.array([beyond]))[0]:
            notes.append(
                f"the interval of its {limit.figure.words} reaches {beyond:.4g} "
                f"{limit.figure.unit}, beyond {limit}"
            )
    return tuple(notes)


def _nearest(table: pd.DataFrame, wanted: Sequence[Limit]) -> int | None:
    excess = np.max([w.excess(floats(table[w.figure.column])) for w in wanted], axis=0)
    excess[table["measured"].to_numpy() == 0] = np.inf
    nearest = int(np.argmin(excess))
    return nearest if np.isfinite(excess[nearest]) else None


def _failing(table: pd.DataFrame, wanted: Wanted) -> tuple[str, ...]:
    """Why nothing can be recommended, a sentence for each limit that cannot be met."""
    measured = table[table["measured"] > 0]
    if measured.empty:
        reasons = table["reason"].dropna()
        why = f": {reasons.mode().iloc[0]}" if len(reasons) else ""
        return (f"none of its {len(table)} configurations was measured{why}",)
    sentences = []
    for limit in wanted.limits:
        values = floats(measured[limit.figure.column])
        known = values[np.isfinite(values)]
        if not len(known):
            sentences.append(f"{limit}: no measurement has a figure of the {limit.figure.words}")
        elif not limit.met(values).any():
            closest, which = (
                (known.max(), "highest") if limit.figure.highest else (known.min(), "lowest")
            )
            sentences.append(
                f"{limit} is met by none: the {which} {limit.figure.words} measured is "
                f"{closest:.4g} {limit.figure.unit}"
            )
    if not sentences and len(wanted.limits) > 1:
        met = " and ".join(map(str, wanted.limits))
        sentences.append(f"{met} are each met by some, but not together by one")
    if not np.isfinite(floats(measured[wanted.figure.column])).any():
        sentences.append(
            f"--objective {wanted.objective}: no measurement has a figure of the "
            f"{wanted.figure.words}"
        )
    return tuple(sentences)
