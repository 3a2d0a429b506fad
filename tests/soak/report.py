"""The table of a soak: each fault, how often, what happened, the longest recovery."""

from collections import defaultdict
from collections.abc import Sequence

from tests.soak.campaign import Happened, Outcome

_HEAD = (
    "| fault | times | with others at once | rows that failed | runs that ended "
    "| median recovery | longest |"
)
_HEAD_OF_CAMPAIGNS = (
    "| site | seed | points | faults | runs | lost, doubled or left | driver's memory | time |"
)


def table(outcomes: Sequence[Outcome]) -> str:
    """The table in Markdown, over all campaigns."""
    by_kind: dict[str, list[Happened]] = defaultdict(list)
    for outcome in outcomes:
        for each in outcome.happened:
            by_kind[each.kind].append(each)
    lines = [_HEAD, "|---|---|---|---|---|---|---|"]
    for kind, its in sorted(by_kind.items()):
        times = sorted(each.recovered_s for each in its if each.recovered_s is not None) or [0.0]
        lines.append(
            f"| {kind} | {len(its)} | {sum(each.at_once > 1 for each in its)} "
            f"| {sum(each.failed_rows for each in its)} | {sum(len(each.ended) for each in its)} "
            f"| {times[len(times) // 2]:.1f} s | {times[-1]:.1f} s |"
        )
    return "\n".join(lines)


def campaigns(outcomes: Sequence[Outcome]) -> str:
    """A line for each campaign."""
    lines = [
        f"| {its.scheduler} | {its.seed} | {its.points} | {len(its.happened)} "
        f"| {len(its.runs)} | {len(its.problems)} | {its.driver_bytes / 1e6:.0f} MB "
        f"| {its.seconds:.0f} s |"
        for its in outcomes
    ]
    return "\n".join([_HEAD_OF_CAMPAIGNS, "|---|---|---|---|---|---|---|---|", *lines])
