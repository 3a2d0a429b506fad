"""A variant's configuration differs from the model's own in its axes, and in nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbench.config.server_axes import FIELDS_OF_AXES, Server
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.measure.loaded_config import config_differences, resolved_columns
from hpcbench.measure.model_repository import write_overlay
from hpcbench.plan.model import TritonModel
from hpcbench.plan.model_config import configure, is_own, server_arguments, to_deploy
from hpcbench.plan.point import ServerVariant
from tests.helpers.builders import parsed, triton_model, variant

TENSORRT = '{"name": "tensorrt", "precision_mode": "FP16"}'
OPENVINO = '{"name": "openvino"}'
POLICY = (
    '{"allow_timeout_override": true, "default_timeout_us": 500, "max_queue_size": 8, '
    '"timeout_action": "DELAY"}'
)
LIMITER = '{"priority": 2, "resources": [{"count": 4, "global": true, "name": "R"}]}'

AXES: list[dict[str, Any]] = [
    {},
    {"instance_count": 3},
    {"preferred_batch_size": (4, 8)},
    {"preferred_batch_size": ()},
    {"preferred_batch_size": None},
    {"max_queue_delay_us": 0},
    {"max_queue_delay_us": 250},
    {"accelerator": None},
    {"accelerator": TENSORRT},
    {"accelerator": OPENVINO},
    {"instance_kind": "KIND_CPU"},
    {"instance_kind": "KIND_GPU"},
    {"gpus": (0, 2)},
    {"max_batch_size": 16},
    {"dynamic_batching": True},
    {"preserve_ordering": True},
    {"preserve_ordering": False},
    {"priority_levels": 3},
    {"default_priority_level": 2},
    {"default_queue_policy": POLICY},
    {"default_queue_policy": None},
    {"graph_level": -1},
    {"graph_level": 0},
    {"cuda_graphs": True},
    {"cuda_graphs": False},
    {"response_cache": True},
    {"response_cache": False},
    {"rate_limiter": LIMITER},
    {"rate_limiter": None},
    {"warmup": False},
    {"config": '{"optimization": {"eager_batching": true}}'},
]
COLUMNS = {
    *("instance_count", "instance_kind", "gpus", "max_batch_size", "dynamic_batching"),
    *("preferred_batch_size", "max_queue_delay_us", "preserve_ordering", "priority_levels"),
    *("default_priority_level", "default_queue_policy", "accelerator", "graph_level"),
    *("cuda_graphs", "response_cache", "rate_limiter"),
}


def model_of(config: ModelConfig) -> TritonModel:
    base = triton_model(config.name or "m")
    serialised = config.SerializeToString(deterministic=True)
    return type(base)(**{**base.__dict__, "config": serialised})


PARTS = {
    "instance_count": ("instance_group",),
    "instance_kind": ("instance_group",),
    "gpus": ("instance_group",),
    "rate_limiter": ("instance_group",),
    "max_batch_size": ("max_batch_size",),
    "dynamic_batching": ("dynamic_batching",),
    "preferred_batch_size": ("dynamic_batching.preferred_batch_size",),
    "max_queue_delay_us": ("dynamic_batching.max_queue_delay_microseconds",),
    "preserve_ordering": ("dynamic_batching.preserve_ordering",),
    "priority_levels": (
        "dynamic_batching.priority_levels",
        "dynamic_batching.default_priority_level",
    ),
    "default_priority_level": ("dynamic_batching.default_priority_level",),
    "default_queue_policy": ("dynamic_batching.default_queue_policy",),
    "accelerator": ("optimization.execution_accelerators",),
    "graph_level": ("optimization.graph",),
    "cuda_graphs": ("optimization.cuda.graphs",),
    "response_cache": ("response_cache",),
    "warmup": ("model_warmup",),
    "config": ("optimization.eager_batching",),
}


def test_every_server_axis_is_tried_and_stands_with_the_part_that_it_writes() -> None:
    """`PARTS` says what an axis may change. Tests below look whether it changes nothing else."""
    axes = set(Server.model_fields)
    assert {axis for tried in AXES for axis in tried} == axes == set(PARTS)
    written = {axis: part for part, names in FIELDS_OF_AXES.items() for axis in names}
    # Of a fragment of config.pbtxt nobody knows before what it writes.
    assert set(written) == axes - {"config"}
    for axis, part in written.items():
        assert {f"{each}.".startswith(f"{part}.") for each in PARTS[axis]} == {True}, axis


def besides(config: ModelConfig, axes: dict[str, Any]) -> ModelConfig:
    """A configuration without what ``axes`` set in it."""
    rest = ModelConfig()
    rest.CopyFrom(config)
    for axis in axes:
        for part in PARTS[axis]:
            *above, last = part.split(".")
            message = rest
            for name in above:
                message = getattr(message, name)
            message.ClearField(last)
    if axes.get("preferred_batch_size", ()) is None:
        rest.ClearField("dynamic_batching")
    for name in ("optimization.cuda", "dynamic_batching", "optimization"):
        *above, last = name.split(".")
        message = getattr(rest, above[0]) if above else rest
        if getattr(message, last) == type(getattr(message, last))():
            message.ClearField(last)
    return rest


def check_axes(config: ModelConfig, chosen: ServerVariant, axes: dict[str, Any]) -> None:
    """``config`` has what was asked for, and the server that loaded it would be believed."""
    found = resolved_columns(config)
    for axis, asked in axes.items():
        if axis in COLUMNS:
            assert found[axis] == asked or (axis == "rate_limiter" and not found[axis]), axis
    assert config_differences(chosen, config, config) == []


def check_round_trip(original: ModelConfig, axes: dict[str, Any]) -> None:
    model = model_of(original)
    chosen = variant(model, **axes)
    config = configure(chosen)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        (source / "1").mkdir(parents=True)
        placed = type(model)(**{**model.__dict__, "folder": source})
        write_overlay(variant(placed, **axes), config, Path(folder) / "overlay")
        text = (Path(folder) / "overlay" / model.name / "config.pbtxt").read_text()
    again = parsed(text)
    assert again == config
    named = ModelConfig()
    named.CopyFrom(original)
    named.name = model.name
    assert besides(again, axes) == besides(named, axes)
    if not axes:
        assert again == named
    check_axes(again, chosen, axes)
    assert model.config == original.SerializeToString(deterministic=True)


def check_deployed(original: ModelConfig, axes: dict[str, Any]) -> None:
    """What is deployed has the axes as they were measured, and all else as in the original."""
    model = model_of(original)
    chosen = variant(model, version=1, **axes)
    found = to_deploy(chosen)
    assert besides(found, axes) == besides(original, axes)
    assert {name: resolved_columns(found)[name] for name in axes if name in COLUMNS} == {
        name: resolved_columns(configure(chosen))[name] for name in axes if name in COLUMNS
    }


OF_PRODUCTION = """
    platform: "onnxruntime_onnx" max_batch_size: 64 default_model_filename: "net.onnx"
    input { name: "x" data_type: TYPE_FP32 dims: [16] }
    output { name: "y" data_type: TYPE_FP32 dims: [8] label_filename: "labels.txt" }
    version_policy { specific { versions: [1, 3] } } response_cache { enable: true }
    dynamic_batching { preferred_batch_size: [8] }
    parameters { key: "k" value { string_value: "v" } }
    model_warmup { name: "w" batch_size: 1 } metric_tags { key: "a" value: "b" }
"""


@pytest.mark.parametrize("policy", ["all {}", "latest { num_versions: 2 }", None])
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_what_is_deployed_differs_from_the_original_in_its_axes_only(
    axes: dict[str, Any], policy: str | None
) -> None:
    original = parsed(OF_PRODUCTION)
    if policy:
        original.ClearField("version_policy")
        original.MergeFrom(parsed(f"version_policy {{ {policy} }}"))
    check_deployed(original, axes)
    if not axes:
        assert to_deploy(variant(model_of(original), version=1)) == original


def test_what_is_deployed_names_no_folder_of_a_node() -> None:
    chosen = variant(model_of(parsed(OF_PRODUCTION)), accelerator=TENSORRT)
    assert "trt_engine_cache_path" in str(configure(chosen, (), Path("/scratch/engines")))
    assert "trt_engine_cache" not in str(to_deploy(chosen))
    assert "FP16" in str(to_deploy(chosen))


def test_every_configuration_of_cms_goes_through_every_axis_unchanged(shared_models: Path) -> None:
    paths = sorted(shared_models.parent.glob("model*/*/config.pbtxt"))
    assert len(paths) >= 4
    for path in paths:
        for axes in AXES:
            check_round_trip(parsed(path.read_text()), axes)
            check_deployed(parsed(path.read_text()), axes)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
groups = st.lists(
    st.builds(
        lambda name, kind, count, gpus: {
            "name": name,
            "kind": kind,
            "count": count,
            "gpus": gpus if kind == 1 else [],
        },
        names,
        st.integers(0, 3),
        st.integers(0, 9),
        st.lists(st.integers(0, 7), max_size=3),
    ),
    max_size=3,
)


@st.composite
def configurations(draw: st.DrawFn) -> ModelConfig:
    config = ModelConfig(
        name=draw(st.sampled_from(["", "m"])),
        platform=draw(names),
        max_batch_size=draw(st.integers(0, 512)),
        instance_group=draw(groups),
        default_model_filename=draw(names),
    )
    for name in draw(st.lists(names, max_size=3)):
        config.input.add(name=name, dims=draw(st.lists(st.integers(-1, 99), max_size=3)))
        config.output.add(name=name, label_filename=draw(names))
    for key in draw(st.lists(names, max_size=2)):
        config.parameters[key].string_value = draw(names)
    if draw(st.booleans()):
        config.dynamic_batching.preferred_batch_size.extend(draw(st.lists(st.integers(1, 99))))
        config.dynamic_batching.max_queue_delay_microseconds = draw(st.integers(0, 10**6))
        config.dynamic_batching.preserve_ordering = draw(st.booleans())
    if draw(st.booleans()):
        config.optimization.graph.level = draw(st.integers(-1, 1))
    if draw(st.booleans()):
        accelerators = config.optimization.execution_accelerators
        accelerators.gpu_execution_accelerator.add(name="tensorrt", parameters={"a": draw(names)})
    if draw(st.booleans()):
        config.version_policy.all.SetInParent()
    return config


@settings(max_examples=80)
@given(config=configurations(), axes=st.sampled_from(AXES))
def test_a_configuration_changes_in_nothing_but_the_axis(
    config: ModelConfig, axes: dict[str, Any]
) -> None:
    check_round_trip(config, axes)


def configured(text: str, **axes: Any) -> ModelConfig:
    return configure(variant(model_of(parsed(text)), **axes))


def test_the_first_group_keeps_its_kind_and_its_devices() -> None:
    config = configured(
        "instance_group { name: 'g' count: 1 kind: KIND_GPU gpus: [0, 1] }\n"
        "instance_group { count: 5 kind: KIND_CPU }",
        instance_count=4,
    )
    assert len(config.instance_group) == 1
    assert (
        config.instance_group[0]
        == parsed(
            "instance_group { name: 'g' count: 4 kind: KIND_GPU gpus: [0, 1] }"
        ).instance_group[0]
    )


def test_no_dynamic_batching_takes_everything_of_it_away() -> None:
    text = "dynamic_batching { preferred_batch_size: 8 max_queue_delay_microseconds: 5 }"
    config = configured(text, preferred_batch_size=None)
    assert not config.HasField("dynamic_batching")


def test_dynamic_batching_without_preferred_sizes_is_not_the_same_as_none() -> None:
    config = configured("", preferred_batch_size=())
    assert config.HasField("dynamic_batching")
    assert list(config.dynamic_batching.preferred_batch_size) == []


def test_a_delay_of_nothing_is_written_down() -> None:
    config = configured(
        "dynamic_batching { preferred_batch_size: 8 max_queue_delay_microseconds: 5 }",
        max_queue_delay_us=0,
    )
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_accelerators_replace_each_other_and_keep_the_other_optimizations() -> None:
    text = (
        "optimization { graph { level: -1 } execution_accelerators {"
        ' gpu_execution_accelerator { name: "auto_io" } } }'
    )
    for accelerator in (TENSORRT, OPENVINO, None):
        config = configured(text, accelerator=accelerator)
        assert config.optimization.graph.level == -1
        assert resolved_columns(config)["accelerator"] == accelerator


def test_openvino_is_an_accelerator_of_the_processor() -> None:
    accelerators = configured("", accelerator=OPENVINO).optimization.execution_accelerators
    assert [a.name for a in accelerators.cpu_execution_accelerator] == ["openvino"]
    assert not accelerators.gpu_execution_accelerator


def test_a_chosen_version_is_the_only_one_served() -> None:
    config = configure(variant(model_of(parsed("version_policy: { all { } }")), version=2))
    assert list(config.version_policy.specific.versions) == [2]
    assert not config.version_policy.HasField("all")


def test_a_model_without_a_configuration_gets_one_with_the_axes_alone() -> None:
    base = triton_model("bare")
    bare = type(base)(**{**base.__dict__, "config": b""})
    assert configure(variant(bare, instance_count=2)) == parsed(
        'name: "bare" instance_group { count: 2 }'
    )


def test_the_axes_of_instances_leave_one_group() -> None:
    text = "instance_group { count: 2 kind: KIND_GPU gpus: 1 } instance_group { kind: KIND_CPU }"
    config = configured(text, instance_kind="KIND_CPU")
    assert (
        config.instance_group[0]
        == parsed("instance_group { count: 2 kind: KIND_CPU }").instance_group[0]
    )
    assert len(config.instance_group) == 1
    assert list(configured(text, gpus=(0, 2)).instance_group[0].gpus) == [0, 2]


def test_a_model_with_priorities_has_a_default_among_them() -> None:
    assert configured("", priority_levels=3).dynamic_batching.default_priority_level == 1
    text = "dynamic_batching { priority_levels: 9 default_priority_level: 7 }"
    batching = configured(text, priority_levels=5).dynamic_batching
    assert (batching.priority_levels, batching.default_priority_level) == (5, 5)
    assert configured(text, priority_levels=0).dynamic_batching.default_priority_level == 0


def test_a_queue_policy_is_written_with_tritons_names() -> None:
    policy = configured("", default_queue_policy=POLICY).dynamic_batching.default_queue_policy
    assert (
        policy
        == parsed(
            "dynamic_batching { default_queue_policy { timeout_action: DELAY max_queue_size: 8 "
            "default_timeout_microseconds: 500 allow_timeout_override: true } }"
        ).dynamic_batching.default_queue_policy
    )


def test_a_cache_that_nobody_asked_for_is_off() -> None:
    """perf_analyzer repeats its input, so that it would measure the cache."""
    assert not configured("response_cache { enable: true }").response_cache.enable
    assert configured("", response_cache=True).response_cache.enable
    fragment = '{"response_cache": {"enable": true}}'
    assert configured("", config=fragment).response_cache.enable


def test_what_a_configuration_needs_of_the_server_is_an_option_of_it() -> None:
    assert server_arguments([configured("instance_group { count: 2 }")]) == []
    assert server_arguments([configured("", response_cache=True)]) == [
        "--cache-config=local,size=268435456"
    ]
    assert server_arguments([configured("", rate_limiter=LIMITER)]) == [
        "--rate-limit=execution_count"
    ]
    mine = ("--cache-config=local,size=1", "--backend-config=x")
    assert server_arguments([configured("", response_cache=True)], mine) == [*mine]


def test_a_fragment_is_merged_last_and_keeps_what_it_does_not_name() -> None:
    text = (
        'parameters { key: "a" value { string_value: "1" } } max_batch_size: 8 '
        "optimization { graph { level: 1 } input_pinned_memory { enable: true } } "
        "version_policy { all { } }"
    )
    fragment = (
        '{"parameters": {"b": {"string_value": "2"}}, "version_policy": {"latest": '
        '{"num_versions": 2}}, "optimization": {"input_pinned_memory": {"enable": false}}}'
    )
    config = configured(text, graph_level=2, config=fragment)
    assert config == parsed(
        'name: "m" parameters { key: "a" value { string_value: "1" } } '
        'parameters { key: "b" value { string_value: "2" } } max_batch_size: 8 '
        "optimization { graph { level: 2 } input_pinned_memory { enable: false } } "
        "version_policy { latest { num_versions: 2 } }"
    )


def test_lists_of_a_fragment_replace_those_of_the_model() -> None:
    fragment = '{"instance_group": [{"count": 3}]}'
    config = configured("instance_group { count: 1 } instance_group { count: 2 }", config=fragment)
    assert [group.count for group in config.instance_group] == [3]


INPUTS = (
    'platform: "onnxruntime_onnx" max_batch_size: 64 '
    'input { name: "x" data_type: TYPE_FP32 dims: [2, -1] } '
    'output { name: "y" data_type: TYPE_FP32 dims: 1 } '
)
REQUESTS = (((("x", (2, 50)),), 1), ((("x", (2, 50)),), 8))


def prepared(text: str, engines: Path | None = Path("/scratch/e"), **axes: Any) -> ModelConfig:
    return configure(variant(model_of(parsed(text)), **axes), REQUESTS, engines)


def parameters(config: ModelConfig) -> dict[str, str]:
    (entry,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    return dict(entry.parameters)


def test_tensorrt_keeps_its_engines_and_knows_what_will_be_measured() -> None:
    config = prepared(INPUTS, accelerator=TENSORRT)
    assert parameters(config) == {
        "precision_mode": "FP16",
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": "/scratch/e",
        "trt_profile_min_shapes": "x:1x2x50",
        "trt_profile_opt_shapes": "x:8x2x50",
        "trt_profile_max_shapes": "x:8x2x50",
    }
    assert resolved_columns(config)["accelerator"] == TENSORRT
    assert resolved_columns(config)["warmup_batch_sizes"] == (1, 8)


def test_a_user_may_keep_such_parameters_from_an_old_server_or_set_them() -> None:
    plain = '{"engine_cache": "false", "name": "tensorrt", "profiles": "false"}'
    assert parameters(prepared(INPUTS, accelerator=plain)) == {}
    own = '{"name": "tensorrt", "trt_profile_opt_shapes": "x:4x2x50"}'
    assert parameters(prepared(INPUTS, accelerator=own))["trt_profile_opt_shapes"] == "x:4x2x50"


@pytest.mark.parametrize(
    ("text", "axes", "sizes"),
    [
        ("", {}, None),
        ("", {"warmup": True}, (1, 8)),
        ("", {"accelerator": OPENVINO}, (1, 8)),
        ("", {"accelerator": OPENVINO, "warmup": False}, None),
        ("", {"accelerator": None}, None),
        ("model_warmup { name: 'own' batch_size: 4 } ", {}, (4,)),
        ("model_warmup { name: 'own' batch_size: 4 } ", {"warmup": False}, None),
        ("model_warmup { name: 'own' batch_size: 4 } ", {"warmup": True}, (1, 8)),
        ("model_warmup { name: 'own' batch_size: 4 } ", {"accelerator": TENSORRT}, (4,)),
    ],
)
def test_servers_that_build_at_first_use_warm_up_unless_the_campaign_says_otherwise(
    text: str, axes: dict[str, Any], sizes: tuple[int, ...] | None
) -> None:
    assert resolved_columns(prepared(INPUTS + text, **axes))["warmup_batch_sizes"] == sizes


def test_an_accelerator_of_the_models_own_is_warmed_up_and_else_as_it_is() -> None:
    own = (
        "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' } } }"
    )
    config = prepared(INPUTS + own)
    assert parameters(config) == {}
    assert resolved_columns(config)["warmup_batch_sizes"] == (1, 8)


OWN = (
    "instance_group { count: 2 kind: KIND_GPU }\n"
    "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }\n"
)


@pytest.mark.parametrize(
    ("extra", "axes", "own"),
    [
        ("", {}, True),
        ("", {"accelerator": None}, True),
        ("", {"accelerator": TENSORRT}, False),
        ("", {"preferred_batch_size": None}, True),
        ("", {"preferred_batch_size": ()}, False),
        ("dynamic_batching { }\n", {"preferred_batch_size": ()}, True),
        ("dynamic_batching { }\n", {"preferred_batch_size": None}, False),
        ("", {"response_cache": False, "cuda_graphs": False, "rate_limiter": None}, True),
        ("response_cache { enable: true }\n", {"response_cache": False}, True),
        ("", {"graph_level": -1}, False),
        ("", {"instance_count": 1}, False),
        ("", {"max_batch_size": 256}, True),
        ("", {"max_batch_size": 128}, False),
        (OWN, {"instance_count": 2, "instance_kind": "KIND_GPU"}, True),
        (OWN, {"preferred_batch_size": (4, 8), "max_queue_delay_us": 100}, True),
        (OWN, {"preferred_batch_size": (4, 8), "max_queue_delay_us": 0}, False),
        (OWN, {"config": '{"dynamic_batching": {"max_queue_delay_microseconds": 100}}'}, True),
    ],
)
def test_axes_that_say_what_the_model_says_leave_its_own_configuration(
    extra: str, axes: dict[str, Any], own: bool
) -> None:
    assert is_own(variant(triton_model(config=extra), **axes)) is own


def test_a_warm_up_that_nobody_asked_the_model_for_is_not_its_own_configuration() -> None:
    model = triton_model(config='input { name: "x" data_type: TYPE_FP32 dims: [16] }')
    requests = [((("x", (16,)),), 4)]
    assert not is_own(variant(model, warmup=True), requests)
    assert is_own(variant(model, warmup=False), requests)
