"""Axes that nobody listed are named, separated and mapped like those that are."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hpcbench.analysis.decide.candidates import RECOMMEND_COLUMNS
from hpcbench.analysis.decide.recommend import recommend_configurations
from hpcbench.analysis.decide.recommend_text import recommendation_distinctions
from hpcbench.analysis.figures.legends import series_labels
from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.summary.axis_names import axis_phrase
from hpcbench.analysis.summary.configuration import CONFIGURATION
from hpcbench.analysis.summary.configuration_names import server_text
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.points import summarise
from hpcbench.analysis.summary.varying_axes import axis_named, axis_positions, varying_axes
from hpcbench.records.columns import Record
from tests.helpers.builders import refusal
from tests.helpers.builders_scan import record, through_parquet
from tests.helpers.measurements import loaded, repeats

NEW = {"cuda_streams": True, "max_ragged_size": 64, "page_locking": False, "fusion_level": 2}
"""Axes of servers that this package has no word about."""


def row(**known: Any) -> dict[str, Any]:
    return dict.fromkeys(CONFIGURATION) | {"model_label": "Tau"} | known


def points(*records: Record, folder: Path) -> pd.DataFrame:
    return summarise(through_parquet(records, folder))


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("instance_count", 1, "1 instance"),
        ("instance_count", 2, "2 instances"),
        ("preferred_batch_size", [4, 8], "dynamic batching 4/8"),
        ("preferred_batch_size", [], "dynamic batching"),
        ("preferred_batch_size", None, "no dynamic batching"),
        ("max_queue_delay_us", 100, "queue delay 100 µs"),
        ("max_queue_delay_us", None, ""),
        ("accelerator", '{"name": "tensorrt", "precision_mode": "FP16"}', "TensorRT FP16"),
        ("accelerator", {"name": "tensorrt", "max_workspace_size_bytes": 7},
         "TensorRT max workspace size 7"),
        ("accelerator", None, "no accelerator"),
        ("cuda_graphs", True, "CUDA graphs"),
        ("cuda_graphs", False, "no CUDA graphs"),
        ("gpus", [0, 1], "GPUs 0/1"),
        ("default_timeout_us", 5, "default timeout 5 µs"),
        ("shared_memory", "none", "no shared memory"),
        ("shared_memory", "system", "shared memory system"),
        ("rate_limiter", {"resources": [{"name": "R", "count": 2}]},
         "rate limiter resources R count 2"),
        ("request_rate", 100.0, "100 requests/s"),
        ("batch_size", 8, "batch size 8"),
        ("instance_count", "base", "default instances"),
    ],
)  # fmt: skip
def test_any_axis_has_words(axis: str, value: Any, text: str) -> None:
    assert axis_phrase(axis, value) == text


def test_a_server_is_named_by_what_differs_from_base() -> None:
    assert server_text(row(variant="{}")) == "base"
    assert server_text(row(variant=json.dumps(NEW))) == (
        "CUDA streams, max ragged size 64, no page locking, fusion level 2"
    )
    assert server_text(row()) == "unknown"
    assert server_text(row(instance_count=2)) == "2 instances"


def test_axes_in_another_order_are_the_same_server(tmp_path: Path) -> None:
    found = points(
        record(repeat=0, variant='{"cuda_graphs": true, "instance_count": 2}'),
        record(repeat=1, variant='{"instance_count": 2, "cuda_graphs": true}'),
        folder=tmp_path,
    )
    assert found["variant"].tolist() == ['{"instance_count": 2, "cuda_graphs": true}']
    assert found["measured"].tolist() == [2]


def test_the_legend_names_axes_that_nobody_listed(tmp_path: Path) -> None:
    found = points(record(variant="{}"), record(variant=json.dumps(NEW)), folder=tmp_path)
    found["series"] = range(len(found))
    assert list(series_labels(found)[1].values()) == [
        "base",
        "CUDA streams, fusion level 2, max ragged size 64, no page locking",
    ]


def scan_over(axis: str, values: list[Any], folder: Path, **shared: Any) -> pd.DataFrame:
    return points(
        *(
            record(batch=batch, variant=json.dumps({} if value == "base" else {axis: value}),
                   throughput_infer_per_s=100.0 * batch * (place + 1), **shared)
            for place, value in enumerate(values)
            for batch in (1, 2, 4)
        ),
        folder=folder,
    )  # fmt: skip


def test_an_axis_of_the_server_that_nobody_listed_makes_a_heat_map(tmp_path: Path) -> None:
    found = scan_over("cuda_streams", ["base", False, True], tmp_path)
    ((_, numbers),) = FIGURES["heat_map"].prepare(found)
    cells = numbers.set_index(["x_text", "y_text"])["throughput_infer_per_s"]
    assert cells.to_dict() == {
        (f"{batch}", text): 100.0 * batch * (place + 1)
        for place, text in enumerate(["base", "off", "on"])
        for batch in (1, 2, 4)
    }
    figure = FIGURES["heat_map"].plot(found)
    assert figure.axes[0].get_ylabel() == "CUDA streams"
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["base", "off", "on"]


def test_what_the_server_resolved_for_an_axis_does_not_tear_its_map(tmp_path: Path) -> None:
    batching = [None, [4], [4, 8]]
    found = points(
        *(
            record(batch=batch, preferred_batch_size=sizes and tuple(sizes),
                   dynamic_batching=sizes is not None,
                   variant=json.dumps({"preferred_batch_size": sizes}))
            for sizes in batching
            for batch in (1, 2)
        ),
        folder=tmp_path,
    )  # fmt: skip
    ((_, numbers),) = FIGURES["heat_map"].prepare(found)
    assert numbers.drop_duplicates("y").sort_values("y")["y_text"].tolist() == ["none", "4", "4/8"]


def test_the_protocol_and_the_shapes_are_axes_where_they_vary(tmp_path: Path) -> None:
    found = points(
        *(
            record(batch=batch, protocol=protocol, shapes=json.dumps({"x": [size]}))
            for batch in (1, 2)
            for protocol in ("grpc", "http")
            for size in (20, 100)
        ),
        folder=tmp_path,
    )
    assert [axis.column for axis in varying_axes(found)] == ["batch_size", "protocol", "shapes"]
    places = axis_positions(found, axis_named("shapes"))
    assert set(zip(places["at"], places["text"], strict=True)) == {(1, "x 20"), (2, "x 100")}


def test_shapes_of_one_model_are_advised_and_named_apart() -> None:
    small, large = ('{"x": [20]}', '{"x": [100]}')
    advice = recommend_configurations(
        loaded([*repeats([1000], shapes=small), *repeats([300], shapes=large)])[
            list(RECOMMEND_COLUMNS)
        ],
        Requirements(),
    )
    assert sorted(recommendation_distinctions(advice)) == ["x 100", "x 20"]


def test_fronts_never_weigh_unlike_inputs_against_each_other(tmp_path: Path) -> None:
    found = points(
        *(
            record(shapes=json.dumps({"x": [size]}), latency_p99_us=size * 10.0, request_count=9999)
            for size in (20, 100)
        ),
        folder=tmp_path,
    )
    ((_, numbers),) = FIGURES["pareto_front"].prepare(found)
    assert numbers["on_front"].all()


@pytest.mark.parametrize("column", ["variant", "shapes"])
@pytest.mark.parametrize("text", ["fast", "[1]", "3", ""])
def test_what_is_no_json_of_axes_is_reported(column: str, text: str, tmp_path: Path) -> None:
    message = refusal(points, record(**{column: text}), folder=tmp_path)
    assert f"column {column} holds {text!r}" in message
