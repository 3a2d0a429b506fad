"""The overlay repository: the model's own files, and a configuration that differs in one axis."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from hpcbench.grid import ServerVariant
from hpcbench.model import TritonModel, read_model
from hpcbench.model_repository import configure, differences, resolved, shows, write_overlay
from tests.builders import parsed, triton_model, variant, write_model

TENSORRT = '{"name": "tensorrt", "precision_mode": "FP16"}'
OPENVINO = '{"name": "openvino"}'

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
]


def model_of(config: ModelConfig) -> TritonModel:
    base = triton_model(config.name or "m")
    serialised = config.SerializeToString(deterministic=True)
    return type(base)(**{**base.__dict__, "config": serialised})


def besides(config: ModelConfig, axes: dict[str, Any]) -> ModelConfig:
    """A configuration without what ``axes`` set in it."""
    rest = ModelConfig()
    rest.CopyFrom(config)
    if "instance_count" in axes:
        rest.ClearField("instance_group")
    if "preferred_batch_size" in axes:
        rest.dynamic_batching.ClearField("preferred_batch_size")
    if "max_queue_delay_us" in axes:
        rest.dynamic_batching.ClearField("max_queue_delay_microseconds")
    if axes.get("preferred_batch_size", ()) is None:
        rest.ClearField("dynamic_batching")
    if "accelerator" in axes:
        rest.optimization.ClearField("execution_accelerators")
    for name in ("dynamic_batching", "optimization"):
        if getattr(rest, name) == type(getattr(rest, name))():
            rest.ClearField(name)
    return rest


def check_axes(config: ModelConfig, chosen: ServerVariant, axes: dict[str, Any]) -> None:
    """``config`` has what was asked for, and the server that loaded it would be believed."""
    found = resolved(config)
    for axis, asked in axes.items():
        assert found[axis] == asked
    assert differences(chosen, config) == []


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


def test_every_configuration_of_cms_goes_through_every_axis_unchanged(shared_models: Path) -> None:
    paths = sorted(shared_models.parent.glob("model*/*/config.pbtxt"))
    assert len(paths) >= 4
    for path in paths:
        for axes in AXES:
            check_round_trip(parsed(path.read_text()), axes)


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


@settings(deadline=None, max_examples=80)
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
        assert resolved(config)["accelerator"] == accelerator


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


def test_an_overlay_links_the_models_files_and_leaves_them_alone(tmp_path: Path) -> None:
    source = write_model(tmp_path / "models")
    (source / "labels.txt").write_text("b\nc\n")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    chosen = variant(read_model(tmp_path / "models", "tagger"), instance_count=2)
    write_overlay(chosen, configure(chosen), tmp_path / "overlay")
    overlay = tmp_path / "overlay" / "tagger"
    assert sorted(path.name for path in overlay.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
    assert (overlay / "1").is_symlink()
    assert (overlay / "1" / "model.onnx").read_bytes() == b"not a real network"
    assert not (overlay / "config.pbtxt").is_symlink()
    assert parsed((overlay / "config.pbtxt").read_text()).instance_group[0].count == 2
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_what_the_server_loaded_is_told_under_the_records_names() -> None:
    text = (
        'platform: "onnxruntime_onnx" max_batch_size: 8 '
        "instance_group { count: 2 kind: KIND_CPU } instance_group { count: 1 kind: KIND_GPU } "
        "dynamic_batching { preferred_batch_size: [2, 4] max_queue_delay_microseconds: 7 }"
    )
    assert resolved(parsed(text)) == {
        "platform": "onnxruntime_onnx",
        "max_batch_size": 8,
        "instance_count": 3,
        "instance_kind": "KIND_CPU,KIND_GPU",
        "dynamic_batching": True,
        "preferred_batch_size": (2, 4),
        "max_queue_delay_us": 7,
        "accelerator": None,
    }


def test_what_the_server_did_not_say_is_missing() -> None:
    found = resolved(ModelConfig())
    assert found["dynamic_batching"] is False
    assert found["max_batch_size"] == 0
    rest = set(found) - {"dynamic_batching", "max_batch_size"}
    assert {found[name] for name in rest} == {None}


@pytest.mark.parametrize(
    ("axes", "loaded", "told"),
    [
        ({"instance_count": 2}, "instance_group { count: 1 }", "instance_count: asked for 2"),
        ({"preferred_batch_size": (4,)}, "dynamic_batching { }", "preferred_batch_size: asked"),
        ({"preferred_batch_size": ()}, "", "preferred_batch_size: asked for ()"),
        (
            {"preferred_batch_size": None},
            "dynamic_batching { preferred_batch_size: 4 }",
            "preferred_batch_size: asked for None",
        ),
        ({"max_queue_delay_us": 5}, "dynamic_batching { }", "max_queue_delay_us: asked for 5"),
        ({"accelerator": TENSORRT}, "", "accelerator: asked for"),
    ],
)
def test_what_the_server_loaded_otherwise_than_asked_is_told(
    axes: dict[str, Any], loaded: str, told: str
) -> None:
    assert differences(variant(**axes), parsed(loaded))[0].startswith(told)


def test_what_was_not_asked_for_cannot_differ() -> None:
    text = "instance_group { count: 7 } dynamic_batching { preferred_batch_size: 3 }"
    assert differences(variant(), parsed(text)) == []


def test_a_server_that_prefers_the_largest_batch_where_none_is_preferred_is_right() -> None:
    loaded = parsed("max_batch_size: 64 dynamic_batching { preferred_batch_size: 64 }")
    assert differences(variant(preferred_batch_size=()), loaded) == []
    assert differences(variant(preferred_batch_size=(32,)), loaded) != []


def shown(repository: Path) -> dict[str, str]:
    """What must be seen to read the model, by the path at which it must be."""
    found = shows(variant(read_model(repository, "tagger")))
    return {str(named): str(real) for real, named in found}


def test_a_model_without_links_is_all_in_its_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    assert shown(tmp_path / "models") == {str(folder): str(folder)}


def test_links_in_a_model_are_seen_where_they_point_to(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    store = tmp_path / "store"
    (store / "v1").mkdir(parents=True)
    (folder / "1" / "model.onnx").rename(store / "weights.onnx")
    (folder / "1").rmdir()
    (folder / "1").symlink_to(store / "v1")
    (store / "v1" / "model.onnx").symlink_to("../weights.onnx")
    (folder / "dead").symlink_to("nowhere")
    (folder / "inner").symlink_to("config.pbtxt")
    assert shown(tmp_path / "models") == {
        str(folder): str(folder),
        str(store / "v1"): str(store / "v1"),
        str(store / "weights.onnx"): str(store / "weights.onnx"),
    }


def test_a_relative_link_in_a_linked_folder_is_seen_beside_the_name_of_the_folder(
    tmp_path: Path,
) -> None:
    """Inside a container, the link's folder is not a link any more."""
    real = tmp_path / "real"
    write_model(real)
    (real / "tagger" / "1" / "model.onnx").rename(real / "weights.onnx")
    (real / "tagger" / "1" / "model.onnx").symlink_to("../../weights.onnx")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tagger").symlink_to(real / "tagger")
    models = tmp_path / "models"
    assert shown(models) == {
        str(models / "tagger"): str(real / "tagger"),
        str(models / "weights.onnx"): str(real / "weights.onnx"),
    }


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models")
    (folder / "self").symlink_to(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "back").symlink_to(folder)
    (folder / "out").symlink_to(tmp_path / "other")
    assert set(shown(tmp_path / "models")) == {str(folder), str(tmp_path / "other")}
