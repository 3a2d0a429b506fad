"""Input data is compared with the models that get it, before a run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hpcbench import Campaign, Site, plan
from hpcbench.cli.main import main
from hpcbench.errors import BadInput
from hpcbench.plan.input_data import folder_problems, input_digest
from hpcbench.plan.model import TritonModel, read_model
from tests.helpers.builders import refusal, workplace, write_campaign


@pytest.fixture
def tagger(tmp_path: Path) -> TritonModel:
    version = tmp_path / "models" / "tagger" / "1"
    version.mkdir(parents=True)
    inputs = {"x": ("FP32", "2, -1"), "flavour": ("STRING", "1")}
    text = "".join(
        f'input {{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] }}\n'
        for name, (kind, dims) in inputs.items()
    )
    (version.parent / "config.pbtxt").write_text(text)
    return read_model(tmp_path / "models", "tagger")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "x").write_bytes(np.zeros((2, 3), np.float32).tobytes())
    (folder / "flavour").write_text("b\n")
    return folder


def test_a_folder_with_a_file_for_each_input_has_no_problems(
    tagger: TritonModel, folder: Path
) -> None:
    assert folder_problems(folder, tagger, {"x": (2, 3)}) == []


def test_a_file_of_another_size_is_reported_with_both_sizes(
    tagger: TritonModel, folder: Path
) -> None:
    (problem,) = folder_problems(folder, tagger, {"x": (2, 4)})
    assert problem == (
        f"{folder}/x has 24 bytes; the input of model 'tagger' is FP32 [2, 4], which takes 32"
    )


def test_a_folder_does_not_say_shapes(tagger: TritonModel, folder: Path) -> None:
    (problem,) = folder_problems(folder, tagger, {})
    assert "its dims are [2, -1]; write shapes: into the campaign" in problem


def test_an_input_without_a_file_is_reported(tagger: TritonModel, folder: Path) -> None:
    (folder / "flavour").unlink()
    (problem,) = folder_problems(folder, tagger, {"x": (2, 3)})
    assert problem.startswith(f"{folder} has no file 'flavour' for that input of model 'tagger'")


def test_a_folder_counts_by_the_content_of_its_files(folder: Path) -> None:
    before = input_digest(str(folder), "here")
    (folder / "x").write_bytes(np.ones((2, 3), np.float32).tobytes())
    assert input_digest(str(folder), "here") != before


def test_what_perf_analyzer_could_not_read_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(BadInput) as caught:
        input_digest(str(tmp_path / "x.json"), "here")
    assert str(caught.value).startswith(f"here: {tmp_path}/x.json has no list 'data'")
    assert "random, zero, or the path of a JSON file or folder" in str(caught.value)


@pytest.mark.parametrize("key", ["input_data", "request_intervals"])
def test_a_file_that_can_be_read_only_once_is_refused(tmp_path: Path, key: str) -> None:
    """It was empty, or waited for, when perf_analyzer read it again."""
    workplace(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    section = "load" if key == "request_intervals" else "measurement"
    study = Campaign.load(write_campaign(tmp_path, **{section: {key: "pipe"}}))
    message = refusal(plan, study, Site.load(tmp_path / "site.yaml"))
    assert f"{key}: {tmp_path}/pipe is a named pipe, which can be read only once" in message


def test_a_plan_hints_at_random_strings(tmp_path: Path) -> None:
    workplace(tmp_path)
    config = tmp_path / "models" / "tagger" / "config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_FP32", "TYPE_STRING"))

    def hints(**measurement: object) -> tuple[str, ...]:
        study = Campaign.load(write_campaign(tmp_path, measurement=measurement))
        return plan(study, Site.load(tmp_path / "site.yaml")).hints

    (hint,) = hints(string_data=[None, "7"])
    assert hint.startswith("model 'tagger': its inputs of TYPE_STRING get random letters; if it")
    assert "string_data" in hint
    assert hints(string_data="7") == hints(input_data="zero") == ()
    done = CliRunner().invoke(
        main, ["plan", str(write_campaign(tmp_path)), "--site", str(tmp_path / "site.yaml")]
    )
    assert "get random letters" in " ".join(done.output.split())
