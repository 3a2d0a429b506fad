"""Each kind of model that public repositories hold: a row with a sentence, and no file touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hpcbench import load_results
from tests.helpers import model_kinds
from tests.helpers.real import site_file
from tests.helpers.stranger import UID
from tests.helpers.waiting import wait_until

ORDINARY = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if not os.getuid() else []
"""Root without its capabilities may write only where the modes of files let it, as any user."""


def rows(results: Path) -> pd.DataFrame:
    try:
        return load_results(results, ["model", "part_of", "point_id", "repeat", "ended_at"])
    except Exception:  # noqa: BLE001 - nothing is there yet, or a file goes while it is read
        return pd.DataFrame({"model": [], "part_of": []})


@pytest.mark.native
# Some twenty servers, and TensorFlow twice, beside whatever else this machine does.
@pytest.mark.timeout(2400)
@pytest.mark.usefixtures("leaves_nothing")
def test_each_kind_of_model_ends_with_a_row_and_an_interruption_repeats_none(
    tmp_path: Path, native_prefix: Path
) -> None:
    """An ordinary user, a repository that nobody may write to, and warnings that are errors."""
    repository, results = tmp_path / "models", tmp_path / "results"
    model_kinds.build(repository, native_prefix)
    model_kinds.lock(repository, UID if ORDINARY else None)
    before = model_kinds.tree(repository)
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(model_kinds.campaign(repository)))
    site = site_file(tmp_path, native_prefix, max_jobs=2)
    command = [
        *(*ORDINARY, sys.executable, "-W", "error", "-m", "hpcbench", "run"),
        *(str(tmp_path / "campaign.yaml"), "--site", str(site), "--results", str(results)),
    ]
    # A model in Python and an ensemble with one are measured, then somebody presses Ctrl-C.
    early = {entry["name"] for entry in model_kinds.OFTEN[:2]}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert wait_until(lambda: early <= set(rows(results)["model"]), 500), process.kill()
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=500)[0]
    assert process.returncode == 130, output
    first = rows(results)
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    output += done.stdout + done.stderr
    frame = load_results(results)
    assert done.returncode == 0, output
    assert "Warning" not in output
    again = first.merge(frame, on=["point_id", "repeat", "ended_at"])
    assert len(again) == len(first), "what was measured has been measured again"
    assert model_kinds.tree(repository) == before
    asked = [*model_kinds.MEASURED, *model_kinds.NAMED_NOT_HERE]
    assert not model_kinds.wrong_rows(frame, asked, model_kinds.LACKING)
    assert set(frame[frame["part_of"].notna()]["model"]) == {"add", "sub", "tau_inputs", "tau_core"}
