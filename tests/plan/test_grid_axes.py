"""The size of a grid is known from the lengths of its axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hpcbench.cli.main import main
from hpcbench.plan.grid_axes import check_size, grid_size
from tests.helpers.builders import campaign, expanded, refusal, workplace, write_campaign

LARGE = {
    "load": {"batch_size": list(range(1, 101)), "concurrency": list(range(1, 1001))},
    "server": {"instance_count": list(range(1, 101))},
}


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
    ],
)
def test_the_size_is_that_of_the_expanded_grid(changes: dict[str, Any]) -> None:
    study = campaign(**changes)
    grid = expanded(study)
    assert grid_size(study) == len(grid.points) + grid.merged


def test_a_grid_of_ten_million_points_says_its_size_at_once() -> None:
    study = campaign(**LARGE)
    assert grid_size(study) == 10**7
    message = refusal(check_size, study, yes=False)
    assert message.startswith(
        "campaign: its axes have 10,000,000 combinations, more than 1,000,000"
    )
    check_size(study, yes=True)
    check_size(campaign(), yes=False)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_commands_want_a_yes(tmp_path: Path, command: str) -> None:
    _, site = workplace(tmp_path)
    words = [command, str(write_campaign(tmp_path, **LARGE)), "--site", str(site)]
    words += ["--results", str(tmp_path / "results")] if command == "run" else []
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "repeat with --yes" in done.output
    assert not (tmp_path / "results").exists()
