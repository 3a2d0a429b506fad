"""Earlier measurements in a results folder say how long the rest will take."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from hpcbench.plan.placement import Pace, Placement
from hpcbench.plan.point import Point

PACE_COLUMNS = ("point_id", "pool", "perf_analyzer_s", "server_ready_s", "server_fresh")
"""The columns that `with_paces` needs."""


def earlier_rows(results: Path) -> list[dict[str, Any]]:
    """Return what a results folder says of the time that measurements took.

    Parameters
    ----------
    results
        The folder; it need not exist.

    Returns
    -------
    list of dict
        Values by PACE_COLUMNS; what is damaged is left out.
    """
    # Importing them imports pyarrow, which planning without results does not use.
    from hpcbench.records import store
    from hpcbench.records.folder import Results

    if not Results(results).records.is_dir():
        return []
    table = store.read_table(results, PACE_COLUMNS, on_damage=lambda _: None)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def with_paces(
    placements: Mapping[str, Iterable[Placement]],
    points: Iterable[Point],
    rows: Iterable[Mapping[str, Any]],
) -> dict[str, tuple[Placement, ...]]:
    """Return placements that expect of each model what it took before.

    Parameters
    ----------
    placements
        By pool.
    points
        All points of the plan.
    rows
        Earlier measurements with PACE_COLUMNS; those of other points say nothing.

    Returns
    -------
    dict
        By pool, in the order given: a session that repeats another one has its order. With a pace
        where the pool has measured the model.
    """
    known = {point.id: point for point in points}
    measured: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["point_id"] in known and row["perf_analyzer_s"] is not None:
            label = known[row["point_id"]].variant.label
            measured.setdefault((row["pool"], label), []).append(row)
    paces = {key: _pace(found, known) for key, found in measured.items()}
    return {
        pool: tuple(
            replace(placement, pace=paces.get((pool, placement.points[0].variant.label)))
            for placement in waiting
        )
        for pool, waiting in placements.items()
    }


def _pace(rows: list[Mapping[str, Any]], points: Mapping[str, Point]) -> Pace | None:
    ready = [row["server_ready_s"] for row in rows if row["server_fresh"] and row["server_ready_s"]]
    if not ready:
        return None
    expected_s = fmean(points[row["point_id"]].load.estimate_s for row in rows)
    return Pace(median(ready), fmean(row["perf_analyzer_s"] for row in rows) / expected_s)
