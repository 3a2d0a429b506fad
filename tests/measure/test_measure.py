"""A placement on the real Triton with the real perf_analyzer, without Dask."""

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpcbench.config.site import Site
from hpcbench.errors import UnusableNode
from hpcbench.measure.measure import measure
from hpcbench.plan import plan
from hpcbench.plan.placement import Placement
from hpcbench.records.columns import MEASURED, Record, Status
from tests.helpers import real
from tests.helpers.real import QUICK, quick_run
from tests.helpers.traces import own_program

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("leaves_nothing")]


def placements(
    folder: Path, prefix: Path, models: Path, **changes: Any
) -> tuple[list[Placement], Site]:
    campaign, site = quick_run(folder, prefix, models, **changes)
    return list(plan.plan(campaign, site).placements["cpu"]), site


def measured(folder: Path, prefix: Path, models: Path, **changes: Any) -> list[Record]:
    return real.measured(*quick_run(folder, prefix, models, **changes), folder / "logs")


def test_every_point_gets_its_metrics(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    records = measured(
        tmp_path, native_prefix, demo_models, measurement={**QUICK, "percentile": 95}
    )
    assert [record.batch_size for record in records] == [1, 2, 4]
    assert {record.status for record in records} == {Status.OK}
    for record in records:
        assert record.throughput_infer_per_s is not None
        assert record.throughput_infer_per_s > 10
        for name in (
            *("latency_avg_us", "latency_p50_us", "latency_p90_us", "latency_p95_us"),
            *("latency_p99_us", "latency_percentile_us", "client_send_us", "client_recv_us"),
            *("network_us", "server_queue_us", "server_compute_input_us", "server_request_us"),
            *("server_compute_infer_us", "server_compute_output_us", "server_overhead_us"),
            *("request_count", "inference_count", "execution_count", "success_count"),
            *("client_request_response_us", "client_response_wait_us", "perf_analyzer_s"),
            *("client_overhead_percent", "windows_latency_us", "started_at", "ended_at"),
            *("node", "cpu_name", "cpu_count", "memory_bytes", "kernel", "triton_version"),
            *("perf_analyzer_version", "server_image_digest", "sdk_image_digest", "command"),
            *("model_digest", "instance_count", "instance_kind", "max_batch_size", "platform"),
        ):
            assert getattr(record, name) is not None, name
        assert 1.2 < real.in_flight(record) < 3.5, "a metric was misread"


def test_the_command_of_a_record_stands_as_it_was_run(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (record,) = measured(
        tmp_path, native_prefix, demo_models, load={"batch_size": 3, "concurrency": 2}
    )
    command = record.command or ""
    assert command.startswith(str(native_prefix / "bin" / "perf_analyzer"))
    assert " -b 3 --concurrency-range 2:2:0 " in command
    assert " --shape pf_features:16,50 " in command


def test_a_point_that_does_not_settle_keeps_all_its_metrics(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (record,) = measured(
        tmp_path,
        native_prefix,
        demo_models,
        load={"batch_size": 1, "concurrency": 1},
        measurement={
            # A window in which a busy machine answers nothing does not count.
            "measurement_interval_ms": 800,
            "stability_percentage": 0.001,
            # Half of the reports may be a warm-up; three windows are left all the same.
            "max_trials": 6,
            "percentile": 90,
        },
    )
    assert record.status == Status.UNSTABLE
    assert "did not settle within 6 windows" in (record.reason or "")
    assert len(record.windows_throughput_infer_per_s or ()) == 6
    for name in ("throughput_infer_per_s", "latency_p50_us", "latency_p99_us", "latency_avg_us"):
        assert getattr(record, name) > 0
    assert record.server_compute_infer_us is not None
    assert record.windows_counted == 3


def test_both_protocols_are_measured_both_ways(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    records = measured(
        tmp_path,
        native_prefix,
        demo_models,
        load={"batch_size": 2},
        measurement={**QUICK, "protocol": ["grpc", "http"], "async": [True, False]},
    )
    assert {record.status for record in records} == {Status.OK}, records[0].reason
    assert sorted((record.protocol, record.asynchronous) for record in records) == [
        *(("grpc", False), ("grpc", True)),
        *(("http", False), ("http", True)),
    ]
    assert all(record.latency_std_us is not None for record in records)


def test_an_accelerator_that_the_backend_lacks_is_not_applicable(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """The plan knows it before; here the backend is asked all the same."""
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        demo_models,
        server={"accelerator": [{"name": "tensorrt", "precision_mode": "FP16"}]},
    )
    (known,) = plan.plan(campaign, site).inapplicable
    records = list(measure(known.placement, site, tmp_path / "logs"))
    assert [record.status for record in records] == [Status.NOT_APPLICABLE] * 3
    assert "tensorrt" in (records[0].reason or "")
    assert records[0].node is not None


def test_a_model_that_does_not_load_is_failed_in_the_servers_words(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(demo_models, models)
    whole = (models / "jet_tagger" / "1" / "model.onnx").read_bytes()
    (models / "jet_tagger" / "1" / "model.onnx").write_bytes(whole[: len(whole) // 2])
    records = measured(tmp_path, native_prefix, models)
    assert [record.status for record in records] == [Status.FAILED] * 3
    assert "did not load" in (records[0].reason or "")
    assert "jet_tagger" in (records[0].log_tail or "")


def test_a_window_shorter_than_a_request_is_reported_with_what_to_do(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (record,) = measured(
        tmp_path,
        native_prefix,
        demo_models,
        load={"batch_size": 256, "concurrency": 64},
        measurement={"measurement_interval_ms": 1, "max_trials": 3},
    )
    assert record.status in (Status.FAILED, Status.UNSTABLE)
    assert record.reason


def _hung_once_it_measures(records: Iterator[Record]) -> Record:
    """The next record; what measures it is stopped, also one that is started in its place."""
    over = threading.Event()

    def stop() -> None:
        while not over.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if process.name() == "perf_analyzer" and "-m" in process.cmdline():
                        process.send_signal(signal.SIGSTOP)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    found = next(records)
    over.set()
    thread.join()
    return found


def test_a_hung_perf_analyzer_is_a_timeout_and_the_next_point_goes_on(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    todo, site = placements(
        tmp_path,
        native_prefix,
        demo_models,
        load={"batch_size": [1, 2], "concurrency": 1},
        # The second point must not need as long, also where five other groups of tests run.
        measurement={**QUICK, "measurement_interval_ms": 500, "timeout_s": 20.0},
    )
    logs = tmp_path / "logs"
    records: Iterator[Record] = measure(todo[0], site, logs)
    first = _hung_once_it_measures(records)
    second = next(records)
    with contextlib.suppress(StopIteration):
        next(records)
    assert (first.status, second.status) == (Status.TIMEOUT, Status.OK)
    assert "killed after 20 s" in (first.reason or "")


COMPLETED = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(4)
        config.set_model_transaction_policy({"decoupled": True})
        return config

    def execute(self, requests):
        for request in requests:
            x = utils.get_input_tensor_by_name(request, "x").as_numpy()
            sender = request.get_response_sender()
            sender.send(
                utils.InferenceResponse([utils.Tensor("y", x)]),
                flags=utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
            )
"""


def test_what_only_the_server_knew_of_a_model_is_not_applicable(
    tmp_path: Path, native_prefix: Path
) -> None:
    version = tmp_path / "models" / "late" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text('backend: "python"')
    (version / "model.py").write_text(COMPLETED)
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        tmp_path / "models",
        models=[{"name": "late"}],
        load={"batch_size": [2, 8], "concurrency": 1},
        measurement={**QUICK, "streaming": [False, True], "protocol": "grpc"},
    )
    records = real.measured(campaign, site, tmp_path / "logs")
    found = {(r.batch_size, r.streaming): (r.status, r.reason or "") for r in records}
    assert len(found) == 4
    assert found[2, True][0] in MEASURED, found[2, True]
    for key in ((2, False), (8, False), (8, True)):
        assert found[key][0] == Status.NOT_APPLICABLE, found[key]
    assert "set streaming: true" in found[2, False][1]
    assert "8 is over max_batch_size 4" in found[8, True][1]


def _kill_the_server_unseen(unseen_s: float) -> None:
    """Once perf_analyzer measures, kill the server while its supervisor has no CPU for a while."""
    own_program("perf_analyzer", "-m")
    server = own_program("tritonserver")
    supervisor = next(p for p in server.parents() if "supervisor.py" in " ".join(p.cmdline()))
    supervisor.suspend()
    server.kill()
    time.sleep(unseen_s)
    supervisor.resume()


def test_a_server_that_dies_costs_the_point_it_was_in_and_no_other(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """Also where a busy node says late that it is dead."""
    todo, site = placements(tmp_path, native_prefix, demo_models)
    records = measure(todo[0], site, tmp_path / "logs")
    kept = [next(records)]
    killer = threading.Thread(target=_kill_the_server_unseen, args=(3.0,), daemon=True)
    killer.start()
    kept += records
    killer.join()
    assert [record.status for record in kept] == [Status.OK, Status.FAILED, Status.OK]
    assert "the server died" in (kept[1].reason or "")


def test_a_node_without_scratch_is_unusable(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    todo, site = placements(tmp_path, native_prefix, demo_models)
    (tmp_path / "scratch").rmdir()
    with pytest.raises(UnusableNode, match="scratch"):
        next(measure(todo[0], site, tmp_path / "logs"))


def test_closing_the_iterator_between_two_points_ends_the_server(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    todo, site = placements(tmp_path, native_prefix, demo_models)
    records = measure(todo[0], site, tmp_path / "logs")
    assert next(records).status == Status.OK
    records.close()
    assert not list((tmp_path / "scratch").iterdir())
