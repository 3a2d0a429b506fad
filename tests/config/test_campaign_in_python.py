"""A campaign in Python: changed, copied and made again, it is checked like that of a file."""

from __future__ import annotations

import pydoc
from typing import Any

import pytest

from hpcbench.config.campaign import Campaign
from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.server_axes import Server
from hpcbench.config.site import Site
from hpcbench.errors import BadInput

STUDY = Campaign(
    name="study",
    model_repository="models",
    models=[{"name": "tagger"}],
    server={"instance_count": [1, 2], "default_queue_policy": {"max_queue_size": 8}},
    load={"batch_size": [1, 8], "request_rate": [10.0, 20.0]},
    measurement={"async": False, "stop": {"precision": 0.05}},
)


def test_what_is_replaced_changes_and_all_else_stays() -> None:
    study = STUDY.replace(load={"batch_size": [64]}, repeats=3)
    assert study.load_axes == Load(batch_size=64, request_rate=[10.0, 20.0])
    assert (study.repeats, study.server_axes) == (3, STUDY.server_axes)
    assert STUDY.load_axes.batch_size == (1, 8)


def test_a_closed_loop_takes_the_place_of_an_open_one() -> None:
    study = STUDY.replace(load=Load(concurrency=[4]))
    assert study.load_axes.model_dump() == {"batch_size": (1, 8), "concurrency": (4,)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"load": {"batchsize": [1]}}, "batchsize: unknown key; did you mean 'batch_size'?"),
        ({"load": {"batch_size": [0]}}, "greater than or equal to 1 (given: 0)"),
        ({"load": [1]}, "load: must be a mapping of keys to values"),
        ({"batch_size": [1]}, "batch_size: unknown key; allowed here: name, model_repository"),
        ({"repeats": 0}, "repeats: must be greater than or equal to 1"),
        ({"models": []}, "models: is empty"),
    ],
)
def test_a_wrong_change_is_refused_with_what_is_allowed(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput) as refused:
        STUDY.replace(**changes)
    assert words in str(refused.value)


def test_axes_that_contradict_each_other_are_refused_though_they_came_one_by_one() -> None:
    without = STUDY.replace(server={"preferred_batch_size": None})
    with pytest.raises(BadInput, match="contradicts preferred_batch_size"):
        without.replace(server={"dynamic_batching": True})


def test_a_copy_by_pydantic_takes_the_keys_of_the_file_and_checks_them() -> None:
    assert STUDY.model_copy(update={"load": {"batch_size": 4}}).load_axes == Load(batch_size=4)
    with pytest.raises(BadInput, match="batch_size: unknown key"):
        STUDY.model_copy(update={"batch_size": [4]})
    with pytest.raises(BadInput, match="repeats: must be a whole number"):
        STUDY.model_copy(update={"repeats": 1.5})


def test_a_copy_still_knows_the_file_that_it_came_from() -> None:
    study = STUDY.model_copy()
    study.read_from("night.yaml")
    assert study.replace(repeats=2).source == "night.yaml"


def test_what_a_campaign_dumps_makes_the_same_campaign_again() -> None:
    again = Campaign(**STUDY.model_dump())
    assert again == STUDY
    assert again.load_axes.model_fields_set == {"batch_size", "request_rate"}


def test_what_a_site_dumps_makes_the_same_site_again() -> None:
    site = Site.load("local")
    assert Site(**site.model_dump()) == site


def test_a_campaign_prints_what_was_given_and_no_defaults() -> None:
    assert repr(STUDY.replace(load={"concurrency": 2}).load_axes) == (
        "Load(batch_size=(1, 8), concurrency=(2,))"
    )
    assert "measurement=Measurement(asynchronous=(False,)" in repr(STUDY)


@pytest.mark.parametrize("section", [Server, Load, Measurement])
def test_help_explains_every_axis(section: type[Any]) -> None:
    text = pydoc.plain(pydoc.render_doc(section))
    described = text.partition("Attributes\n")[2].partition("Method resolution")[0]
    lines = [line.strip(" |") for line in described.splitlines()]
    assert set(section.model_fields) <= set(lines)


def test_help_of_a_campaign_has_keys_units_and_an_example() -> None:
    text = pydoc.plain(pydoc.render_doc(Campaign))
    for words in ("[requests/s]", "measurement_interval_ms", "[us]", 'load={"batch_size"'):
        assert words in text
