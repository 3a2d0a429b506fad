"""Every server axis on the real Triton: what it loads is what was asked for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from google.protobuf import text_format

from hpcbench import Campaign, Site
from hpcbench.config.triton_protobuf import ModelConfig
from tests.helpers.measurements import loaded
from tests.helpers.real import QUICK, SHAPES, measured, site_file

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


def given(row: Any) -> ModelConfig:
    """The configuration that the server of a row was given."""
    return text_format.Parse(row.server_config, ModelConfig())


def test_each_record_of_a_scan_of_particlenet_has_its_axes_as_the_server_loaded_them(
    tmp_path: Path, native_prefix: Path, shared_models: Path
) -> None:
    shapes = {"pf_points": [2, 50], "pf_features": [20, 50], "pf_mask": [1, 50]}
    shapes |= {"sv_points": [2, 4], "sv_features": [11, 4], "sv_mask": [1, 4]}
    content = {
        "name": "scan",
        "model_repository": str(shared_models),
        "models": [{"name": "particlenet_AK4", "shapes": shapes}],
        "server": {
            "instance_count": [1, 3],
            "preferred_batch_size": [None, [4, 8], []],
            "max_queue_delay_us": [100],
        },
        "load": {"batch_size": [1, 4], "request_rate": 20},
        "measurement": QUICK,
    }
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    site = Site.load(site_file(tmp_path, native_prefix))
    frame = loaded(measured(Campaign.load(path), site, tmp_path / "logs"))
    assert set(frame["status"]) <= {"ok", "unstable"}, list(frame["reason"])
    expected = {
        (count, batch, batching)
        for count, batch in itertools.product((1, 3), (1, 4))
        # Without sizes of its own, Triton prefers the largest.
        for batching in ((False, None, None), (True, (4, 8), 100), (True, (500,), 100))
    }
    found = set()
    for row in frame.itertuples():
        on = bool(row.dynamic_batching)
        sizes = tuple(row.preferred_batch_size) if on else None
        delay = row.max_queue_delay_us if on else None
        found.add((row.instance_count, row.batch_size, (on, sizes, delay)))
        config = given(row)
        assert sum(group.count for group in config.instance_group) == row.instance_count
        assert config.HasField("dynamic_batching") == on
        assert config.max_batch_size == row.max_batch_size == 500
        assert config.optimization.graph.level == row.graph_level == -1
    assert found == expected
    assert len(frame) == len(expected) == 12


def scanned(
    folder: Path, prefix: Path, repository: Path, server: dict[str, Any], **changes: Any
) -> pd.DataFrame:
    # Not as fast as it can: two CPUs would be full for nothing.
    load = {"batch_size": [2], "request_rate": 50}
    content = {
        "name": "scan",
        "model_repository": str(repository),
        "models": [{"name": "jet_tagger", "shapes": SHAPES}],
        "measurement": QUICK,
        "load": load,
        "server": server,
        **changes,
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    campaign, site = Campaign.load(path), Site.load(site_file(folder, prefix))
    return loaded(measured(campaign, site, folder / "logs"))


def test_the_rest_of_the_scheduler_is_loaded_as_asked(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    policy = {"max_queue_size": 64, "timeout_action": "DELAY", "default_timeout_us": 10**6}
    frame = scanned(
        tmp_path,
        native_prefix,
        demo_models,
        {
            "instance_kind": "KIND_CPU",
            "max_batch_size": 16,
            "dynamic_batching": True,
            "max_queue_delay_us": 0,
            "priority_levels": 3,
            "default_priority_level": 2,
            "default_queue_policy": policy,
            "graph_level": 2,
            "config": {"parameters": {"intra_op_thread_count": {"string_value": "1"}}},
        },
    )
    (row,) = frame.itertuples()
    assert row.status == "ok", row.reason
    assert (row.instance_kind, row.max_batch_size) == ("KIND_CPU", 16)
    assert (row.max_queue_delay_us, row.preserve_ordering, row.priority_levels) == (0, False, 3)
    assert row.default_priority_level == 2
    assert '"max_queue_size": 64' in row.default_queue_policy
    assert row.graph_level == 2
    assert given(row).parameters["intra_op_thread_count"].string_value == "1"


def test_a_response_cache_answers_only_where_it_was_asked_for(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    frame = scanned(tmp_path, native_prefix, demo_models, {"response_cache": [True, False, "base"]})
    assert set(frame["status"]) == {"ok"}, list(frame["reason"])
    assert sorted(frame["response_cache"]) == [False, False, True]
    hits = frame.set_index("variant")["server_cache_hit_us"]
    assert hits['{"response_cache": true}'] > 0
    assert hits.drop('{"response_cache": true}').isna().all()


def test_a_rate_limiter_is_loaded_with_its_resources(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    limiter = {"resources": [{"name": "R", "count": 2}], "priority": 1}
    frame = scanned(tmp_path, native_prefix, demo_models, {"rate_limiter": [limiter, None]})
    assert set(frame["status"]) == {"ok"}, list(frame["reason"])
    limiters = frame["rate_limiter"].dropna()
    assert list(limiters) == [
        '{"priority": 1, "resources": [{"count": 2, "global": false, "name": "R"}]}'
    ]


def test_a_server_warms_up_with_every_batch_that_will_be_measured(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    frame = scanned(
        tmp_path,
        native_prefix,
        demo_models,
        {"warmup": [True, "base"]},
        load={"batch_size": [1, 8], "request_rate": 50},
    )
    assert set(frame["status"]) == {"ok"}, list(frame["reason"])
    for row in frame.itertuples():
        warmed = row.variant == '{"warmup": true}'
        sizes = None if row.warmup_batch_sizes is None else tuple(row.warmup_batch_sizes)
        assert sizes == ((1, 8) if warmed else None)
        dims = [list(w.inputs["pf_features"].dims) for w in given(row).model_warmup]
        assert dims == ([[16, 50]] * 2 if warmed else [])


PASSES_ON = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            words = pb_utils.get_input_tensor_by_name(request, "words").as_numpy()
            numbers = pb_utils.get_input_tensor_by_name(request, "numbers").as_numpy()
            seen = f"{words.shape} {words.ravel()[0]!r} {numbers.shape}"
            pb_utils.Logger.log_info(f"one of {len(requests)}: {seen}")
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", numbers)]))
        return answers
"""


def test_strings_and_lengths_that_vary_are_warmed_up(tmp_path: Path, native_prefix: Path) -> None:
    folder = tmp_path / "models" / "passes_on"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(PASSES_ON)
    (folder / "config.pbtxt").write_text(
        'backend: "python" max_batch_size: 8\n'
        'input [{ name: "words" data_type: TYPE_STRING dims: [2] },\n'
        '{ name: "numbers" data_type: TYPE_INT32 dims: [-1] }]\n'
        'output { name: "y" data_type: TYPE_INT32 dims: [-1] }\n'
    )
    frame = scanned(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        {"warmup": True},
        models=[{"name": "passes_on", "shapes": {"numbers": [5]}}],
        load={"batch_size": [3], "concurrency": 1},
    )
    assert list(frame["warmup_batch_sizes"].map(tuple)) == [(3,)], list(frame["reason"])
    (log,) = (tmp_path / "logs").glob("*.server.log")
    # Triton makes a batch of single requests, which a backend joins.
    assert log.read_text().count("one of 3: (1, 2) b'' (1, 5)") % 3 == 0
    assert "one of 3: (1, 2) b'' (1, 5)" in log.read_text()


def test_a_fragment_that_triton_does_not_take_fails_in_its_words(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    frame = scanned(
        tmp_path, native_prefix, demo_models, {"config": {"default_model_filename": "other.onnx"}}
    )
    assert list(frame["status"]) == ["failed"]
    assert "other.onnx" in frame["reason"][0]
