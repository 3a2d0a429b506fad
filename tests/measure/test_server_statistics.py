"""What the server counted: the batches that ran, and requests of somebody else."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from hpcbench.config.triton_messages import ModelConfig
from hpcbench.measure import server_statistics
from hpcbench.measure.sampling import Reading
from hpcbench.measure.server_statistics import Counted, ModelCounts, Sent
from hpcbench.plan.model import TritonModel
from hpcbench.records.columns import Record, Status
from tests.helpers import real
from tests.helpers.leftovers import own_program
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import quick_run

ANSWER = json.loads((CHECKOUT / "tests/data/statistics/dynamic_batching.json").read_text())

native = pytest.mark.native
clean = pytest.mark.usefixtures("leaves_nothing")


def model(name: str, text: str = "", composing: tuple[TritonModel, ...] = ()) -> TritonModel:
    return TritonModel(
        name=name,
        folder=Path(name),
        digest=name,
        config=text_format.Parse(text, ModelConfig()).SerializeToString(),
        max_batch_size=8,
        dynamic_batching=False,
        inputs=None,
        versions=(1,),
        composing=composing,
    )


def counted(seconds: float = 1.0, **requests: int) -> Counted:
    return Counted({name: ModelCounts(n, 0, 0, {}) for name, n in requests.items()}, seconds)


def test_a_real_answer_is_read_as_batches_by_their_size() -> None:
    counts = server_statistics.parse(ANSWER)["jet_tagger"]
    assert counts.answered == 5066
    assert counts.executions == {1: 502, 2: 1952, 4: 165}
    assert sum(size * count for size, count in counts.executions.items()) == 5066
    assert counts.columns == {
        "failure_count": 0,
        "cache_hit_count": 0,
        "executed_batch_sizes": (1, 2, 4),
        "executed_batch_counts": (502, 1952, 165),
    }


def test_versions_of_a_model_are_counted_together() -> None:
    (first,) = ANSWER["model_stats"]
    counts = server_statistics.parse({"model_stats": [first, first | {"version": "2"}]})
    assert counts["jet_tagger"].answered == 2 * 5066
    assert counts["jet_tagger"].executions == {1: 1004, 2: 3904, 4: 330}


def test_what_counts_is_the_difference_between_the_first_and_the_last_reading() -> None:
    readings = [
        Reading(10.0, {"a": ModelCounts(100, 1, 0, {1: 90, 2: 5})}),
        Reading(10.5, {"a": ModelCounts(150, 1, 0, {1: 100, 2: 25})}),
        Reading(11.0, {"a": ModelCounts(200, 3, 4, {1: 90 + 10, 2: 45, 8: 1})}),
    ]
    found = server_statistics.counted(readings)
    assert found is not None
    assert found.seconds == 1.0
    assert found.counts["a"] == ModelCounts(100, 2, 4, {1: 10, 2: 40, 8: 1})


def test_one_reading_says_nothing_of_an_interval() -> None:
    assert server_statistics.counted([Reading(1.0, {})]) is None
    assert server_statistics.counted([]) is None


@pytest.mark.parametrize("requests", [1000, 960, 1040])
def test_the_edges_of_the_windows_are_nobody_elses_requests(requests: int) -> None:
    sent = [Sent(model("jets"), 1000.0, 4)]
    assert server_statistics.foreign_requests(counted(jets=requests), sent) == 0


def test_requests_over_the_clients_are_somebody_elses() -> None:
    sent = [Sent(model("jets"), 500.0, 4)]
    assert server_statistics.foreign_requests(counted(2.0, jets=1500), sent) == 500


def test_requests_to_a_model_that_is_loaded_and_idle_are_somebody_elses() -> None:
    sent = [Sent(model("jets"), 500.0, 4)]
    found = counted(jets=500, idle=300)
    assert server_statistics.foreign_requests(found, sent) == 300


def test_models_under_load_at_the_same_time_are_not_strangers() -> None:
    sent = [Sent(model("jets"), 500.0, 4), Sent(model("taus"), 300.0, 2)]
    assert server_statistics.foreign_requests(counted(jets=500, taus=300), sent) == 0


STEPS = """
ensemble_scheduling {
  step { model_name: "prepare" } step { model_name: "tag" } step { model_name: "prepare" }
}"""


def test_what_an_ensemble_calls_is_the_ensembles() -> None:
    """A step that stands in it twice runs twice."""
    sent = [Sent(model("all", STEPS, (model("prepare"), model("tag"))), 400.0, 4)]
    found = counted(all=400, prepare=800, tag=400)
    assert server_statistics.foreign_requests(found, sent) == 0


def test_a_strangers_request_to_an_ensemble_counts_once_however_many_models_it_calls() -> None:
    sent = [Sent(model("all", STEPS, (model("prepare"), model("tag"))), 400.0, 4)]
    found = counted(all=600, prepare=1200, tag=600)
    assert server_statistics.foreign_requests(found, sent) == 200


def test_a_strangers_request_to_a_model_that_an_ensemble_calls_is_noticed() -> None:
    sent = [Sent(model("all", STEPS, (model("prepare"), model("tag"))), 400.0, 4)]
    found = counted(all=400, prepare=800, tag=550)
    assert server_statistics.foreign_requests(found, sent) == 150


def test_what_a_python_model_may_have_called_itself_is_no_strangers() -> None:
    """Triton does not say who called, and a script may call any other model."""
    sent = [Sent(model("script", 'backend: "python"'), 400.0, 4)]
    assert server_statistics.foreign_requests(counted(script=400, jets=400), sent) == 0
    assert server_statistics.foreign_requests(counted(script=700, jets=400), sent) == 300


def measured(folder: Path, prefix: Path, models: Path, **changes: Any) -> list[Record]:
    return real.measured(*quick_run(folder, prefix, models, **changes), folder / "logs")


@native
@clean
def test_dynamic_batching_shows_in_the_batches_that_ran(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    plain, batched = measured(
        tmp_path,
        native_prefix,
        demo_models,
        server={"preferred_batch_size": [None, [4, 8]]},
        load={"batch_size": 1, "concurrency": 8},
        measurement={"measurement_interval_ms": 700, "stability_percentage": 900.0},
    )
    assert plain.executed_batch_sizes == (1,)
    assert max(batched.executed_batch_sizes or ()) > 1
    for record in (plain, batched):
        assert record.status == Status.OK, record.reason
        sizes, counts = record.executed_batch_sizes or (), record.executed_batch_counts or ()
        ran = sum(size * count for size, count in zip(sizes, counts, strict=True))
        # Two readings, 0.1 s apart at most from the edges of windows of 2.1 s.
        assert ran == pytest.approx(record.request_count, rel=0.2)
        assert (record.foreign_requests, record.failure_count) == (0, 0)


def _stranger(prefix: Path, over: threading.Event) -> None:
    """Once a perf_analyzer of this test measures, send requests to the same server."""
    words = own_program("perf_analyzer", "-m").cmdline()
    shapes = [word for word in words if word.startswith(("--shape", "pf_", "sv_"))]
    url = words[words.index("-u") + 1]
    argv = [str(prefix / "bin" / "perf_analyzer"), "-m", "jet_tagger", "-u", url, "-i", "grpc"]
    argv += ["--async", "--concurrency-range", "4:4", "-p", "500", "-r", "100", *shapes]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        over.wait()
        process.kill()


@native
@clean
def test_requests_of_another_process_are_noticed(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    over = threading.Event()
    stranger = threading.Thread(target=_stranger, args=(native_prefix, over), daemon=True)
    stranger.start()
    (record,) = measured(
        tmp_path,
        native_prefix,
        demo_models,
        load={"batch_size": 1, "concurrency": 2},
        measurement={"measurement_interval_ms": 1500, "stability_percentage": 900.0},
    )
    over.set()
    stranger.join(10)
    assert record.status == Status.UNSTABLE
    assert "somebody else sent" in (record.reason or "")
    assert (record.foreign_requests or 0) > 0.1 * (record.request_count or 0)
