"""What a server says that it loaded: as columns, and beside what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.measure.loaded_config import config_differences, resolved_columns
from tests.helpers.builders import parsed, variant

IO = 'input { name: "x" dims: 4 } output { name: "y" dims: 1 } '
"""With these in a config.pbtxt, a server has nothing to complete."""


def differences(asked: str, loaded: str, **axes: Any) -> list[str]:
    return config_differences(variant(**axes), parsed(asked), parsed(loaded))


def test_what_the_server_loaded_is_recorded_by_the_names_of_columns() -> None:
    text = (
        'platform: "onnxruntime_onnx" max_batch_size: 8 '
        "instance_group { count: 2 kind: KIND_CPU } "
        "instance_group { count: 1 kind: KIND_GPU gpus: [1, 0] rate_limiter { priority: 3 } } "
        "dynamic_batching { preferred_batch_size: [2, 4] max_queue_delay_microseconds: 7 "
        "priority_levels: 2 default_priority_level: 1 default_queue_policy { max_queue_size: 9 } } "
        "optimization { graph { level: 1 } cuda { graphs: true } } "
        "response_cache { enable: true } model_warmup { batch_size: 4 } "
        "model_warmup { batch_size: 1 }"
    )
    assert resolved_columns(parsed(text)) == {
        "platform": "onnxruntime_onnx",
        "max_batch_size": 8,
        "instance_count": 3,
        "instance_kind": "KIND_CPU,KIND_GPU",
        "gpus": (0, 1),
        "dynamic_batching": True,
        "preferred_batch_size": (2, 4),
        "max_queue_delay_us": 7,
        "preserve_ordering": False,
        "priority_levels": 2,
        "default_priority_level": 1,
        "default_queue_policy": (
            '{"allow_timeout_override": false, "default_timeout_us": 0, "max_queue_size": 9, '
            '"timeout_action": "REJECT"}'
        ),
        "accelerator": None,
        "graph_level": 1,
        "cuda_graphs": True,
        "response_cache": True,
        "rate_limiter": '{"priority": 3, "resources": []}',
        "warmup_batch_sizes": (1, 4),
    }


def test_what_the_server_did_not_say_is_missing() -> None:
    found = resolved_columns(ModelConfig())
    known = {"dynamic_batching": False, "max_batch_size": 0, "cuda_graphs": False}
    known |= {"response_cache": False}
    assert {name: value for name, value in found.items() if value is not None} == known


def test_the_place_and_the_profile_of_engines_are_no_part_of_an_accelerators_name() -> None:
    """They differ from node to node and from scan to scan, the accelerator does not."""
    text = (
        "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' "
        "parameters { key: 'precision_mode' value: 'FP16' } "
        "parameters { key: 'trt_engine_cache_path' value: '/tmp/1' } "
        "parameters { key: 'trt_profile_max_shapes' value: 'x:8x4' } } } }"
    )
    assert resolved_columns(parsed(text))["accelerator"] == (
        '{"name": "tensorrt", "precision_mode": "FP16"}'
    )


ENTRY = "optimization.execution_accelerators.gpu_execution_accelerator[0]"
ACCELERATED = (
    "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' "
    "parameters { key: 'precision_mode' value: '%s' } } } }"
)


@pytest.mark.parametrize(
    ("asked", "loaded", "difference"),
    [
        (
            "instance_group { count: 2 }",
            "instance_group { count: 1 }",
            "instance_group[0].count: asked for 2, the server loaded 1",
        ),
        (
            "instance_group { kind: KIND_CPU }",
            "instance_group { kind: KIND_GPU }",
            "instance_group[0].kind: asked for KIND_CPU, the server loaded KIND_GPU",
        ),
        (
            "instance_group { } instance_group { }",
            "instance_group { }",
            "instance_group: asked for 2 of them, the server loaded 1",
        ),
        (
            "dynamic_batching { preferred_batch_size: 4 }",
            "dynamic_batching { }",
            "dynamic_batching.preferred_batch_size: asked for [4], the server loaded []",
        ),
        ("dynamic_batching { }", "", "dynamic_batching: asked for {"),
        (
            "",
            "dynamic_batching { preferred_batch_size: 4 }",
            "dynamic_batching: not asked for, the server loaded {",
        ),
        ("", "dynamic_batching { }", "dynamic_batching: not asked for, the server loaded {"),
        (
            "dynamic_batching { }",
            "dynamic_batching { max_queue_delay_microseconds: 5 }",
            "dynamic_batching.max_queue_delay_microseconds: asked for 0, the server loaded 5",
        ),
        (
            ACCELERATED % "FP16",
            ACCELERATED % "FP32",
            f"{ENTRY}.parameters[precision_mode]: asked for 'FP16', the server loaded 'FP32'",
        ),
        (ACCELERATED % "FP16", "", "optimization: asked for"),
        (
            "",
            ACCELERATED % "FP16",
            "optimization.execution_accelerators: not asked for, the server loaded {",
        ),
        ("max_batch_size: 8", "max_batch_size: 4", "max_batch_size: asked for 8"),
        ("response_cache { enable: true }", "", "response_cache: asked for"),
        ("", "response_cache { enable: true }", "response_cache: not asked for"),
        (
            "model_warmup { name: 'a' batch_size: 4 inputs { key: 'x' value { dims: 4 } } }",
            "model_warmup { name: 'a' batch_size: 4 inputs { key: 'x' value { dims: 5 } } }",
            "model_warmup[0].inputs[x].dims: asked for [4], the server loaded [5]",
        ),
        ("", "model_warmup { name: 'a' }", "model_warmup: not asked for, the server loaded 1 of"),
        (
            "parameters { key: 'k' value { string_value: '1' } }",
            "parameters { key: 'k' value { string_value: '2' } }",
            "parameters[k].string_value: asked for '1', the server loaded '2'",
        ),
    ],
)
def test_a_field_that_is_not_as_asked_is_reported_with_both_values(
    asked: str, loaded: str, difference: str
) -> None:
    (found,) = differences(IO + asked, IO + loaded)
    assert found.startswith(difference)


def test_what_a_server_completes_is_no_difference() -> None:
    """As Triton 2.51 answered for a model whose config.pbtxt had the rest."""
    asked = IO + (
        'name: "m" platform: "onnxruntime_onnx" max_batch_size: 64 '
        "dynamic_batching { } instance_group { count: 2 }"
    )
    completed = asked.replace("dynamic_batching { }", "").replace("instance_group { count: 2 }", "")
    completed += (
        'backend: "onnxruntime" default_model_filename: "model.onnx" '
        "version_policy { latest { num_versions: 1 } } "
        "dynamic_batching { preferred_batch_size: 64 } "
        'instance_group { name: "m" count: 2 kind: KIND_GPU gpus: [0, 1] profile: "0" } '
        "optimization { input_pinned_memory { enable: true } }"
    )
    assert differences(asked, completed) == []


def test_what_a_model_leaves_to_the_server_is_no_difference_unless_an_axis_says_it() -> None:
    """Without inputs in its config.pbtxt, the server completes a model from its file."""
    loaded = IO + "max_batch_size: 4 dynamic_batching { preferred_batch_size: 4 }"
    assert differences("", loaded) == []
    (found,) = differences("", loaded, preferred_batch_size=None)
    assert found.startswith("dynamic_batching: not asked for, the server loaded {")
