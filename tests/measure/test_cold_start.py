"""The first request of a model may take many times as long as all others; it never counts."""

from pathlib import Path

import pytest

from tests.helpers import models
from tests.helpers.real import QUICK, measured, quick_run

COLD_S = 6.0
COLD = f"""
import time
import triton_python_backend_utils as utils

class TritonPythonModel:
    cold = True

    def execute(self, requests):
        if self.cold:
            time.sleep({COLD_S})
            self.cold = False
        tensors = [utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        return [utils.InferenceResponse([utils.Tensor("y", each)]) for each in tensors]
"""


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_a_cold_first_request_is_over_before_a_window_counts(
    tmp_path: Path, native_prefix: Path
) -> None:
    """As TensorFlow's, which builds what it runs when it is asked first. All windows last 2.5 s."""
    version = models.write(
        tmp_path / "models", "cold", [("x", (4,))], [("y", (4,))], platform='backend: "python"'
    )
    (version / "model.py").write_text(COLD)
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        models=[{"name": "cold"}],
        load={"batch_size": 1, "concurrency": 2},
        measurement=QUICK,
    )
    (record,) = measured(campaign, site, tmp_path / "logs")
    assert record.status == "ok", record.reason
    assert record.latency_p99_us is not None
    assert record.latency_p99_us < COLD_S * 1e6 / 2
