"""Files of events that ``compare_outputs`` names are checked when a campaign is planned."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcbench.errors import BadInput
from hpcbench.plan.point import OutputComparison, Point
from hpcbench.plan.stored_events import check_compared
from tests.helpers.builders import campaign, point, triton_model, variant

CONFIG = """input { name: "x" data_type: TYPE_FP32 dims: [2, -1] }
input { name: "text" data_type: TYPE_STRING dims: [1] optional: true }"""


def compared(path: Path) -> Point:
    """A point whose outputs are compared on the first two events of a file."""
    model = triton_model("tagger", config=CONFIG)
    asked = OutputComparison(reference=model, inputs=str(path), digest="0", events=2)
    return point(of=replace(variant(model), compared=asked))


def b64(values: bytes) -> str:
    return base64.b64encode(values).decode()


@pytest.mark.parametrize(
    "event",
    [
        {"x": [1, 2, 3, 4]},
        {"x": [[1, 2], [3, 4.5]], "text": ["a"]},
        {"x": {"content": [1, 2, 3, 4], "shape": [2, 2]}, "text": {"content": ["a"]}},
        {"x": {"b64": b64(bytes(16)), "shape": [2, 2]}},
        [{"x": [1, 2]}, {"x": [1, 2]}],
    ],
)
def test_what_a_model_takes_is_taken(tmp_path: Path, event: Any) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"data": [event, event, "not looked at"]}))
    check_compared(campaign(), [compared(path)])


@pytest.mark.parametrize(
    ("whole", "problem"),
    [
        ([1], "has no list 'data'"),
        ({"data": {"x": [1, 2]}}, "has no list 'data'"),
        ({"data": []}, "has no events"),
        ({"data": [5]}, "event 0 is not a mapping of inputs to values"),
        ({"data": [{"x": [1, 2]}, {"y": [1, 2]}]}, "event 1 has no x"),
        ({"data": [{"x": {"shape": [16]}}]}, "event 0 has for x neither content nor b64"),
        ({"data": [{"x": {"content": [1, 2], "shape": 2}}]}, "for x a shape that is not a list"),
        ({"data": [{"x": {"content": [1, 2], "shape": [2, 2]}}]}, "for x 2 values, and the shape"),
        ({"data": [{"x": {"b64": b64(bytes(12)), "shape": [2, 2]}}]}, "for x 3 values"),
        ({"data": [{"x": {"b64": 7, "shape": [1]}}]}, "for x b64 that is not base64 of FP32"),
        ({"data": [{"x": [1, "two"]}]}, "for x the value 'two', which is no FP32"),
        ({"data": [{"x": None}]}, "for x the value 'None', which is no FP32"),
        ({"data": [{"x": [1, 2], "text": [5]}]}, "for text the value '5', which is no STRING"),
    ],
)
def test_what_it_cannot_take_is_refused_with_its_place(
    tmp_path: Path, whole: Any, problem: str
) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(BadInput) as raised:
        check_compared(campaign(), [compared(path)])
    assert "compare_outputs.inputs: " in raised.value.message
    assert str(path) in raised.value.message
    assert problem in raised.value.message
    assert 'allowed: {"data": [EVENT, ...]}' in str(raised.value)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text("{")
    with pytest.raises(BadInput, match=r"events\.json is not JSON"):
        check_compared(campaign(), [compared(path)])
