"""What may be the cause of a failure is said where perf_analyzer's words alone do not say it."""

from __future__ import annotations

from dataclasses import replace

from hpcbench.measure.hints import with_hint
from hpcbench.measure.perf_output import Outcome
from hpcbench.records.columns import Status
from tests.helpers.builders import point, triton_model, variant

NOT_READY = (
    "Failed to process the request(s) for model 'bls_0', message: TritonModelException: Model add "
    "- Error when running inference: Failed for execute the inference request. Model 'add' is not "
    "ready."
)
"""What perf_analyzer printed of a model in Python that calls another one."""


def test_a_model_that_is_called_and_not_there_is_named_with_the_key_that_loads_it() -> None:
    bls = triton_model("bls")
    outcome = with_hint(Outcome(Status.FAILED, NOT_READY), point(of=variant(bls)))
    assert (outcome.reason or "").endswith(
        "Model 'add' is not ready; the model calls 'add', which this server does not hold; add it "
        "to the model in the campaign, as in {name: bls, needs: [add]}"
    )
    more = point(of=variant(replace(bls, needs=("sub",))))
    assert "needs: [sub, add]" in (with_hint(Outcome(Status.FAILED, NOT_READY), more).reason or "")


def test_random_strings_are_named_where_a_model_with_strings_fails() -> None:
    config = 'input { name: "x" data_type: TYPE_STRING dims: 1 }'
    words = point(of=variant(triton_model(inputs={}, config=config)))
    words = replace(words, variant=variant(replace(words.variant.model, inputs=(("x", (1,)),))))
    failed = Outcome(Status.FAILED, "not a number")
    assert "string_data" in (with_hint(failed, words).reason or "")
    given = replace(words, load=replace(words.load, string_data="7"))
    assert with_hint(failed, given) == failed


def test_what_was_measured_or_fails_for_its_own_reason_gets_no_hint() -> None:
    for outcome in (
        Outcome(Status.OK, None, {"throughput_infer_per_s": 1.0}),
        Outcome(Status.FAILED, "the model says no"),
    ):
        assert with_hint(outcome, point()) == outcome
