"""Records of what was asked for, before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpcbench import Site
from hpcbench.plan.initial_record import initial_record
from hpcbench.plan.placement import Placement
from hpcbench.records.columns import Status
from tests.helpers.builders import point, write_prefix, write_site


def test_a_record_has_the_names_that_a_campaign_gives_to_shapes_and_variants(
    tmp_path: Path,
) -> None:
    write_prefix(tmp_path)
    site = Site.load(write_site(tmp_path))
    named = replace(point(), shapes_name="20 particles", variant_name="for latency")
    placement = Placement(campaign="study", pool="cpu", repeat=0, points=(named,))
    record = initial_record(named, placement, site, Status.FAILED, "because")
    assert (record.shapes_name, record.variant_name) == ("20 particles", "for latency")
