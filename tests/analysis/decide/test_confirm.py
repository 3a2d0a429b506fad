"""What is measured again before anybody relies on a recommendation."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcbench import load_results, plan
from hpcbench.analysis.decide.confirm import points_to_confirm
from hpcbench.cli.main import main
from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Site
from tests.helpers.builders import refusal, workplace, write_campaign
from tests.helpers.measurements import failed, measured, server, write
from tests.helpers.real import UNHURRIED, campaign_file, site_file

TWO = server(instance_count=2)


def scan() -> list:
    """Two that cannot be told apart, the base, and one that is far behind."""
    metrics = {"a": (1000, 5.0, TWO, 1), "b": (1004, 9.0, TWO, 2), "c": (700, 5.0, server(), 1)}
    metrics["d"] = 100, 5.0, TWO, 4
    return [
        measured(
            throughput + 8 * repeat,
            p99,
            repeat=repeat,
            point_id=name,
            variant=variant,
            concurrency=concurrency,
        )
        for name, (throughput, p99, variant, concurrency) in metrics.items()
        for repeat in range(3)
    ]


def test_the_recommended_its_rivals_and_the_base_are_measured_again(tmp_path: Path) -> None:
    assert points_to_confirm(write(tmp_path / "r", scan())) == {"a", "b", "c"}


def test_where_nothing_was_repeated_the_next_best_are_measured_again_and_that_is_said(
    tmp_path: Path,
) -> None:
    once = [each for each in scan() if each.repeat == 0]
    once.append(measured(900, 5.0, point_id="e", variant=TWO, concurrency=8))
    results, out, notes = write(tmp_path / "r", once), tmp_path / "out", []
    assert points_to_confirm(results, notes.append) == {"b", "a", "e", "c"}
    (note,) = notes
    assert "the next best 2 are measured again" in note
    said = CliRunner().invoke(main, ["recommend", str(results), "--out", str(out)]).output
    assert "--confirm measures it and the next best 2 again" in " ".join(said.split())
    assert points_to_confirm(out) == {"b", "a", "e", "c"}
    points_to_confirm(write(tmp_path / "repeated", scan()), pytest.fail)


def test_the_limits_of_a_recommendation_count_where_its_folder_is_named(tmp_path: Path) -> None:
    results, out = write(tmp_path / "r", scan()), tmp_path / "out"
    words = ["recommend", str(results), "--max-latency-p99-ms", "7", "--out", str(out)]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert points_to_confirm(out) == {"a", "c"}


def test_where_nothing_is_recommended_there_is_nothing_to_confirm(tmp_path: Path) -> None:
    said = refusal(points_to_confirm, write(tmp_path / "r", [failed()]))
    assert "nothing is recommended there" in said


def test_only_the_points_to_confirm_are_planned_and_those_that_are_gone_are_named(
    tmp_path: Path,
) -> None:
    from hpcbench.plan.plan import plan as plan_of

    _, where = workplace(tmp_path)
    file = write_campaign(tmp_path, load={"batch_size": [1, 2, 4, 8]})
    campaign, site = Campaign.load(file), Site.load(where)
    points = [point.id for point in plan(campaign, site).grid.points]
    some = frozenset(points[:3])
    chosen = plan_of(campaign, site, only=some)
    assert {point.id for point in chosen.grid.points} == some
    assert {p.id for each in chosen.placements["cpu"] for p in each.points} == some
    said = refusal(plan_of, campaign, site, only=frozenset([points[0], "gone"]))
    assert "1 of the 2 points to confirm are not in it" in said


def test_a_folder_does_not_confirm_itself(tmp_path: Path) -> None:
    campaign, site = workplace(tmp_path)
    results = str(write(tmp_path / "r", scan()))
    words = ["run", str(campaign), "--site", str(site), "--results", results]
    done = CliRunner().invoke(main, [*words, "--confirm", "3", results])
    assert done.exit_code == 2
    assert "is the folder of --results, too" in done.output


@pytest.mark.native
@pytest.mark.usefixtures("as_if_alone")
def test_a_recommendation_is_confirmed_on_fresh_servers_in_a_folder_of_its_own(
    tmp_path: Path, native_prefix: Path, demo_models: Path, leaves_nothing: None
) -> None:
    axes = {
        "server": UNHURRIED | {"instance_count": [1, 2]},
        "load": {"batch_size": [1, 64], "concurrency": 2},
    }
    campaign = campaign_file(tmp_path, demo_models, **axes)
    site = site_file(tmp_path, native_prefix)
    first, second = tmp_path / "first", tmp_path / "second"
    words = ["run", str(campaign), "--site", str(site), "--results"]
    assert CliRunner().invoke(main, [*words, str(first)]).exit_code == 0
    done = CliRunner().invoke(main, [*words, str(second), "--confirm", "2", str(first)])
    assert done.exit_code == 0, done.output
    frame = load_results(second)
    wanted = points_to_confirm(first)
    assert set(frame["point_id"]) == wanted
    assert frame.groupby("point_id")["repeat"].nunique().tolist() == [2] * len(wanted)
    assert frame["placement_id"].nunique() >= 2
    assert CliRunner().invoke(main, ["recommend", str(second)]).exit_code == 0
