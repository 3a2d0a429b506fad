"""What a server runs before it is measured: every batch, every shape, every type of input."""

from __future__ import annotations

from hpcbench.plan.model_config import profile, warmups
from tests.helpers.builders import parsed

MODEL = parsed(
    "max_batch_size: 64 dynamic_batching { } "
    'input { name: "points" data_type: TYPE_FP32 dims: [2, -1] } '
    'input { name: "words" data_type: TYPE_STRING dims: [3] } '
    'input { name: "ids" data_type: TYPE_INT64 dims: [-1] }'
)
SHORT = (("points", (2, 5)), ("ids", (5,)))
LONG = (("points", (2, 50)), ("ids", (7,)))


def test_each_kind_of_request_is_warmed_up_once() -> None:
    found = warmups(MODEL, [(SHORT, 1), (SHORT, 8), (LONG, 8)])
    assert [(w.batch_size, list(w.inputs["points"].dims)) for w in found] == [
        (1, [2, 5]),
        (8, [2, 5]),
        (8, [2, 50]),
    ]
    assert len({w.name for w in found}) == 3


def test_strings_are_empty_and_numbers_zero() -> None:
    (entry,) = warmups(MODEL, [(SHORT, 4)])
    assert (
        entry
        == parsed(
            'model_warmup { name: "hpcbench-0" batch_size: 4 count: 1 '
            'inputs { key: "points" value { data_type: TYPE_FP32 dims: [2, 5] zero_data: true } } '
            'inputs { key: "words" value { data_type: TYPE_STRING dims: [3] zero_data: true } } '
            'inputs { key: "ids" value { data_type: TYPE_INT64 dims: [5] zero_data: true } } }'
        ).model_warmup[0]
    )


def test_what_only_a_data_file_knows_is_not_guessed() -> None:
    assert warmups(MODEL, [((), 4)]) == []
    assert profile(MODEL, [((), 4), (SHORT, 4)]) == {}
    assert profile(MODEL, []) == {}


def test_a_model_without_a_batch_dimension_is_warmed_up_with_one() -> None:
    model = parsed('input { name: "x" data_type: TYPE_FP32 dims: [-1, 4] }')
    (entry,) = warmups(model, [((("x", (9, 4)),), 1)])
    assert (entry.batch_size, list(entry.inputs["x"].dims)) == (1, [9, 4])
    assert profile(model, [((("x", (9, 4)),), 1), ((("x", (2, 4)),), 1)]) == {
        "trt_profile_min_shapes": "x:2x4",
        "trt_profile_opt_shapes": "x:9x4",
        "trt_profile_max_shapes": "x:9x4",
    }


def test_a_profile_reaches_from_one_inference_to_the_largest_batch_that_may_form() -> None:
    found = profile(MODEL, [(SHORT, 1), (LONG, 4), (SHORT, 16)])
    assert found == {
        "trt_profile_min_shapes": "points:1x2x5,words:1x3,ids:1x5",
        "trt_profile_opt_shapes": "points:16x2x5,words:16x3,ids:16x5",
        "trt_profile_max_shapes": "points:64x2x50,words:64x3,ids:64x7",
    }
    alone = parsed(str(MODEL).replace("dynamic_batching {\n}\n", ""))
    assert profile(alone, [(SHORT, 1), (SHORT, 16)])["trt_profile_max_shapes"] == (
        "points:16x2x5,words:16x3,ids:16x5"
    )
