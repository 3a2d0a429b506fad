"""What to measure again before relying on a recommendation: it, its rivals, and the base."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcbench.analysis.decide import deploy
from hpcbench.analysis.decide.candidates import RECOMMEND_COLUMNS
from hpcbench.analysis.decide.recommend import recommend_configurations
from hpcbench.analysis.decide.recommend_text import recommendation_json
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.errors import BadInput
from hpcbench.records.frame import load_results
from hpcbench.records.model_files import FILE_COLUMNS, current_digests, is_earlier


def points_to_confirm(source: Path) -> frozenset[str]:
    """Return the points that a recommendation rests on.

    Parameters
    ----------
    source
        Results, of which the highest throughput is recommended, or the folder that
        ``hpcbench recommend --out`` wrote, which knows the objective and the limits.

    Returns
    -------
    frozenset of str
        The point_ids of what is recommended, of those that cannot be told from it, and of the best
        of the model's own configuration, of every model and device.

    Raises
    ------
    BadInput
        Nothing is recommended.
    """
    listed = source / deploy.LIST
    if listed.is_file():
        try:
            advice = json.loads(listed.read_text(encoding="utf-8"))
            found = {point for one in advice for point in _points(one)}
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(f"{listed}: was not written by hpcbench", "name results") from error
    else:
        columns = list(dict.fromkeys((*RECOMMEND_COLUMNS, *FILE_COLUMNS)))
        frame = load_results(source, columns, categories=True)
        frame = frame[~is_earlier(frame, current_digests(source))]
        advice = map(recommendation_json, recommend_configurations(frame, Requirements()))
        found = {point for one in advice for point in _points(one)}
    if not found:
        raise BadInput(
            f"--confirm {source}: nothing is recommended there", "hpcbench recommend says why"
        )
    return frozenset(found)


def _points(one: Mapping[str, Any]) -> list[str]:
    if one["recommended"] is None:
        return []
    base = [one["base"]["point_id"]] if one["base"] else []
    return [one["recommended"]["point_id"], *one["as_good_points"], *base]
