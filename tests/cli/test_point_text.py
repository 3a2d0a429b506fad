"""Points in words: what sets some apart is said, what is the same in all is not."""

from __future__ import annotations

import json
from typing import Any

from hpcbench.cli.point_text import POINT, differing, point_phrases, variant_text
from hpcbench.cli.results_table import asked_columns
from hpcbench.config.site import Site
from hpcbench.plan import grid
from hpcbench.plan.initial_record import plan_rows
from hpcbench.plan.plan import Plan
from tests.helpers.builders import campaign, expanded, triton_model, variant

TENSORRT = '{"engine_cache": "false", "name": "tensorrt", "precision_mode": "FP16"}'


def rows(found: grid.Grid, **changes: Any) -> list[dict[str, Any]]:
    """The rows of a plan of these points on one pool."""
    site = Site(name="here", container={"prefix": "/p"}, pools={"cpu": {}})
    return plan_rows(Plan(campaign(**changes), site, found, {"cpu": ()}))


def texts(found: grid.Grid, **changes: Any) -> list[str]:
    planned = rows(found, **changes)
    names = (*POINT, *differing(planned))
    return [", ".join(point_phrases(row, names)) for row in planned]


def test_only_what_differs_from_the_models_configuration_is_reported() -> None:
    def text(**axes: Any) -> str:
        return variant_text(json.dumps(variant(**axes).axes))

    assert text() == "base"
    assert text(instance_count=2) == "instances 2"
    assert text(preferred_batch_size=None) == "batching off"
    assert text(preferred_batch_size=(4, 8), max_queue_delay_us=7) == "batching 4/8, delay 7 us"
    assert text(accelerator=TENSORRT) == "tensorrt FP16 engine_cache false"
    assert text(accelerator=None, warmup=True) == "accelerator none, warmup on"
    assert variant_text(None) == "base"


def test_points_that_differ_in_shapes_only_are_reported_apart_by_their_names() -> None:
    shapes = {"short": {"x": [20]}, "long": {"x": [50]}}
    study = campaign(models=[{"name": "tagger", "shapes": shapes}])
    models = {"tagger": triton_model(inputs={"x": (-1,)})}
    assert texts(expanded(study, models)) == [
        "tagger, batch 1, concurrency 1, shapes short",
        "tagger, batch 1, concurrency 1, shapes long",
    ]


def test_servers_settings_and_repeats_are_reported_where_they_differ() -> None:
    found = expanded(
        campaign(
            server={"instance_count": ["base", 2]},
            measurement={"protocol": ["grpc", "http"], "percentile": [None, 95]},
        )
    )
    named = texts(found, repeats=2)
    assert len(set(named)) == len(named) == 16
    assert named[0] == "tagger, batch 1, concurrency 1, base, protocol grpc, repeat 0"
    assert named[-1] == (
        "tagger, batch 1, concurrency 1, instances 2, protocol http, percentile 95, repeat 1"
    )


def test_points_on_a_shared_server_say_what_else_it_does() -> None:
    study = campaign(models=[{"name": "a"}, {"name": "b"}], together=[{"a": {}, "b": {}}])
    assert texts(expanded(study)) == [
        "a, batch 1, concurrency 1",
        "b, batch 1, concurrency 1",
        "a, batch 1, concurrency 1, b idle",
        "b, batch 1, concurrency 1, a idle",
        "a, batch 1, concurrency 1, with b",
        "b, batch 1, concurrency 1, with a",
    ]


def test_a_table_has_a_column_for_each_axis_and_base_where_one_is_not_set() -> None:
    study = campaign(load={"batch_size": [1, 2]}, variants={"as it is": {}, "x": {"warmup": True}})
    found = {column.name: column.texts for column in asked_columns(rows(expanded(study)))}
    assert found == {
        "model": ("tagger",) * 4,
        "version": ("-",) * 4,
        "pool": ("cpu",) * 4,
        "variant": ("as it is", "as it is", "x", "x"),
        "warmup": ("base", "base", "on", "on"),
        "shapes": ("-",) * 4,
        "concurrency": ("1",) * 4,
        "requests/s": ("-",) * 4,
        "arrivals": ("-",) * 4,
        "capacity": ("-",) * 4,
        "batch": ("1", "2", "1", "2"),
    }
