"""Outputs are compared with those of a reference, on stored events."""

from __future__ import annotations

import base64
import json
import math
import shutil
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import numpy_helper

from hpcbench import Campaign, Site, plan
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.errors import BadInput
from hpcbench.measure import outputs
from hpcbench.measure.server import RunningServer
from hpcbench.plan.point import OutputComparison
from hpcbench.records.columns import Record, Status
from tests.helpers import real
from tests.helpers.builders import triton_model, variant
from tests.helpers.models import in_half_precision
from tests.helpers.real import QUICK, SHAPES, campaign_file, quick_run, site_file

TENSORS = {"pf_features": (16, 50), "pf_mask": (1, 50), "sv_features": (10, 4), "sv_mask": (1, 4)}


def events_file(folder: Path, count: int = 5) -> Path:
    """Random events of the demo's model, half of the tensors in base64 and half as numbers."""
    random = np.random.default_rng(1)
    data = []
    for number in range(count):
        event: dict[str, Any] = {}
        for name, shape in TENSORS.items():
            values = random.normal(size=shape).astype("<f4")
            event[name] = {"content": values.ravel().tolist(), "shape": list(shape)}
            if number % 2:
                b64 = base64.b64encode(values.tobytes()).decode()
                event[name] = {"b64": b64, "shape": list(shape)}
        data.append(event)
    path = folder / "events.json"
    path.write_text(json.dumps({"data": data}))
    return path


def one(*values: float) -> list[dict[str, Any]]:
    return [{"y": np.array(values, np.float32)}]


def test_differences_are_the_largest_ones_and_their_mean_square() -> None:
    found = outputs.differences(one(1.0, 2.5, 0.5), one(1.0, 2.0, 0.0))
    assert found["y"] == {
        "max": 0.5,
        "relative": 0.25,  # of what is not 0
        "rms": pytest.approx(math.sqrt(0.5 / 3)),
    }


def test_equal_outputs_do_not_differ_whatever_they_are() -> None:
    same = one(0.0, math.nan, math.inf)
    assert outputs.differences(same, same)["y"] == {"max": 0, "relative": 0, "rms": 0}


def test_not_a_number_on_one_side_only_is_an_infinite_difference() -> None:
    found = outputs.differences(one(math.nan, 1.0), one(1.0, 1.0))
    assert found["y"]["max"] == found["y"]["rms"] == found["y"]["relative"] == math.inf


def test_strings_differ_or_do_not() -> None:
    a, b = ([{"y": np.array([text, b"same"], object)}] for text in (b"one", b"two"))
    assert outputs.differences(a, b)["y"]["max"] == 1.0
    assert outputs.differences(a, a)["y"]["max"] == 0.0


def test_outputs_of_another_name_or_shape_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="other names: z"):
        outputs.differences([{"z": np.zeros(2)}], one(0.0, 0.0))
    with pytest.raises(ValueError, match="the shape is"):
        outputs.differences(one(0.0, 0.0), one(0.0))


CONFIG = """max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [2, -1] }
input { name: "text" data_type: TYPE_STRING dims: [1] optional: true }"""


@pytest.mark.parametrize(
    "tensor",
    [
        [1, 2, 3, 4],
        {"content": [1, 2, 3, 4]},
        {"content": [1, 2, 3, 4], "shape": [2, 2]},
        {"b64": base64.b64encode(np.array([1, 2, 3, 4], "<f4").tobytes()).decode()},
    ],
)
def test_an_event_is_read_however_perf_analyzer_takes_it(tmp_path: Path, tensor: Any) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"data": [[{"x": tensor}], {"x": tensor, "text": ["a"]}]}))
    config = text_format.Parse(CONFIG, ModelConfig())
    first, second = outputs.read_events(path, 100, config)
    assert first.keys() == {"x"}
    assert first["x"].tolist() == [[[1, 2], [3, 4]]]
    assert second["text"].tolist() == [[b"a"]]
    assert len(list(outputs.read_events(path, 1, config))) == 1


def test_an_event_that_lacks_an_input_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"data": [{"text": ["a"]}]}))
    with pytest.raises(ValueError, match="event 0 has no x"):
        list(outputs.read_events(path, 1, text_format.Parse(CONFIG, ModelConfig())))


def differing(
    monkeypatch: pytest.MonkeyPatch, found: Any, right: list[dict[str, Any]]
) -> dict[str, Any]:
    """The columns of a variant with such outputs, or whose comparison ends with such an error."""

    def answer(*_: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(outputs, "_outputs", answer)
    model = triton_model("tagger")
    compared = OutputComparison(reference=model, inputs="events.json", digest="0", events=1)
    measured = replace(variant(model), compared=compared)
    return outputs.output_columns(cast("RunningServer", None), {measured: right})[measured.label]


def test_an_output_that_the_variant_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [{"y": np.zeros(2), "z": np.ones(2)}]
    columns = differing(monkeypatch, one(0.0, 0.0), both)
    assert columns["output_reference"] == "tagger, 1 events, without z, which the variant lacks"
    assert columns["output_max_difference"] == 0
    whole = differing(monkeypatch, both, both)
    assert whole["output_reference"] == "tagger, 1 events"


@pytest.mark.parametrize(
    "error", [KeyError("data"), TypeError("a list"), AttributeError("shape"), HTTPException("cut")]
)
def test_whatever_ends_a_comparison_ends_no_measurement(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    columns = differing(monkeypatch, error, one(0.0))
    assert columns == {"output_reference": f"not compared with tagger: {error}"}


@pytest.mark.native
def test_inputs_that_are_no_file_are_refused_when_the_campaign_is_planned(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    path = campaign_file(tmp_path, demo_models, compare_outputs={"inputs": "none.json"})
    site = Site.load(site_file(tmp_path, native_prefix))
    with pytest.raises(BadInput, match=r"compare_outputs\.inputs: .*none\.json is not a file"):
        plan(Campaign.load(path), site)


@pytest.mark.native
def test_what_is_compared_does_not_change_which_point_it_is(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    site = Site.load(site_file(tmp_path, native_prefix))
    plain = plan(Campaign.load(campaign_file(tmp_path, demo_models)), site)
    asked = {"inputs": str(events_file(tmp_path)), "events": 3}
    path = campaign_file(tmp_path, demo_models, compare_outputs=asked)
    compared = plan(Campaign.load(path), site)
    assert [p.id for p in compared.grid.points] == [p.id for p in plain.grid.points]
    (comparison,) = {p.variant.compared for p in compared.grid.points}
    assert comparison is not None
    assert (comparison.reference.name, comparison.events) == ("jet_tagger", 3)


def spoiled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights that went through too few bits."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for weight in found.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 8:
            step = np.abs(values).max() / 4
            rounded = (np.round(values / step) * step).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))
    return found


def copies_in_half_precision(models: Path, repository: Path) -> None:
    """The demo's model, a copy of it in FP16, and one in FP16 whose weights are spoiled."""
    own = onnx.load(models / "jet_tagger" / "1" / "model.onnx")
    halves = {"half": own, "spoiled": spoiled(own)}
    for name in ("jet_tagger", *halves):
        shutil.copytree(models / "jet_tagger", repository / name)
    for name, model in halves.items():
        config = repository / name / "config.pbtxt"
        config.write_text(config.read_text().replace('"jet_tagger"', f'"{name}"'))
        half = in_half_precision(model)
        kinds = {weight.data_type for weight in half.graph.initializer}
        assert kinds == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
        onnx.save(half, repository / name / "1" / "model.onnx")


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_an_fp16_copy_with_spoiled_weights_is_recognised_by_its_outputs(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """FP16 alone changes the outputs by its 11 bits, and no more."""
    repository = tmp_path / "repository"
    copies_in_half_precision(demo_models, repository)
    inputs = str(events_file(tmp_path))
    names = ("half", "jet_tagger", "spoiled")
    records: list[Record] = real.measured(
        *quick_run(
            tmp_path,
            native_prefix,
            repository,
            models=[{"name": name, "shapes": SHAPES} for name in names],
            load={"concurrency": 2},
            measurement=QUICK,
            compare_outputs={"inputs": inputs, "events": 4, "reference": "jet_tagger"},
        ),
        tmp_path / "logs",
    )
    half, own, wrong = sorted(records, key=lambda record: record.model)
    assert {record.status for record in records} == {Status.OK}
    assert {record.output_reference for record in records} == {"jet_tagger, 4 events"}
    assert (own.output_max_difference or 0) < 1e-6
    assert 1e-6 < (half.output_max_difference or 0) < 1e-3
    assert (wrong.output_max_difference or 0) > 1e-2
    for name in ("output_max_difference", "output_rms_difference", "output_relative_difference"):
        assert getattr(wrong, name) > 10 * getattr(half, name)
    assert json.loads(wrong.output_differences or "")["softmax"]["max"] == (
        wrong.output_max_difference
    )
