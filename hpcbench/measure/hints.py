"""What may be the cause of a failure, where perf_analyzer's words alone do not say it."""

import re
from dataclasses import replace

from hpcbench.measure.perf_output import Outcome
from hpcbench.plan import model_limits
from hpcbench.plan.point import Point
from hpcbench.records.columns import Status

_NOT_THERE = re.compile(r"Failed for execute the inference request\. Model '([^']+)' is not ready")
"""What Triton's Python backend says of a model that is not on the server."""


def with_hint(outcome: Outcome, point: Point) -> Outcome:
    """Return an outcome whose reason says what may be its cause.

    Parameters
    ----------
    outcome
        What became of a point.
    point
        The point.

    Returns
    -------
    Outcome
        The same where there is nothing to add.
    """
    if outcome.metrics.get("overloaded") and "throughput_infer_per_s" not in outcome.metrics:
        # Where nobody can say a rate, not even the server, it was no overload.
        return Outcome(Status.TIMEOUT, _NO_RESPONSE)
    if outcome.status is not Status.FAILED:
        return outcome
    hint = _called_hint(outcome.reason or "", point) or _strings_hint(point)
    if hint is None:
        return outcome
    return replace(outcome, reason=f"{(outcome.reason or '').rstrip('.')}; {hint}")


_NO_RESPONSE = (
    "perf_analyzer printed nothing, and the server answered no request; the model may wait for "
    "something that does not come, or take longer for one request than the whole time (see "
    "the server's log, and send one request by hand)"
)


def _called_hint(reason: str, point: Point) -> str | None:
    found = _NOT_THERE.search(reason)
    if not found:
        return None
    model = point.variant.model
    needs = ", ".join([*model.needs, found[1]])
    return (
        f"the model calls '{found[1]}', which this server does not hold; add it to the model in "
        f"the campaign, as in {{name: {model.name}, needs: [{needs}]}}"
    )


def _strings_hint(point: Point) -> str | None:
    model, load = point.variant.model, point.load
    random = load.input_data == "random" and load.string_data is None
    if model.inputs is None or not random or not model_limits.has_strings(model):
        return None
    return "its strings were random; string_data or a file as input_data gives it others"
