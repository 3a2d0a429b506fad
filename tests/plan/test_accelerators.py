"""What the logs of real servers tell of accelerators, and which engines stand for each other."""

from __future__ import annotations

from typing import Any

import pytest

from hpcbench.measure import server_log
from hpcbench.plan.accelerators import (
    accelerator_refusal,
    accelerator_use,
    cache_key,
    compiling_accelerators,
)
from hpcbench.plan.model_config import configure
from tests.helpers.builders import triton_model, variant
from tests.helpers.paths import DATA

LOGS = DATA / "server_log"
FP16 = '{"name": "tensorrt", "precision_mode": "FP16"}'
FP32 = '{"name": "tensorrt", "precision_mode": "FP32"}'
OPENVINO = '{"name": "openvino"}'


def log(name: str) -> str:
    return (LOGS / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("all_tensorrt", {"TensorrtExecutionProvider": 1}),
        ("partly_tensorrt", {"TensorrtExecutionProvider": 11}),
        ("tensorflow_engines", {}),
    ],
)
def test_an_accelerator_that_is_used_is_told_with_what_runs_on_it(
    name: str, nodes: dict[str, int]
) -> None:
    found = accelerator_use(log(name), "tensorrt")
    assert found.fell_back is None
    assert found.nodes == nodes


def test_a_model_that_runs_on_others_has_fallen_back() -> None:
    found = accelerator_use(log("no_tensorrt"), "tensorrt")
    assert found.nodes == {"CPUExecutionProvider": 4, "CUDAExecutionProvider": 301}
    assert found.fell_back == (
        "no part of the model runs on TensorrtExecutionProvider; its nodes: 4 on "
        "CPUExecutionProvider, 301 on CUDAExecutionProvider"
    )
    assert accelerator_use(log("all_tensorrt"), "openvino").fell_back is not None


@pytest.mark.parametrize("text", ["", "I1123 model_lifecycle.cc:642] loading: m:1"])
def test_a_log_that_tells_nothing_is_no_proof(text: str) -> None:
    assert "does not tell" in (accelerator_use(text, "tensorrt").fell_back or "")
    assert accelerator_use(log("tensorrt_without_verbose"), "tensorrt").fell_back is not None


def test_of_several_sessions_the_one_with_the_accelerator_counts() -> None:
    """Parts of a model, and the session that only reads its inputs, are listed, too."""
    both = accelerator_use(
        log("no_tensorrt") + log("all_tensorrt") + log("no_tensorrt"), "tensorrt"
    )
    assert both.fell_back is None
    assert both.nodes == {"TensorrtExecutionProvider": 1}


@pytest.mark.parametrize(
    "warning",
    [
        "[TensorRT EP] ORT_TENSORRT_INT8_ENABLE is set, but platform doesn't support fast native",
        "W0211 1] GPU Execution Accelerator will be ignored for model instance on CPU",
    ],
)
def test_a_backend_that_goes_on_with_less_than_was_asked_has_fallen_back(warning: str) -> None:
    found = accelerator_use(f"{log('all_tensorrt')}{warning}\n", "tensorrt")
    assert warning.rpartition("] ")[2] in (found.fell_back or "")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (log("refused_name"), "unknown Execution Accelerator 'tensorrt' is requested"),
        (log("refused_kind"), "GPU Execution Accelerator can only be set on non-CPU"),
        (
            "unknown parameter 'trt_profile_a' is provided for TensorRT Execution Accelerator",
            "with profiles: false and engine_cache: false",
        ),
        ("Invalid argument: unsupported precision mode 'BF16' is requested", "'BF16'"),
    ],
)
def test_a_backend_without_the_accelerator_says_so(message: str, words: str) -> None:
    assert words in (accelerator_refusal(message) or "")


def test_other_failures_of_a_load_are_no_refusal() -> None:
    assert accelerator_refusal("Internal: the file is no ONNX model") is None


def test_a_server_that_refuses_an_accelerator_is_not_applicable() -> None:
    error = server_log.load_failure(log("refused_kind"))
    assert error.not_applicable
    assert "can only be set on non-CPU backend context" in error.message


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
