"""Records of what was asked for, before anything is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hpcbench import Site
from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.plan.initial_record import initial_record
from hpcbench.plan.model import read_model
from hpcbench.plan.placement import Placement
from hpcbench.records.columns import Status
from tests.helpers.builders import (
    campaign,
    expanded,
    parsed,
    placed,
    point,
    write_model,
    write_prefix,
    write_site,
)


def test_a_record_has_the_names_that_a_campaign_gives_to_shapes_and_variants(
    tmp_path: Path,
) -> None:
    write_prefix(tmp_path)
    site = Site.load(write_site(tmp_path))
    named = replace(point(), shapes_name="20 particles", variant_name="for latency")
    placement = Placement(campaign="study", pool="cpu", repeat=0, points=(named,))
    record = initial_record(named, placement, site, Status.FAILED, "because")
    assert (record.shapes_name, record.variant_name) == ("20 particles", "for latency")


def configs(text: str | None) -> dict[str, ModelConfig]:
    return {name: parsed(each) for name, each in json.loads(text or "{}").items()}


def test_a_record_holds_the_configuration_of_each_other_model_as_its_server_had_it(
    tmp_path: Path,
) -> None:
    """One that is measured on the same server is served in its variant, others as they are."""
    write_prefix(tmp_path)
    for name in ("bls", "add", "sub", "far"):
        write_model(tmp_path / "models", name)
    models = {
        "bls": read_model(tmp_path / "models", "bls", needs=["add", "sub"]),
        "add": read_model(tmp_path / "models", "add"),
        "far": read_model(tmp_path / "models", "far"),
    }
    needs = {"bls": ["add", "sub"]}
    study = campaign(
        models=[{"name": name, "needs": needs.get(name, [])} for name in models],
        together=[{"bls": {}, "add": {"server": {"instance_count": 2}}, "far": {}}],
    )
    site = Site.load(write_site(tmp_path))
    found = {}
    for placement in placed(list(expanded(study, models).points), fresh_servers=True):
        for each in placement.points:
            record = initial_record(each, placement, site, Status.FAILED, "because")
            together = each.together_id is not None
            if together or not each.co_located:
                known = (configs(record.needs), configs(record.beside_configs))
                found[record.model, together] = known
    own = parsed((tmp_path / "models" / "sub" / "config.pbtxt").read_text())
    needed, beside = found["bls", False]
    assert needed.keys() == {"add", "sub"}
    assert (len(needed["add"].instance_group), needed["sub"], beside) == (0, own, {})
    assert found["add", False] == found["far", False] == ({}, {})
    needed, beside = found["bls", True]
    assert (needed["add"].instance_group[0].count, needed["sub"]) == (2, own)
    assert beside.keys() == {"add", "far"}
    needed, beside = found["add", True]
    # What bls needs, too: a server with bls would not be ready without it.
    assert (needed, beside.keys()) == ({}, {"bls", "far", "sub"})
    assert found["far", True][1].keys() == {"bls", "add", "sub"}
    assert found["far", True][1]["add"].instance_group[0].count == 2
