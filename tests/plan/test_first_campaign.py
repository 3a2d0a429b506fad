"""The campaign file that `hpcbench campaign` writes for a repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcbench import Campaign
from hpcbench.cli.main import main
from hpcbench.plan.first_campaign import first_campaign
from hpcbench.plan.model import read_model
from tests.helpers import models
from tests.helpers.builders import expanded, refusal, write_model


def written(repository: Path, file: Path) -> Campaign:
    """The campaign as it is read from the file that the command writes."""
    result = CliRunner().invoke(main, ["campaign", str(repository), str(file)])
    assert result.exit_code == 0, result.output
    return Campaign.load(file)


def test_a_first_campaign_scans_each_model_within_its_limits(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_model(repository, "wide", inputs={"x": (16, -1), "mask": (1,)})
    write_model(repository, "narrow", max_batch_size=8)
    study = written(repository, tmp_path / "campaigns" / "first.yaml")
    known = {each.name: read_model(repository, each.name) for each in study.models}
    sizes: dict[str, set[int]] = {name: set() for name in known}
    for point in expanded(study, known).points:
        sizes[point.variant.model.name].add(point.load.batch_size)
    assert sizes == {"narrow": {1, 4}, "wide": {1, 4, 16, 64}}
    assert study.model_repository == repository
    (shapes,) = [each.shapes for each in study.models if each.name == "wide"]
    assert shapes == {"x": (16, 16)}


def test_a_length_that_is_left_open_is_marked_to_be_filled_in(tmp_path: Path) -> None:
    write_model(tmp_path, inputs={"x": (16, -1)})
    text = first_campaign(tmp_path, tmp_path)
    assert "16 stands for a -1: fill in what you will send\n      x: [16, 16]" in text


def test_a_model_without_a_configuration_is_scanned_with_what_any_model_takes(
    tmp_path: Path,
) -> None:
    (write_model(tmp_path) / "config.pbtxt").unlink()
    text = first_campaign(tmp_path, tmp_path)
    assert "Triton completes them" in text
    assert "  batch_size: [1]\n" in text


def test_models_that_an_ensemble_calls_or_that_cannot_be_read_are_comments(tmp_path: Path) -> None:
    models.ensemble(tmp_path)
    (tmp_path / "empty").mkdir()
    write_model(tmp_path, "no: yaml")
    text = first_campaign(tmp_path, tmp_path)
    assert [line for line in text.splitlines() if "- name:" in line] == [
        "  - name: chain",
    ]
    assert "  # left out: no: yaml: Model: name: allowed are letters" in text
    assert "  # left out: scale: an ensemble calls it" in text
    assert "has no version folder" in text


@pytest.mark.parametrize("make", [lambda path: None, lambda path: (path / "empty").mkdir()])
def test_a_folder_without_models_is_refused(tmp_path: Path, make) -> None:
    make(tmp_path)
    assert "no model can be measured" in refusal(first_campaign, tmp_path, tmp_path)


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    write_model(tmp_path / "models")
    file = tmp_path / "campaign.yaml"
    file.write_text("mine")
    result = CliRunner().invoke(main, ["campaign", str(tmp_path / "models"), str(file)])
    assert (result.exit_code, file.read_text()) == (2, "mine")
    assert "exists already" in result.output


def test_names_that_are_no_text_are_spelt_out(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_model(repository)
    for name in (b"odd\xff", b"bell\x07"):
        (repository / os.fsdecode(name) / "1").mkdir(parents=True)
    study = written(repository, tmp_path / "campaign.yaml")
    assert [each.name for each in study.models] == ["tagger"]
    comments = (tmp_path / "campaign.yaml").read_text(encoding="utf-8")
    assert r"# left out: odd\udcff: " in comments
    assert r"# left out: bell\x07: " in comments


def test_a_file_that_cannot_be_written_whole_is_not_left_behind(tmp_path: Path) -> None:
    write_model(tmp_path / "models")
    file = tmp_path / "campaign.yaml"
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
        "from hpcbench.cli.main import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-B", "-c", code, "campaign", str(tmp_path / "models"), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "cannot be written: File too large" in ended.stderr
    assert not file.exists()


def test_the_command_says_what_to_type_next(tmp_path: Path, monkeypatch) -> None:
    write_model(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["campaign", "models"])
    assert result.output.splitlines() == ["campaign.yaml", "next: hpcbench plan campaign.yaml"]
    assert "model_repository: models\n" in Path("campaign.yaml").read_text()
