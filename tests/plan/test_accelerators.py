"""What compiled models need: warm-up requests, profiles, and folders for their engines."""

from __future__ import annotations

from typing import Any

import pytest

from hpcbench.plan.accelerators import (
    cache_key,
    compiling_accelerators,
    tensorrt_profile,
    warmup_requests,
)
from hpcbench.plan.model_config import configure
from tests.helpers.builders import parsed, triton_model, variant

FP16 = '{"name": "tensorrt", "precision_mode": "FP16"}'
FP32 = '{"name": "tensorrt", "precision_mode": "FP32"}'
OPENVINO = '{"name": "openvino"}'
MODEL = parsed(
    "max_batch_size: 64 dynamic_batching { } "
    'input { name: "points" data_type: TYPE_FP32 dims: [2, -1] } '
    'input { name: "words" data_type: TYPE_STRING dims: [3] } '
    'input { name: "ids" data_type: TYPE_INT64 dims: [-1] }'
)
SHORT = (("points", (2, 5)), ("ids", (5,)))
LONG = (("points", (2, 50)), ("ids", (7,)))


def key(axes: dict[str, Any], **changes: Any) -> str:
    place = {"digest": "m1", "software": "s1", "tensorrt": "10.3", "architecture": "sm80"}
    model = triton_model(
        inputs={"x": (16,)}, config='input { name: "x" data_type: TYPE_FP32 dims: [-1] }'
    )
    lengths = changes.pop("length", 16)
    requests = (((("x", (lengths,)),), changes.pop("batch_size", 8)),)
    config = configure(variant(model, **axes), requests)
    return cache_key(config, **(place | changes))


def test_engines_are_shared_by_what_they_do_not_depend_on() -> None:
    one = key({"accelerator": FP16})
    assert one.startswith("sm80-trt10.3-")
    assert one == key({"accelerator": FP16, "instance_count": 3, "rate_limiter": None})


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "m2"},
        {"software": "s2"},
        {"tensorrt": "8.6"},
        {"architecture": "sm90"},
        {"length": 32},
        {"batch_size": 64},
    ],
)
def test_engines_are_built_again_for_whatever_they_depend_on(changes: dict[str, Any]) -> None:
    assert key({"accelerator": FP16}) != key({"accelerator": FP16}, **changes)
    assert key({"accelerator": FP16}) != key({"accelerator": FP32})


def test_only_accelerators_that_compile_are_named() -> None:
    assert compiling_accelerators(configure(variant(accelerator=FP16))) == ("tensorrt",)
    assert compiling_accelerators(configure(variant(accelerator=OPENVINO))) == ("openvino",)
    assert compiling_accelerators(configure(variant())) == ()


def test_each_kind_of_request_is_warmed_up_once() -> None:
    found = warmup_requests(MODEL, [(SHORT, 1), (SHORT, 8), (LONG, 8)])
    assert [(w.batch_size, list(w.inputs["points"].dims)) for w in found] == [
        (1, [2, 5]),
        (8, [2, 5]),
        (8, [2, 50]),
    ]
    assert len({w.name for w in found}) == 3


def test_strings_are_empty_and_numbers_zero() -> None:
    (entry,) = warmup_requests(MODEL, [(SHORT, 4)])
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
    assert warmup_requests(MODEL, [((), 4)]) == []
    assert tensorrt_profile(MODEL, [((), 4), (SHORT, 4)]) == {}
    assert tensorrt_profile(MODEL, []) == {}


def test_a_model_without_a_batch_dimension_is_warmed_up_with_one() -> None:
    model = parsed('input { name: "x" data_type: TYPE_FP32 dims: [-1, 4] }')
    (entry,) = warmup_requests(model, [((("x", (9, 4)),), 1)])
    assert (entry.batch_size, list(entry.inputs["x"].dims)) == (1, [9, 4])
    assert tensorrt_profile(model, [((("x", (9, 4)),), 1), ((("x", (2, 4)),), 1)]) == {
        "trt_profile_min_shapes": "x:2x4",
        "trt_profile_opt_shapes": "x:9x4",
        "trt_profile_max_shapes": "x:9x4",
    }


def test_a_profile_reaches_from_one_inference_to_the_largest_batch_that_may_form() -> None:
    found = tensorrt_profile(MODEL, [(SHORT, 1), (LONG, 4), (SHORT, 16)])
    assert found == {
        "trt_profile_min_shapes": "points:1x2x5,words:1x3,ids:1x5",
        "trt_profile_opt_shapes": "points:16x2x5,words:16x3,ids:16x5",
        "trt_profile_max_shapes": "points:64x2x50,words:64x3,ids:64x7",
    }
    alone = parsed(str(MODEL).replace("dynamic_batching {\n}\n", ""))
    assert tensorrt_profile(alone, [(SHORT, 1), (SHORT, 16)])["trt_profile_max_shapes"] == (
        "points:16x2x5,words:16x3,ids:16x5"
    )
