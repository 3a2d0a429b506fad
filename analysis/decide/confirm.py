"""What to measure again before relying on a recommendation: it, its rivals, and the base."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcbench.analysis.decide import deploy
from hpcbench.analysis.decide.candidates import RECOMMEND_COLUMNS
from hpcbench.analysis.decide.recommend import NEXT_BEST, recommend_configurations
from hpcbench.analysis.decide.recommend_text import recommendation_json
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.errors import BadInput
from hpcbench.records.frame import load_results
from hpcbench.records.model_files import FILE_COLUMNS, current_digests, is_earlier

OnNote = Callable[[str], None]


def _ignore(note: str) -> None:
    """Keep a note to oneself."""


def points_to_confirm(source: Path, on_note: OnNote = _ignore) -> frozenset[str]:
    """Return the points that a recommendation rests on.

    Parameters
    ----------
    source
        Results, of which the highest throughput is recommended, or the folder that
        ``hpcbench recommend --out`` wrote, which knows the objective and the limits.
    on_note
        Called with a sentence where nobody knows which are as good as what is recommended.

    Returns
    -------
    frozenset of str
        The point_ids of what is recommended, of those that cannot be told from it, and of the best
        of the model's own configuration, of every model and device. Where nothing was measured
        twice, so that nobody can say which those are, the NEXT_BEST after it take their place.

    Raises
    ------
    BadInput
        Nothing is recommended.
    """
    listed = source / deploy.LIST
    if listed.is_file():
        try:
            advice = list(json.loads(listed.read_text(encoding="utf-8")))
            found = {point for one in advice for point in _points(one)}
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(f"{listed}: was not written by hpcbench", "name results") from error
    else:
        columns = list(dict.fromkeys((*RECOMMEND_COLUMNS, *FILE_COLUMNS)))
        frame = load_results(source, columns, categories=True)
        frame = frame[~is_earlier(frame, current_digests(source))]
        advice = [*map(recommendation_json, recommend_configurations(frame, Requirements()))]
        found = {point for one in advice for point in _points(one)}
    if not found:
        raise BadInput(
            f"--confirm {source}: nothing is recommended there", "hpcbench recommend says why"
        )
    if any(map(_unknown, advice)):
        on_note(
            f"--confirm {source}: where nothing was measured twice, nobody knows what is as good "
            f"as what is recommended: the next best {NEXT_BEST} are measured again with it"
        )
    return frozenset(found)


def _points(one: Mapping[str, Any]) -> list[str]:
    if one["recommended"] is None:
        return []
    base = [one["base"]["point_id"]] if one["base"] else []
    rivals = [*one["as_good_points"], *_unknown(one)[:NEXT_BEST]]
    return [one["recommended"]["point_id"], *rivals, *base]


def _unknown(one: Mapping[str, Any]) -> list[str]:
    """Return the next best of which nobody knows whether they are as good, best first."""
    return [other["point_id"] for other in one["runners_up"] if other["as_good"] is None]
