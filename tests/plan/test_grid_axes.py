"""The size of a grid is known from the lengths of its axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hpcbench import Campaign, Site, plan, run
from hpcbench.cli.main import main
from hpcbench.plan.grid_axes import check_size, grid_size
from hpcbench.plan.model import TritonModel
from tests.helpers.builders import (
    campaign,
    expanded,
    refusal,
    triton_model,
    workplace,
    write_campaign,
    write_site,
)

LARGE = {
    "load": {"batch_size": list(range(1, 101)), "concurrency": list(range(1, 1001))},
    "server": {"instance_count": list(range(1, 101))},
}


def of_two_versions(name: str) -> TritonModel:
    return triton_model(name, versions=(1, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"load": {"batch_size": [1, 2, 4], "concurrency": [1, 2], "request_rate": [5.0]}},
        {
            "load": {"batch_size": [1, 2], "concurrency": [3, 4]},
            "zip": [["batch_size", "concurrency"]],
        },
        {"variants": {"a": {"instance_count": [1, 2]}, "b": {"batch_size": [1, 2, 3]}}},
        {"models": [{"name": "a", "load": {"batch_size": [1, 2]}}, {"name": "b"}]},
        {
            "models": [{"name": "a", "shapes": {"s": {"x": [16]}, "t": {"x": [16]}}}],
        },
        {
            "models": [{"name": "a", "server": {"instance_count": [1, 2]}}, {"name": "b"}],
            "load": {"batch_size": [1, 2, 4], "concurrency": [1, 2], "request_rate": [5.0]},
            "together": [{"a": {}, "b": {"load": {"batch_size": [1, 2]}}}],
        },
        {
            "models": [{"name": name, "version": [1, 2]} for name in ("a", "b", "c")],
            "load": {"batch_size": [1, 2]},
            "together": [{"a": {}, "b": {}, "c": {}}],
        },
    ],
)
def test_the_size_is_that_of_the_expanded_grid(changes: dict[str, Any]) -> None:
    study = campaign(**changes)
    grid = expanded(study, {each.name: of_two_versions(each.name) for each in study.models})
    assert grid_size(study) == len(grid.points) + grid.merged


def test_a_grid_of_ten_million_points_says_its_size_at_once() -> None:
    study = campaign(**LARGE)
    assert grid_size(study) == 10**7
    message = refusal(check_size, study, pools=1, yes=False)
    assert message.startswith(
        "campaign: its axes have 10,000,000 combinations, more than 1,000,000"
    )
    check_size(study, pools=1, yes=True)
    check_size(campaign(), pools=1, yes=False)


def test_each_repeat_in_each_pool_counts(tmp_path: Path) -> None:
    workplace(tmp_path)
    write_campaign(tmp_path, load={"batch_size": list(range(1, 1001))}, repeats=501)
    pool = {"gpus_per_job": 0, "max_jobs": 1}
    site = Site.load(write_site(tmp_path, pools={"one": pool, "two": pool}))
    study = Campaign.load(tmp_path / "campaign.yaml")
    message = refusal(plan, study, site)
    assert "have 1,000 combinations, and with repeats and pools 1,002,000 measurements" in message
    assert "in Python with yes=True" in message
    refused = refusal(run, study, site, tmp_path / "results")
    assert "more than 1,000,000" in refused
    assert not (tmp_path / "results").exists()
    # One that is over the model's limit, so that this ends soon.
    assert "over max_batch_size" in refusal(plan, study, site, yes=True)
    assert "over max_batch_size" in refusal(run, study, site, tmp_path / "results", yes=True)


def test_repeats_of_chosen_points_do_not_count() -> None:
    often = campaign(repeats=1000, load={"batch_size": list(range(1, 1025))})
    assert "1,024,000 measurements" in refusal(check_size, often, pools=1, yes=False)
    check_size(often, pools=1, yes=False, all_points=False)


def test_an_axis_of_a_hundred_thousand_values_is_read_at_once() -> None:
    """And a rule about each of them: none is compared with all others."""
    sizes = list(range(1, 100_001))
    study = campaign(load={"batch_size": sizes}, exclude=[{"batch_size": sizes[1:]}])
    assert grid_size(study) == 100_000
    assert len(expanded(study, {"tagger": triton_model(max_batch_size=100_000)}).points) == 1


@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_commands_want_a_yes(tmp_path: Path, command: str) -> None:
    _, site = workplace(tmp_path)
    words = [command, str(write_campaign(tmp_path, **LARGE)), "--site", str(site)]
    words += ["--results", str(tmp_path / "results")] if command == "run" else []
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "repeat with --yes" in done.output
    assert not (tmp_path / "results").exists()
