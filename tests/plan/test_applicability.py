"""Which points a pool cannot measure is known before a job runs, with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcbench.config.site import Pool
from hpcbench.plan.applicability import not_applicable_reason, unfit_reason
from hpcbench.plan.backend import backend_name
from tests.helpers.builders import parsed, point, triton_model, variant

FP16 = '{"name": "tensorrt", "precision_mode": "FP16"}'
INT8 = '{"name": "tensorrt", "precision_mode": "INT8"}'
OPENVINO = '{"name": "openvino"}'
GPU, CPU = Pool(gpus_per_job=2), Pool()


def why(
    platform: str = "onnxruntime_onnx",
    pool: Pool = GPU,
    *,
    native: bool = False,
    config: str = "",
    **axes: Any,
) -> str | None:
    model = triton_model(config=f'platform: "{platform}" {config}')
    return not_applicable_reason(point(of=variant(model, **axes)), pool, native=native)


@pytest.mark.parametrize("platform", ["onnxruntime_onnx", "pytorch_libtorch", "tensorrt_plan"])
def test_nothing_is_known_against_a_model_as_it_is(platform: str) -> None:
    assert why(platform) is None
    assert why(platform, CPU) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"accelerator": FP16},
        {"accelerator": INT8},
        {"accelerator": FP16, "platform": "tensorflow_graphdef"},
        {"accelerator": OPENVINO, "pool": CPU},
        {"accelerator": OPENVINO, "instance_kind": "KIND_CPU"},
        {"accelerator": FP16, "instance_kind": "KIND_GPU", "gpus": (1,)},
        {"cuda_graphs": True, "platform": "tensorrt_plan"},
        {"cuda_graphs": False},
        {"graph_level": 1},
        {"instance_kind": "KIND_CPU", "native": True},
        {"accelerator": None, "platform": "pytorch_libtorch", "native": True},
    ],
)
def test_what_backend_and_pool_take_is_applicable(arguments: dict[str, Any]) -> None:
    assert why(**arguments) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"accelerator": FP16, "platform": "pytorch_libtorch"},
            "tensorrt: only the onnxruntime and tensorflow backends have it, not pytorch",
        ),
        ({"accelerator": FP16, "platform": "tensorrt_plan"}, "not tensorrt"),
        ({"accelerator": FP16, "pool": CPU}, "tensorrt needs a GPU, and the jobs of this pool"),
        ({"accelerator": FP16, "native": True}, "the native runtime serves on CPUs without"),
        ({"accelerator": OPENVINO, "pool": CPU, "native": True}, "openvino: the native runtime"),
        ({"accelerator": FP16, "instance_kind": "KIND_CPU"}, "the model's instances are KIND_CPU"),
        (
            {"accelerator": INT8, "platform": "tensorflow_savedmodel"},
            "precision_mode INT8: the tensorflow backend accepts FP32, FP16",
        ),
        ({"accelerator": OPENVINO}, "openvino runs on CPUs, and on this pool"),
        ({"instance_kind": "KIND_GPU", "pool": CPU}, "and the jobs of this pool have no GPU"),
        ({"instance_kind": "KIND_GPU", "native": True}, "the native runtime serves on CPUs"),
        ({"gpus": (0,), "pool": CPU}, "the jobs of this pool have no GPU"),
        ({"gpus": (0, 2)}, "gpus: there is no GPU 2; a job of the pool has 2, from 0"),
        (
            {"gpus": (0,), "config": "instance_group { kind: KIND_CPU }"},
            "add instance_kind: KIND_GPU",
        ),
        ({"config": "instance_group { kind: KIND_GPU }", "pool": CPU}, "instances on GPUs"),
        (
            {"cuda_graphs": True},
            "cuda_graphs: only the tensorrt backend has them, and the model's is onnx",
        ),
        ({"graph_level": 1, "platform": "pytorch_libtorch"}, "graph_level: only the onnxruntime"),
        ({"warmup": True, "platform": "ensemble"}, "warmup: Triton does not warm up ensembles"),
        ({"instance_count": 2, "platform": "ensemble"}, "an ensemble has no instances of its own"),
        (
            {"preferred_batch_size": (), "platform": "ensemble"},
            "preferred_batch_size: an ensemble has no instances",
        ),
        (
            {"response_cache": True, "config": "model_transaction_policy { decoupled: true }"},
            "Triton does not cache the responses of decoupled models",
        ),
        (
            {"max_batch_size": 4, "preferred_batch_size": (2, 8)},
            "preferred_batch_size 8 is over max_batch_size 4",
        ),
        (
            {"priority_levels": 2, "preserve_ordering": True},
            "Triton preserves the order with one priority level only",
        ),
        (
            {"priority_levels": 2, "default_priority_level": 3},
            "default_priority_level 3 is over priority_levels 2",
        ),
    ],
)
def test_what_they_cannot_take_is_reported(arguments: dict[str, Any], words: str) -> None:
    assert words in (why(**arguments) or "nothing")


def test_a_batch_over_a_variants_own_limit_is_reported() -> None:
    big = point(of=variant(max_batch_size=4), batch_size=8)
    assert not_applicable_reason(big, GPU, native=False) == "batch_size 8 is over max_batch_size 4"
    assert (
        not_applicable_reason(point(of=variant(max_batch_size=4), batch_size=4), GPU, native=False)
        is None
    )


def test_a_backend_that_the_prefix_lacks_is_named_before_a_job_runs() -> None:
    def said(platform: str, *has: str) -> str | None:
        of = variant(triton_model(config=f'platform: "{platform}"'))
        return not_applicable_reason(point(of=of), CPU, native=True, backends=frozenset(has))

    assert said("onnxruntime_onnx", "onnxruntime") is None
    assert said("ensemble") is None
    assert said("tensorflow_graphdef", "python", "onnxruntime") == (
        "it needs the tensorflow backend, and the native prefix has onnxruntime, python; "
        "hpcbench native --with tensorflow installs it"
    )


@pytest.mark.parametrize(
    ("file", "backend"),
    [("model.onnx", "onnxruntime"), ("model.pt", "pytorch"), ("model.savedmodel", "tensorflow")],
)
def test_a_model_without_a_configuration_is_known_by_its_file(
    tmp_path: Path, file: str, backend: str
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / file).touch()
    model = triton_model(folder=tmp_path)
    assert backend_name(model) == backend
    assert backend_name(triton_model(config='backend: "python"')) == "python"
    assert backend_name(triton_model()) is None


def test_what_only_the_server_knew_of_a_model_names_the_key() -> None:
    unknown = replace(triton_model(), inputs=None, max_batch_size=None)
    asked = point(of=variant(unknown))
    asked = replace(asked, load=replace(asked.load, batch_size=8, streaming=False))
    why = unfit_reason(asked, parsed("max_batch_size: 4"))
    assert (why or "").startswith("load.batch_size: 8 is over max_batch_size 4")
    assert "allowed: 1 to 4" in (why or "")
    assert (unfit_reason(asked, parsed("")) or "").endswith("allowed: 1")
    assert unfit_reason(asked, parsed("max_batch_size: 8")) is None
    decoupled = parsed("max_batch_size: 8 model_transaction_policy { decoupled: true }")
    assert "set streaming: true" in (unfit_reason(asked, decoupled) or "")
    streamed = replace(asked, load=replace(asked.load, streaming=True))
    assert unfit_reason(streamed, decoupled) is None


def test_a_batch_that_is_a_length_of_an_input_is_within_no_limit() -> None:
    flat = point(of=variant(triton_model(inputs={"x": (-1, 4)}, max_batch_size=0)))
    flat = replace(flat, load=replace(flat.load, batch_size=8))
    assert unfit_reason(flat, parsed("")) is None
