"""A start that hangs says what it waits for."""

from pathlib import Path

import pytest

from hpcbench.errors import ServerFailed
from hpcbench.measure import server as triton
from hpcbench.plan import plan
from tests.helpers import models
from tests.helpers.real import quick_run

OPTIONS = triton.ServerOptions(cpus=2)

HANGS = """
import time

class TritonPythonModel:
    def initialize(self, args):
        print("waiting for a licence", flush=True)
        time.sleep(600)
"""


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_start_that_hangs_names_the_model_and_its_last_words(
    tmp_path: Path, native_prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = models.write(
        tmp_path / "models", "tau", [("x", (4,))], [("y", (4,))], platform='backend: "python"'
    )
    (version / "model.py").write_text(HANGS)
    chain = {"models": [{"name": "tau"}]}
    campaign, site = quick_run(tmp_path, native_prefix, tmp_path / "models", **chain)
    (placement,) = plan.plan(campaign, site).placements["cpu"]
    log = tmp_path / "server.log"
    # How long this machine takes until the model is asked, nobody knows.
    for limit_s in (6.0, 30.0, 120.0):
        monkeypatch.setattr(triton, "READY_TIMEOUT_S", limit_s)
        with (
            pytest.raises(ServerFailed) as caught,
            triton.serve([placement.points[0].variant], site.container, log, OPTIONS),
        ):
            pass
        if "waiting for a licence" in log.read_text():
            break
    assert caught.value.message == (
        f"Triton was not ready within {limit_s:.0f} s: 'tau' did not load, and the last line of "
        "the log is: waiting for a licence"
    )
