"""Whether results are as their campaign expects."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from hpcbench.analysis.decide.references import (
    ReferenceOutcome,
    check_references,
    reference_lines,
    references_json,
)
from hpcbench.cli.main import main
from hpcbench.config.campaign import Campaign
from hpcbench.records.folder import Results
from hpcbench.records.references import expectations, read_expectations
from hpcbench.records.store import PLAN_SCHEMA, write_plan
from tests.helpers.builders import campaign, write_campaign, write_site
from tests.helpers.measurements import A100, T4, failed, loaded, measured, repeats, write

NAME = "Tagger, batch size 8, concurrency 4, base"
ENOUGH = {"throughput_infer_per_s": [1000, -0.05, None]}


def checked(records: list[Any], *references: dict[str, Any]) -> Any:
    expected = expectations(campaign(references=references))
    return check_references(loaded(records), expected)


def outcomes(found: Any) -> list[tuple[Any, str]]:
    return [(each.row["batch_size"], each.outcome.value) for each in found.checked]


@pytest.mark.parametrize(
    ("throughput", "outcome"),
    [(951.0, "met"), (949.0, "not met"), (5000.0, "met")],
)
def test_a_tolerance_is_a_fraction_of_what_is_expected(throughput: float, outcome: str) -> None:
    found = checked([measured(throughput)], {"expect": ENOUGH})
    assert outcomes(found) == [(8, outcome)]
    assert found.is_missed == (outcome != "met")


@pytest.mark.parametrize(("p99_ms", "met"), [(4.4, False), (4.6, True), (5.4, True), (5.6, False)])
def test_a_metric_may_be_bounded_on_both_sides(p99_ms: float, met: bool) -> None:
    found = checked([measured(p99_ms=p99_ms)], {"expect": {"latency_p99_us": [5000, -0.1, 0.1]}})
    assert (found.count(ReferenceOutcome.MET) == 1) is met


def test_the_mean_over_the_repeats_is_checked() -> None:
    assert outcomes(checked(repeats([940, 980]), {"expect": ENOUGH})) == [(8, "met")]
    assert outcomes(checked(repeats([930, 960]), {"expect": ENOUGH})) == [(8, "not met")]


def test_only_the_points_that_it_names_are_meant() -> None:
    records = [measured(100.0 * batch, batch_size=batch) for batch in (1, 8, 64)]
    found = checked(records, {"points": {"batch_size": [8, 64]}, "expect": ENOUGH})
    assert outcomes(found) == [(8, "not met"), (64, "met")]


def test_a_reference_of_one_gpu_says_nothing_of_another() -> None:
    records = [measured(1000.0), measured(300.0, gpu_name=T4, pool="t4")]
    assert outcomes(checked(records, {"gpu": A100, "expect": ENOUGH})) == [(8, "met")]
    slow = {"gpu": T4, "expect": {"throughput_infer_per_s": [400, -0.1, None]}}
    assert outcomes(checked(records, slow)) == [(8, "not met")]


def test_what_failed_or_is_not_valid_was_not_measured() -> None:
    alone = checked([failed("out of memory", pool_gpu=A100)], {"gpu": A100, "expect": ENOUGH})
    assert outcomes(alone) == [(8, "not measured")]
    assert alone.is_missed
    assert any("missing (out of memory)" in line for line in reference_lines(alone))
    wrong = checked([measured(failure_count=3)], {"expect": ENOUGH})
    assert any("missing (not valid: FAILURES" in line for line in reference_lines(wrong))


def test_what_does_not_apply_to_a_pool_is_not_expected_of_it() -> None:
    found = checked([measured(), failed(status="not_applicable", pool="cpu")], {"expect": ENOUGH})
    assert outcomes(found) == [(8, "met")]


def test_nothing_of_a_gpu_is_said_and_no_failure() -> None:
    found = checked([measured()], {"gpu": T4, "expect": ENOUGH})
    assert not found.is_missed
    assert [*reference_lines(found)] == [
        "references: none is about these results",
        "  nothing in these results for references[0].expect.throughput_infer_per_s, of Tesla T4",
    ]


def test_the_mean_of_what_is_left_meets_nothing_where_a_repeat_failed() -> None:
    died = [*repeats([1000, 1010]), failed("the server died", repeat=2)]
    found = checked(died, {"expect": ENOUGH})
    assert outcomes(found) == [(8, "not met")]
    assert found.is_missed
    assert any(
        "is 1,005" in line and "where 1 of 3 repeats failed (the server died)" in line
        for line in reference_lines(found)
    )
    slow = measured(1000, repeat=2, failure_count=3)
    assert outcomes(checked([*repeats([1000, 1010]), slow], {"expect": ENOUGH})) == [(8, "not met")]


def test_an_entry_about_nothing_that_was_measured_or_planned_is_not_met() -> None:
    """Unless it is about a GPU that is not here, or about points that do not apply."""
    entry = {"points": {"batch_size": [64]}, "expect": ENOUGH}
    found = checked([measured()], entry)
    assert found.is_missed
    lines = [*reference_lines(found)]
    assert any("not measured: nothing in these results is what" in line for line in lines)
    assert references_json(found)[0]["outcome"] == "not measured"
    assert checked([measured()], entry | {"gpu": A100}).is_missed
    assert not checked([measured()], entry | {"gpu": T4}).is_missed
    beyond = failed(status="not_applicable", batch_size=64)
    assert not checked([measured(), beyond], entry).is_missed


def test_a_point_that_was_planned_and_is_not_there_was_not_measured(tmp_path: Path) -> None:
    records = repeats([1000, 1010], pool="cpu", point_id="there")
    folder = expecting(tmp_path / "r", 1000, records)
    write_site(folder)
    names = [name for name in PLAN_SCHEMA.names if hasattr(records[0], name)]
    rows = [{name: getattr(record, name) for name in names} for record in records]
    # Its models are named as in the campaign of the folder.
    rows = [row | {"model_label": "tagger"} for row in rows]
    write_plan(Results(folder), rows)
    assert command("check", folder).exit_code == 0
    absent = [row | {"point_id": "absent", "batch_size": 16} for row in rows]
    write_plan(Results(folder), [*rows, *absent])
    done = command("check", folder)
    assert done.exit_code == 1
    assert "references: 1 met, 1 not measured" in done.output
    assert "not measured: tagger, batch size 16" in done.output
    assert "is missing (the point is not in the results)" in done.output
    assert command("compare", folder, folder, "--junit", tmp_path / "j.xml").exit_code == 1
    assert "the point is not in the results" in (tmp_path / "j.xml").read_text()


def test_a_reference_is_not_met_by_fewer_repeats_than_were_planned(tmp_path: Path) -> None:
    planned = repeats([1000, 400, 400], pool="cpu", point_id="there")
    names = [name for name in PLAN_SCHEMA.names if hasattr(planned[0], name)]
    rows = [
        {name: getattr(record, name) for name in names} | {"model_label": "tagger"}
        for record in planned
    ]
    folder = expecting(tmp_path / "r", 1000, planned[:1])
    write_site(folder)
    write_plan(Results(folder), rows)
    done = command("check", folder)
    assert done.exit_code == 1
    assert "references: 1 not measured" in done.output
    assert "is 1,000 where 2 more repeats were planned and are not in the results" in done.output
    (row,) = json.loads(command("check", folder, "--json").stdout)["references"]
    assert (row["absent"], row["outcome"]) == (2, "not measured")
    write_plan(Results(folder), rows[:1])
    assert command("check", folder).exit_code == 0


def test_only_the_latest_session_of_a_pool_counts() -> None:
    night = datetime(2026, 11, 1, tzinfo=UTC)
    records = [
        measured(speed, run_id=f"r{number}", pool=pool, ended_at=night + timedelta(days=number))
        for number, (speed, pool) in enumerate([(1000, "a100"), (500, "a100"), (1000, "other")])
    ]
    found = checked(records, {"expect": ENOUGH})
    assert [(each.row["pool"], each.outcome.value) for each in found.checked] == [
        ("a100", "not met"),
        ("other", "met"),
    ]


def test_a_model_beside_others_is_not_meant() -> None:
    beside = json.dumps([])
    found = checked([measured(500.0, beside=beside), measured(1000.0)], {"expect": ENOUGH})
    assert outcomes(found) == [(8, "met")]


def expecting(folder: Path, value: float, records: list[Any]) -> Path:
    """A results folder whose campaign expects a throughput."""
    write(folder, records)
    reference = {"expect": {"throughput_infer_per_s": [value, -0.05, None]}}
    write_campaign(folder, references=[reference])
    return folder


def command(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_check_says_which_were_met(tmp_path: Path) -> None:
    good = expecting(tmp_path / "good", 1000, repeats([1000, 1010]))
    done = command("check", good)
    assert done.exit_code == 0
    assert "references: 1 met" in done.output
    bad = expecting(tmp_path / "bad", 2000, repeats([1000, 1010]))
    done = command("check", bad)
    assert done.exit_code == 1
    assert "references: 1 not met" in done.output
    assert "throughput_infer_per_s is 1,005 [" in done.output
    assert "expected 1,900 or more" in done.output
    (row,) = json.loads(command("check", bad, "--json").stdout)["references"]
    assert (row["outcome"], row["mean"], row["at_least"], row["at_most"]) == (
        "not met",
        1005.0,
        1900.0,
        None,
    )


def test_compare_says_which_were_met_by_b(tmp_path: Path) -> None:
    """Nothing got worse, and yet a reference was not met; those of A count for nothing."""
    a = expecting(tmp_path / "a", 5000, repeats([1000, 1010]))
    b = expecting(tmp_path / "b", 2000, repeats([1000, 1010]))
    out = tmp_path / "junit.xml"
    done = command("compare", a, b, "--junit", out)
    assert done.exit_code == 1
    assert "references: 1 not met" in done.output
    failures = [c.get("name") for c in ET.parse(out).getroot() if c.find("failure") is not None]
    assert failures == [f"reference: throughput_infer_per_s: {NAME}"]
    (b / "campaign.yaml").unlink()
    assert command("compare", a, b).exit_code == 0


def test_the_references_of_the_latest_session_count_in_a_history(tmp_path: Path) -> None:
    night = datetime(2026, 11, 1, tzinfo=UTC)
    a = expecting(tmp_path / "a", 5000, repeats([1000, 1010], ended_at=night))
    b = expecting(tmp_path / "b", 1000, repeats([1000, 1010], ended_at=night + timedelta(days=1)))
    done = command("compare", "--against-history", b, a)
    assert done.exit_code == 0
    assert "references: 1 met" in done.output


def test_references_are_read_back_from_a_results_folder(tmp_path: Path) -> None:
    """A merged file, and a campaign without references, have none."""
    folder = expecting(tmp_path / "a", 5000, [measured()])
    assert read_expectations(folder) == expectations(Campaign.load(folder / "campaign.yaml"))
    write_campaign(folder)
    assert read_expectations(folder) == ()
    assert read_expectations(folder / "records" / "placement.parquet") == ()
