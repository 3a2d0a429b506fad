"""The grid: which points a campaign has, and what their ids stand for."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbench.config.campaign import Campaign
from hpcbench.errors import BadInput
from hpcbench.plan.grid import Grid
from hpcbench.plan.point import Point
from tests.helpers.builders import campaign, expanded, refusal, triton_model

counts = st.one_of(st.just("base"), st.integers(1, 8))
preferred = st.one_of(
    st.none(), st.just("base"), st.lists(st.integers(1, 256), max_size=3).map(list)
)
delays = st.one_of(st.just("base"), st.integers(0, 1000))
accelerators = st.one_of(
    st.none(),
    st.just("base"),
    st.just({"name": "openvino"}),
    st.fixed_dictionaries(
        {"name": st.just("tensorrt"), "precision_mode": st.sampled_from(["FP16", "FP32"])}
    ),
)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def axis(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=3, unique_by=canonical)


servers = st.fixed_dictionaries(
    {},
    optional={
        "instance_count": axis(counts),
        "preferred_batch_size": axis(preferred),
        "max_queue_delay_us": axis(delays),
        "accelerator": axis(accelerators),
    },
)
loads = st.fixed_dictionaries(
    {"batch_size": axis(st.integers(1, 256)), "concurrency": axis(st.integers(1, 64))}
)


def ids(grid: Grid) -> set[str]:
    return {point.id for point in grid.points}


def settled(point: Any) -> tuple[Any, ...]:
    """What a point stands for, as one value that can be compared."""
    return (point.variant.changes, point.load.batch_size, point.load.concurrency)


@settings(max_examples=60)
@given(server=servers, load=loads)
def test_the_points_are_the_product_of_the_axes_less_those_that_are_equal(
    server: dict[str, list[Any]], load: dict[str, list[int]]
) -> None:
    grid = expanded(campaign(server=server, load=load))
    product = math.prod(len(values) for values in (*server.values(), *load.values()))
    assert len(grid.points) + grid.merged == product
    assert len(ids(grid)) == len(grid.points)
    assert len({settled(point) for point in grid.points}) == len(grid.points)


@settings(max_examples=60)
@given(server=servers, load=loads)
def test_every_combination_has_its_point(
    server: dict[str, list[Any]], load: dict[str, list[int]]
) -> None:
    """Without dynamic batching there is no delay; all other combinations are there as written."""
    grid = expanded(campaign(server=server, load=load))
    wanted = set()
    for count, sizes, delay, accelerator, batch, concurrency in itertools.product(
        server.get("instance_count", ["base"]),
        server.get("preferred_batch_size", ["base"]),
        server.get("max_queue_delay_us", ["base"]),
        server.get("accelerator", ["base"]),
        load["batch_size"],
        load["concurrency"],
    ):
        asked = {
            "instance_count": count,
            "preferred_batch_size": tuple(sizes) if isinstance(sizes, list) else sizes,
            "max_queue_delay_us": "base" if sizes is None else delay,
            "accelerator": json.dumps(accelerator, sort_keys=True)
            if isinstance(accelerator, dict)
            else accelerator,
        }
        changes = tuple((axis, value) for axis, value in asked.items() if value != "base")
        wanted.add((changes, batch, concurrency))
    assert {settled(point) for point in grid.points} == wanted


@settings(max_examples=60)
@given(server=servers, load=loads, data=st.data())
def test_ids_depend_on_no_order_and_on_no_name(
    server: dict[str, list[Any]], load: dict[str, list[int]], data: st.DataObject
) -> None:
    def shuffled(axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        keys = data.draw(st.permutations(list(axes)))
        return {key: data.draw(st.permutations(axes[key])) for key in keys}

    first = expanded(campaign(server=server, load=load))
    second = expanded(
        campaign(
            name="another",
            models=[{"name": "tagger", "label": "Another label"}],
            model_repository="/elsewhere",
            server=shuffled(server),
            load=shuffled(load),
            measurement={"timeout_s": 7},
            repeats=5,
        )
    )
    assert ids(first) == ids(second)
    by_id = {point.id: settled(point) for point in first.points}
    assert by_id == {point.id: settled(point) for point in second.points}


TENSORRT = {"name": "tensorrt"}
BASIS: dict[str, Any] = {
    "models": [{"name": "tagger", "shapes": {"x": [16]}}],
    "server": {"instance_count": [1], "preferred_batch_size": [[4]], "max_queue_delay_us": [1]},
    "load": {"batch_size": [1], "concurrency": [1]},
    "measurement": {"percentile": 95},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"models": [{"name": "tagger", "shapes": {"x": [16]}, "version": 1}]},
        {"models": [{"name": "tagger", "shapes": {}}]},
        {"server": {**BASIS["server"], "instance_count": [2]}},
        {"server": {**BASIS["server"], "instance_count": ["base"]}},
        {"server": {**BASIS["server"], "preferred_batch_size": [[8]]}},
        {"server": {**BASIS["server"], "preferred_batch_size": [[]]}},
        {"server": {**BASIS["server"], "preferred_batch_size": [None]}},
        {"server": {**BASIS["server"], "max_queue_delay_us": [2]}},
        {"server": {**BASIS["server"], "accelerator": [None]}},
        {"server": {**BASIS["server"], "accelerator": [{"name": "tensorrt"}]}},
        {"server": {**BASIS["server"], "accelerator": [TENSORRT | {"engine_cache": False}]}},
        {"server": {**BASIS["server"], "instance_kind": ["KIND_CPU"]}},
        {"server": {**BASIS["server"], "gpus": [[0]]}},
        {"server": {**BASIS["server"], "max_batch_size": [8]}},
        {"server": {**BASIS["server"], "dynamic_batching": [False]}},
        {"server": {**BASIS["server"], "preserve_ordering": [True]}},
        {"server": {**BASIS["server"], "preserve_ordering": [False]}},
        {"server": {**BASIS["server"], "priority_levels": [0]}},
        {"server": {**BASIS["server"], "default_priority_level": [1]}},
        {"server": {**BASIS["server"], "default_queue_policy": [{}]}},
        {"server": {**BASIS["server"], "default_queue_policy": [None]}},
        {"server": {**BASIS["server"], "graph_level": [0]}},
        {"server": {**BASIS["server"], "cuda_graphs": [False]}},
        {"server": {**BASIS["server"], "response_cache": [True]}},
        {"server": {**BASIS["server"], "rate_limiter": [{"priority": 1}]}},
        {"server": {**BASIS["server"], "warmup": [True]}},
        {"server": {**BASIS["server"], "config": ["runtime: 'x'"]}},
        {"load": {"batch_size": [2], "concurrency": [1]}},
        {"load": {"batch_size": [1], "concurrency": [2]}},
        {"measurement": {"percentile": 99}},
        {"measurement": {"percentile": 95, "protocol": "http"}},
        {"measurement": {"percentile": 95, "async": False}},
        {"measurement": {"percentile": 95, "input_data": "zero"}},
        {"measurement": {"percentile": 95, "measurement_interval_ms": 1}},
        {"measurement": {"percentile": 95, "stability_percentage": 5}},
        {"measurement": {"percentile": 95, "max_trials": 11}},
    ],
)
def test_whatever_changes_a_metric_changes_the_id(changes: dict[str, Any]) -> None:
    assert not ids(expanded(campaign(**BASIS))) & ids(expanded(campaign(**(BASIS | changes))))


def test_another_model_file_another_image_and_other_data_change_the_id() -> None:
    study = campaign(**BASIS)
    found = [
        expanded(study),
        expanded(study, {"tagger": triton_model(digest="d2")}),
        expanded(study, software={None: "native:2"}),
        *(
            expanded(
                campaign(**BASIS | {"measurement": {"input_data": "/x.json"}}), input_data=data
            )
            for data in ({"/x.json": "abc"}, {"/x.json": "abd"})
        ),
    ]
    assert len(set.union(*(ids(grid) for grid in found))) == 5


def test_the_place_of_a_data_file_is_not_its_content() -> None:
    grids = [
        expanded(campaign(measurement={"input_data": path}), input_data={path: "digest"})
        for path in ("/a/x.json", "/b/y.json")
    ]
    assert ids(grids[0]) == ids(grids[1])


def test_an_id_stays_what_it_was_in_earlier_versions() -> None:
    """Results on disk are found by it: a change here makes everything be measured again."""
    (point,) = expanded(campaign(**BASIS)).points
    assert point.id == "2a085953c8e1ec5b"


def test_points_come_in_the_order_in_which_the_campaign_was_written() -> None:
    study = campaign(
        models=[{"name": "b"}, {"name": "a"}],
        server={"instance_count": [2, 1]},
        load={"batch_size": [8, 1], "concurrency": [3, 2]},
    )
    found = [
        (p.variant.label, p.variant.axes["instance_count"], p.load.batch_size, p.load.concurrency)
        for p in expanded(study).points
    ]
    assert found == list(itertools.product("ba", (2, 1), (8, 1), (3, 2)))


def test_delays_of_no_dynamic_batching_are_one_point_and_are_counted() -> None:
    study = campaign(server={"preferred_batch_size": [None, [4]], "max_queue_delay_us": [1, 2]})
    grid = expanded(study)
    assert [p.variant.axes for p in grid.points] == [
        {"preferred_batch_size": None},
        {"preferred_batch_size": (4,), "max_queue_delay_us": 1},
        {"preferred_batch_size": (4,), "max_queue_delay_us": 2},
    ]
    assert grid.merged == 1


@pytest.mark.parametrize(
    "server",
    [
        {"dynamic_batching": [False], "max_queue_delay_us": [1, 2], "priority_levels": [0, 3]},
        {"preferred_batch_size": [None], "preserve_ordering": [True, False]},
        {"preferred_batch_size": [[4]], "dynamic_batching": [True, "base"]},
        {"instance_kind": ["KIND_CPU"], "gpus": [[0], [1], "base"]},
        {"priority_levels": [0], "default_priority_level": [1, 2]},
        {"accelerator": [TENSORRT, TENSORRT | {"precision_mode": "FP32"}]},
        {"accelerator": [TENSORRT], "warmup": [True, "base"]},
        {"config": ["runtime: 'x'", {"runtime": "x"}]},
        {"default_queue_policy": [{}, {"max_queue_size": 0}]},
    ],
)
def test_variants_that_mean_the_same_are_measured_once(server: dict[str, Any]) -> None:
    grid = expanded(campaign(server=server))
    assert len(grid.points) == 1
    assert grid.merged == math.prod(map(len, server.values())) - 1


def test_no_dynamic_batching_is_the_same_however_it_is_said() -> None:
    off = [{"dynamic_batching": [False]}, {"preferred_batch_size": [None]}]
    assert ids(expanded(campaign(server=off[0]))) == ids(expanded(campaign(server=off[1])))


def test_an_accelerators_keys_may_stand_in_any_order() -> None:
    grids = [
        expanded(campaign(server={"accelerator": [accelerator]}))
        for accelerator in (
            {"name": "tensorrt", "a": 1, "b": True},
            {"b": "true", "a": "1", "name": "tensorrt"},
        )
    ]
    assert ids(grids[0]) == ids(grids[1])


def test_one_model_under_two_labels_is_refused_where_nothing_else_differs() -> None:
    study = campaign(models=[{"name": "tagger", "label": "A"}, {"name": "tagger", "label": "B"}])
    with pytest.raises(BadInput, match="model 'B': the same points as 'A'"):
        expanded(study)


def test_a_queue_delay_needs_dynamic_batching_to_wait_in() -> None:
    model = replace(triton_model(), dynamic_batching=False)
    on = campaign(server={"max_queue_delay_us": [100], "dynamic_batching": [True]})
    assert len(expanded(on, {"tagger": model}).points) == 1
    study = campaign(server={"max_queue_delay_us": [100]})
    with pytest.raises(BadInput, match="max_queue_delay_us: the model has no dynamic batching"):
        expanded(study, {"tagger": model})


def test_one_model_with_two_lengths_is_two_measurements() -> None:
    study = campaign(
        models=[
            {"name": "tagger", "label": "short", "shapes": {"x": [5]}},
            {"name": "tagger", "label": "long", "shapes": {"x": [50]}},
        ]
    )
    grid = expanded(study, {"tagger": triton_model(inputs={"x": (-1,)})})
    assert [(p.variant.label, p.shapes) for p in grid.points] == [
        ("short", (("x", (5,)),)),
        ("long", (("x", (50,)),)),
    ]


def message_on(study: Campaign, **model: Any) -> str:
    message = refusal(expanded, study, {"tagger": triton_model(**model)})
    assert all(line.startswith("campaign: model 'tagger': ") for line in message.splitlines())
    return message


def test_a_batch_over_the_models_limit_is_reported_with_the_limit() -> None:
    message = message_on(campaign(load={"batch_size": [64, 128, 256]}), max_batch_size=100)
    assert message.splitlines() == [
        f"campaign: model 'tagger': load.batch_size: {size} is over max_batch_size 100; "
        "allowed: 1 to 100"
        for size in (128, 256)
    ]


def test_a_model_without_a_batch_dimension_takes_one_inference_per_request() -> None:
    assert len(expanded(campaign(), {"tagger": triton_model(max_batch_size=0)}).points) == 1
    message = message_on(campaign(load={"batch_size": [1, 2]}), max_batch_size=0)
    assert message == (
        "campaign: model 'tagger': load.batch_size: 2: the model has max_batch_size 0, and none "
        "of its inputs has a leading -1 that shapes leave out, where the batch could go; allowed: 1"
    )


@pytest.mark.parametrize(("sizes", "limit"), [([4, 512], 256), ([1], 0), ([], 0)])
def test_preferred_sizes_stay_below_the_models_limit(sizes: list[int], limit: int) -> None:
    study = campaign(server={"preferred_batch_size": [sizes]})
    message = message_on(study, max_batch_size=limit)
    assert "server.preferred_batch_size: " in message
    assert "max_batch_size" in message
    assert len(message.splitlines()) == 1


def test_a_limit_that_is_an_axis_is_the_limit() -> None:
    study = campaign(
        server={"max_batch_size": [512, "base"], "preferred_batch_size": [[300]]},
        load={"batch_size": [400]},
    )
    assert len(expanded(study).points) == 2
    message = message_on(
        campaign(
            server={"max_batch_size": [8, 16], "preferred_batch_size": [[32]]},
            load={"batch_size": [64]},
        )
    )
    assert "[32] goes over its max_batch_size of 16" in message
    assert "load.batch_size: 64 is over max_batch_size 16; allowed: 1 to 16" in message


def test_a_model_without_a_batch_dimension_is_given_none() -> None:
    message = message_on(campaign(server={"max_batch_size": [8]}), max_batch_size=0)
    assert "server.max_batch_size: this model has 0" in message
    message = message_on(campaign(server={"dynamic_batching": [True]}), max_batch_size=0)
    assert "server.dynamic_batching: dynamic batching needs a max_batch_size" in message


def test_a_default_priority_is_one_of_those_there_are() -> None:
    message = message_on(
        campaign(server={"priority_levels": [2], "default_priority_level": [1, 3]})
    )
    assert "server.default_priority_level: 3 is over priority_levels; allowed: 1 to 2" in message


def test_a_version_that_the_model_has_not_is_reported_with_those_it_has() -> None:
    study = campaign(models=[{"name": "tagger", "version": 3}])
    assert "version: 3 is not there; it has: 1, 2" in message_on(study, versions=(1, 2))
    assert len(expanded(study, {"tagger": triton_model(versions=(1, 3))}).points) == 1


VARIABLE = {"pf": (16, -1), "mask": (1, -1), "fixed": (3,)}


def test_every_length_that_varies_must_be_given() -> None:
    message = message_on(
        campaign(models=[{"name": "tagger", "shapes": {"pf": [16, 9]}}]), inputs=VARIABLE
    )
    assert message == (
        "campaign: model 'tagger': shapes: input 'mask' has dims [1, -1]; say how long it is, "
        "e.g. shapes: {mask: [1, 50]}"
    )


def test_a_data_file_brings_its_own_lengths() -> None:
    study = campaign(measurement={"input_data": "/data/x.json"})
    model = triton_model(inputs=VARIABLE)
    assert (
        len(expanded(study, {"tagger": model}, input_data={"/data/x.json": "digest"}).points) == 1
    )


@pytest.mark.parametrize("given", [[15, 9], [9], [16, 9, 1], [4, 16, 9]])
def test_only_what_varies_may_be_given(given: list[int]) -> None:
    shapes = {"pf": given, "mask": [1, 9]}
    message = message_on(campaign(models=[{"name": "tagger", "shapes": shapes}]), inputs=VARIABLE)
    assert f"shapes: input 'pf' has dims [16, -1], given: {given}; only a -1 may be" in message


def test_an_input_that_the_model_has_not_is_reported_with_the_nearest() -> None:
    shapes = {"pf": [16, 9], "mask": [1, 9], "mas": [1, 9]}
    message = message_on(campaign(models=[{"name": "tagger", "shapes": shapes}]), inputs=VARIABLE)
    assert "it has no input 'mas'; did you mean 'mask'? its inputs: pf, mask, fixed" in message


def test_the_problems_of_all_models_are_reported_at_once() -> None:
    study = campaign(
        models=[{"name": "a", "version": 9}, {"name": "b", "shapes": {"y": [1]}}, {"name": "c"}],
        load={"batch_size": [999]},
    )
    message = refusal(expanded, study)
    assert [line.split(": ")[1:3] for line in message.splitlines()] == [
        ["model 'a'", "load.batch_size"],
        ["model 'a'", "version"],
        ["model 'b'", "load.batch_size"],
        ["model 'b'", "shapes"],
        ["model 'c'", "load.batch_size"],
    ]


def test_what_only_the_server_can_know_is_not_refused() -> None:
    """A model without a config.pbtxt: its limits and inputs are completed by the server."""
    model = triton_model()
    unknown = type(model)(
        **{**model.__dict__, "max_batch_size": None, "inputs": None, "config": b""}
    )
    study = campaign(
        models=[{"name": "tagger", "shapes": {"anything": [1]}}], load={"batch_size": [9999]}
    )
    assert len(expanded(study, {"tagger": unknown}).points) == 1


def test_a_models_own_axes_are_checked_against_it() -> None:
    study = campaign(
        models=[{"name": "tagger", "load": {"batch_size": [1]}}], load={"batch_size": [999]}
    )
    assert [p.load.batch_size for p in expanded(study).points] == [1]


# Axes that go together, rules that exclude, variants with a name


def batches(grid: Grid) -> list[tuple[int, int | None]]:
    return [(p.load.batch_size, p.load.concurrency) for p in grid.points]


def test_zipped_axes_take_their_values_together() -> None:
    study = campaign(
        load={"batch_size": [1, 8], "concurrency": [16, 2]}, zip=[["batch_size", "concurrency"]]
    )
    assert batches(expanded(study)) == [(1, 16), (8, 2)]


def test_server_and_load_may_be_zipped() -> None:
    study = campaign(
        server={"instance_count": [1, 2]},
        load={"batch_size": [1, 8]},
        measurement={"async": [True, False]},
        zip=[["instance_count", "batch_size", "async"]],
    )
    assert [
        (p.variant.axes["instance_count"], p.load.batch_size, p.load.asynchronous)
        for p in expanded(study).points
    ] == [(1, 1, True), (2, 8, False)]


def test_zipped_axes_of_unlike_lengths_are_reported_with_both() -> None:
    study = campaign(
        load={"batch_size": [1, 8, 16], "concurrency": [16, 2]},
        zip=[["batch_size", "concurrency"]],
    )
    assert refusal(expanded, study) == (
        "campaign: model 'tagger': zip: zipped axes need the same number of values: batch_size has "
        "3, concurrency has 2"
    )


def test_a_rule_excludes_what_has_one_of_its_values_on_each_of_its_axes() -> None:
    study = campaign(
        load={"batch_size": [1, 8, 16], "concurrency": [1, 2]},
        exclude=[{"batch_size": [8, 16], "concurrency": 2}, {"batch_size": 99}],
    )
    grid = expanded(study)
    assert batches(grid) == [(1, 1), (1, 2), (8, 1), (16, 1)]
    assert grid.excluded == (("batch_size: [8, 16], concurrency: 2", 2), ("batch_size: 99", 0))


def test_a_rule_may_be_about_one_model_and_about_server_axes() -> None:
    study = campaign(
        models=[{"name": "a"}, {"name": "b", "label": "B"}],
        server={"preferred_batch_size": [None, [4, 8]]},
        exclude=[{"model": "B", "preferred_batch_size": [[4, 8]]}],
    )
    grid = expanded(study)
    found = [(p.variant.label, p.variant.axes["preferred_batch_size"]) for p in grid.points]
    assert found == [("a", None), ("a", (4, 8)), ("B", None)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"load": {"batch_size": [1, 8]}, "exclude": [{"batch_size": [8, 63]}]},
            ["exclude: {batch_size: [8, 63]}: batch_size is never 63; its values: 1 or 8"],
        ),
        (
            {
                "models": [{"name": "a"}, {"name": "b", "server": {"instance_count": 4}}],
                "exclude": [{"model": "a", "instance_count": 4}, {"model": "a", "async": False}],
            },
            [
                (
                    "exclude: {instance_count: 4, model: a}: instance_count is never 4; its "
                    "values: base"
                ),
                "exclude: {async: false, model: a}: async is never false; its values: true",
            ],
        ),
        (
            {
                "load": {"batch_size": [1, 8], "concurrency": [1, 2]},
                "zip": [["batch_size", "concurrency"]],
                "exclude": [{"batch_size": 8, "concurrency": 1}],
            },
            [
                (
                    "exclude: {batch_size: 8, concurrency: 1}: no combination has all of these, or "
                    "an earlier rule excludes them"
                )
            ],
        ),
        (
            {"load": {"batch_size": [1, 8]}, "zip": [["batch_size", "request_rate"]]},
            [
                (
                    "zip: [batch_size, request_rate] joins nothing: no model has several values on "
                    "two of these axes"
                )
            ],
        ),
        (
            {
                "load": {"batch_size": [1, 8]},
                "variants": {"as it is": {}, "many": {"batch_size": 64}},
                "exclude": [{"batch_size": 64}],
            },
            [],
        ),
    ],
)
def test_what_changes_nothing_is_reported_with_what_there_is(
    changes: dict[str, Any], words: list[str]
) -> None:
    assert list(expanded(campaign(**changes)).no_effect) == words


def test_a_campaign_of_which_nothing_is_left_is_refused() -> None:
    study = campaign(exclude=[{"batch_size": 1}])
    assert refusal(expanded, study) == "campaign: exclude: nothing is left to measure"


def test_named_variants_replace_axes_and_their_names_are_no_part_of_the_id() -> None:
    study = campaign(
        load={"batch_size": [1, 2]},
        variants={
            "as it is": {},
            "many": {"instance_count": [4, 8], "batch_size": 2},
            "the same": {"instance_count": 4, "batch_size": 2},
        },
    )
    grid = expanded(study)
    assert [(p.variant_name, p.variant.axes, p.load.batch_size) for p in grid.points] == [
        ("as it is", {}, 1),
        ("as it is", {}, 2),
        ("many", {"instance_count": 4}, 2),
        ("many", {"instance_count": 8}, 2),
    ]
    assert grid.merged == 1
    plain = campaign(server={"instance_count": [4]}, load={"batch_size": [2]})
    assert ids(expanded(plain)) <= ids(grid)


def test_shapes_with_names_are_an_axis() -> None:
    shapes = {20: {"x": [20]}, "long": {"x": [50]}}
    study = campaign(
        models=[{"name": "tagger", "shapes": shapes}],
        load={"batch_size": [1, 8]},
        exclude=[{"shapes": "long", "batch_size": 8}],
    )
    grid = expanded(study, {"tagger": triton_model(inputs={"x": (-1,)})})
    assert [(p.shapes_name, p.shapes, p.load.batch_size) for p in grid.points] == [
        ("20", (("x", (20,)),), 1),
        ("20", (("x", (20,)),), 8),
        ("long", (("x", (50,)),), 1),
    ]
    plain = campaign(models=[{"name": "tagger", "shapes": {"x": [20]}}])
    assert ids(expanded(plain, {"tagger": triton_model(inputs={"x": (-1,)})})) <= ids(grid)


def test_what_is_wrong_with_a_shape_is_reported_with_its_name() -> None:
    study = campaign(models=[{"name": "tagger", "shapes": {"long": {"x": [50, 1]}}}])
    assert "shapes.long: input 'x' has dims [-1], given: [50, 1]" in message_on(
        study, inputs={"x": (-1,)}
    )


def test_versions_are_an_axis_and_servers_of_their_own() -> None:
    study = campaign(models=[{"name": "tagger", "version": [1, 2]}])
    grid = expanded(study, {"tagger": triton_model(versions=(1, 2))})
    assert [point.variant.version for point in grid.points] == [1, 2]


def test_a_batch_takes_the_leading_length_of_a_model_without_a_batch_dimension() -> None:
    flat = {"max_batch_size": 0, "inputs": {"x": (-1, 16), "fixed": (3,)}}
    study = campaign(load={"batch_size": [1, 8]})
    found = expanded(study, {"tagger": triton_model(**flat)}).points
    assert [(p.shapes, p.load.batch_size) for p in found] == [
        ((("x", (16,)),), 1),
        ((("x", (16,)),), 8),
    ]
    whole = campaign(models=[{"name": "tagger", "shapes": {"x": [5, 16]}}])
    (point,) = expanded(whole, {"tagger": triton_model(**flat)}).points
    assert point.shapes == (("x", (5, 16)),)
    both = campaign(models=[{"name": "tagger", "shapes": {"x": [5, 16]}}], load={"batch_size": [2]})
    assert "load.batch_size: 2: the model has max_batch_size 0" in message_on(both, **flat)


def test_a_model_in_another_server_image_has_points_of_its_own() -> None:
    models = [{"name": "tagger"}, {"name": "tagger", "label": "old", "server_image": "25.02"}]
    software = {None: "sha256:0 sdk", "25.02": "sha256:1 sdk"}
    found = expanded(campaign(models=models), software=software).points
    assert [point.variant.server_image for point in found] == [None, "25.02"]
    assert len({point.id for point in found}) == 2
    (alone,) = expanded(campaign()).points
    (moved,) = expanded(campaign(), software={None: "sha256:1 sdk"}).points
    assert moved.id != alone.id
    assert moved.id == expanded(campaign(models=models[1:]), software=software).points[0].id


SHARED: dict[str, Any] = {
    "models": [{"name": "one"}, {"name": "two", "load": {"batch_size": [1, 2, 4]}}],
    "load": {"batch_size": [1, 2]},
    "together": [{"two": {"load": {"concurrency": [3, 5]}}, "one": {"load": {"batch_size": 8}}}],
}


def shared(**changes: Any) -> tuple[Point, ...]:
    return expanded(campaign(**(SHARED | changes))).points


def test_models_that_share_a_server_are_measured_alone_and_together_on_it() -> None:
    points = shared()
    own = [p for p in points if not p.co_located]
    alone = [p for p in points if p.co_located and not p.together_id]
    together = [p for p in points if p.together_id]
    assert [p.variant.label for p in own] == ["one"] * 2 + ["two"] * 3
    assert [(p.variant.label, p.load.batch_size, p.load.concurrency) for p in alone] == [
        ("one", 8, 1),
        *(("two", size, concurrency) for size in (1, 2, 4) for concurrency in (3, 5)),
    ]
    assert len(together) == 2 * 1 * 6
    assert len({p.together_id for p in together}) == 6
    assert {tuple(v.label for v in p.served) for p in alone + together} == {("one", "two")}


def test_points_on_a_shared_server_are_others_than_on_one_of_their_own() -> None:
    points = shared(together=[{"one": {}, "two": {}}])
    assert len({p.id for p in points}) == len(points)
    like_own = [p for p in points if p.variant.label == "one" and p.load.batch_size == 1]
    assert len(like_own) == 1 + 1 + 3


def test_a_joint_point_says_what_runs_beside_it_and_its_id_depends_on_that() -> None:
    first, second = _first_pair()
    assert first.together_id == second.together_id
    (beside,) = first.co_located
    assert isinstance(beside, Point)
    assert (beside.variant, beside.load) == (second.variant, second.load)
    other = _first_pair(load={"batch_size": [1, 2], "concurrency": [7]})
    assert first.id != other[0].id


def _first_pair(**changes: Any) -> tuple[Point, Point]:
    first, second, *_ = (p for p in shared(**changes) if p.together_id)
    return first, second


def test_server_axes_of_a_group_are_its_own() -> None:
    group = {"one": {"server": {"instance_count": [1, 2]}}, "two": {}}
    points = shared(together=[group])
    served = {p.served for p in points if p.co_located}
    assert [[v.axes for v in each] for each in sorted(served, key=lambda s: str(s[0].axes))] == [
        [{"instance_count": 1}, {}],
        [{"instance_count": 2}, {}],
    ]
    assert all(not p.variant.axes for p in points if not p.co_located)


def test_what_a_model_of_a_group_cannot_take_is_reported() -> None:
    with pytest.raises(BadInput, match=r"load\.batch_size: 1000 is over max_batch_size"):
        shared(together=[{"one": {"load": {"batch_size": 1000}}, "two": {}}])


def test_models_that_share_a_server_use_no_shared_memory() -> None:
    with pytest.raises(BadInput, match=r"together\[0\].*shared_memory: system"):
        shared(measurement={"shared_memory": "system"})


def test_a_group_of_which_a_rule_leaves_a_model_nothing_is_no_silent_loss() -> None:
    with pytest.raises(BadInput, match=r"together\[0\]: exclude leaves no point of 'two'"):
        shared(
            together=[{"one": {}, "two": {"load": {"batch_size": 64}}}],
            exclude=[{"model": "two", "batch_size": 64}],
        )
