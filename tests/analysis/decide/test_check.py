"""`hpcbench check` tells which measurements may not be believed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from hpcbench import load_results, save_results
from hpcbench.analysis.decide.check import check_json, check_lines, check_results
from hpcbench.cli.main import main
from hpcbench.errors import BadInput
from tests.helpers.measurements import failed, loaded, measured, write
from tests.records.test_validity import BREAKS, SOUND

WRONG = {"batch_size": 100, "latency_avg_us": 48_064.0}


def test_the_counts_add_up() -> None:
    rows = [measured(), measured(83.0, **WRONG), measured(repeat=1, status="unstable")]
    rows.append(failed(concurrency=16))
    found = check_results(loaded(rows))
    assert (found.valid, found.invalid, found.not_measured, found.left_out) == (1, 2, 1, 1)
    assert [(each.rule.code, each.count) for each in found.broken] == [
        ("LITTLE", 1),
        ("UNSETTLED", 1),
    ]


def test_a_rule_names_some_measurements_and_counts_all() -> None:
    rows = [measured(83.0, repeat=repeat, **WRONG) for repeat in range(7)]
    text = "\n".join(check_lines(check_results(loaded(rows))))
    assert "7 measurements: 0 valid, 7 not valid, 0 without metrics" in text
    assert "LITTLE: 7, left out of figures and decisions" in text
    assert text.count("pool a100, repeat") == 5
    assert "and 2 more; --json lists all" in text
    assert len(check_json(check_results(loaded(rows)))["rows"]) == 7


def test_no_results_cannot_be_checked() -> None:
    with pytest.raises(BadInput, match="no results to check"):
        check_results(loaded([measured()]).iloc[:0])


@pytest.mark.parametrize("wrong", [False, True])
def test_the_exit_code_says_whether_all_is_valid(tmp_path: Path, wrong: bool) -> None:
    folder = write(tmp_path / "results", [measured(), *([measured(83.0, **WRONG)] * wrong)])
    result = CliRunner().invoke(main, ["check", str(folder)])
    assert result.exit_code == int(wrong)
    result = CliRunner().invoke(main, ["check", str(folder), "--json"])
    assert result.exit_code == int(wrong)
    assert json.loads(result.stdout)["invalid"] == int(wrong)


def test_a_frame_of_somebody_elses_program_is_checked_as_far_as_its_columns_go(
    tmp_path: Path,
) -> None:
    names = ["point_id", "campaign", "site", "pool", "repeat", "placement_id", "status"]
    names += ["model", "model_label", "batch_size", "concurrency", "throughput_infer_per_s"]
    frame = loaded([measured(), measured(83.0, **WRONG)])[[*names, "latency_avg_us"]]
    save_results(pd.DataFrame(frame.to_dict("list")), tmp_path / "mine")
    assert load_results(tmp_path / "mine")["invalid_reasons"].dropna().tolist() == ["LITTLE"]
    assert CliRunner().invoke(main, ["check", str(tmp_path / "mine")]).exit_code == 1


def test_each_rule_is_named_with_the_rows_that_break_it(tmp_path: Path) -> None:
    columns = [SOUND, *(SOUND | change for changes in BREAKS.values() for change in changes)]
    rows = [measured(repeat=repeat, **each) for repeat, each in enumerate(columns)]
    result = CliRunner().invoke(main, ["check", str(write(tmp_path / "results", rows)), "--json"])
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["valid"] == 1
    broken = pd.DataFrame(found["rows"]).set_index("repeat")["invalid_reasons"]
    codes = [code for code, changes in BREAKS.items() for _ in changes]
    assert broken.to_dict() == dict(enumerate(codes, start=1))
