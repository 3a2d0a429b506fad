"""One or several models on one real Triton, under load until enough was seen of each."""

import contextlib
import json
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpcbench.config.load_axes import LoadVariant
from hpcbench.config.site import Site
from hpcbench.measure.measure import measure
from hpcbench.measure.perf_analyzer import limit_s
from hpcbench.plan import plan
from hpcbench.plan.placement import Placement
from hpcbench.records.columns import Record, Status
from tests.helpers import models, real
from tests.helpers.real import QUICK, SHAPES, UNHURRIED, quick_run
from tests.helpers.traces import own_program
from tests.helpers.waiting import wait_until

native = pytest.mark.native
clean = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture
def two_models(tmp_path: Path, demo_models: Path) -> Path:
    """A repository with the demo's model under two names."""
    repository = tmp_path / "repository"
    for name in ("jet_tagger", "second"):
        shutil.copytree(demo_models / "jet_tagger", repository / name)
    path = repository / "second" / "config.pbtxt"
    path.write_text(path.read_text().replace('"jet_tagger"', '"second"'))
    return repository


def shared(
    folder: Path, prefix: Path, repository: Path, **measurement: Any
) -> tuple[Placement, Site]:
    """The placement of the two models on one server."""
    campaign, site = quick_run(
        folder,
        prefix,
        repository,
        models=[
            {"name": "jet_tagger", "label": "jets", "shapes": SHAPES},
            {"name": "second", "label": "others", "shapes": SHAPES},
        ],
        load={"concurrency": 2},
        server=UNHURRIED,
        together=[{"jets": {"load": {"batch_size": 4}}, "others": {}}],
        measurement=QUICK | measurement,
    )
    placements = plan.plan(campaign, site).placements["cpu"]
    (placement,) = [p for p in placements if len(p.served[0]) == 2]
    return placement, site


def only_together(placement: Placement) -> Placement:
    return replace(placement, points=tuple(p for p in placement.points if p.together_id))


@native
@clean
def test_models_of_one_server_are_measured_alone_and_together(
    tmp_path: Path, native_prefix: Path, two_models: Path
) -> None:
    placement, site = shared(tmp_path, native_prefix, two_models)
    records = list(measure(placement, site, tmp_path / "logs"))
    assert {record.status for record in records} == {Status.OK}, [r.reason for r in records]
    assert [(r.model_label, r.batch_size) for r in records] == [("jets", 4), ("others", 1)] * 2
    alone, together = records[:2], records[2:]
    assert [r.together_id for r in alone] == [None, None]
    assert [r.overlap for r in alone] == [None, None]
    assert [json.loads(r.beside or "")[0]["load"] for r in alone] == [None, None]
    assert len({r.together_id for r in together}) == 1
    assert together[0].together_id is not None
    assert [r.overlap for r in together] == [1.0, 1.0]
    jets, others = (json.loads(r.beside or "")[0] for r in together)
    assert (jets["model_label"], jets["load"]["batch_size"]) == ("others", 1)
    assert (others["model_label"], others["load"]["batch_size"]) == ("jets", 4)
    # What has to be deployed beside each of them.
    assert [json.loads(r.beside_configs or "") for r in together] == [
        {"second": together[1].deploy_config},
        {"jet_tagger": together[0].deploy_config},
    ]
    assert len({record.key for record in records}) == 4
    for record in records:
        assert record.energy_j_per_infer is None
        assert 1.2 < real.in_flight(record) < 3.5


@native
@clean
def test_what_is_left_of_a_joint_measurement_is_measured_beside_the_same_load(
    tmp_path: Path, native_prefix: Path, two_models: Path
) -> None:
    placement, site = shared(tmp_path, native_prefix, two_models)
    both = only_together(placement)
    left = both.without_done({both.keys[0]})
    assert left is not None
    (record,) = measure(left, site, tmp_path / "logs")
    assert (record.model_label, record.status, record.overlap) == ("others", Status.OK, 1.0)


@native
@clean
def test_an_ensemble_and_a_model_without_a_batch_are_measured_together_as_alone(
    tmp_path: Path, native_prefix: Path
) -> None:
    repository = tmp_path / "repository"
    models.ensemble(repository)
    models.without_batch(repository)
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"data": [{"x": [float(n) for n in range(16)]}]}))
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        repository,
        models=[
            {"name": "chain", "label": "Chain", "measurement": {"input_data": str(data)}},
            {"name": "flat", "label": "Flat", "server": {"warmup": [False, True]}},
        ],
        load={"batch_size": [2, 8], "concurrency": [2, 1]},
        zip=[["batch_size", "concurrency"]],
        exclude=[{"batch_size": 2}, {"model": "Flat", "warmup": False}],
        variants={"as it is": {}, "named": {"batch_size": 4, "concurrency": 1}},
        together=[{"Chain": {}, "Flat": {}}],
        measurement=QUICK,
    )
    placements = plan.plan(campaign, site).placements["cpu"]
    (placement,) = [p for p in placements if len(p.served[0]) == 2]
    records = list(measure(placement, site, tmp_path / "logs"))
    assert {record.status for record in records} == {Status.OK}, [r.reason for r in records]
    parts = [record for record in records if record.part_of is not None]
    wholes = {record.point_id: record for record in records if record.part_of is None}
    assert {(r.model_label, r.variant_name, r.batch_size) for r in wholes.values()} == {
        (label, name, size)
        for label in ("Chain", "Flat")
        for name, size in (("as it is", 8), ("named", 4))
    }
    joint = [record for record in wholes.values() if record.together_id is not None]
    assert len(joint) == 8
    for record in wholes.values():
        # Inferences, not requests: with a batch of 4 or 8, one of them would be a quarter or less.
        assert 0.3 < real.in_flight(record) < 3
        calls = [part for part in parts if part.part_of == record.point_id]
        called = ["scale", "shift"] if record.model_label == "Chain" else []
        assert [part.model for part in calls] == called
        for part in calls:
            assert part.together_id == record.together_id
            assert part.throughput_infer_per_s == record.throughput_infer_per_s
            assert (part.server_compute_infer_us or 0) > 0
            assert part.latency_avg_us is None


@contextmanager
def signalled(model: str, number: signal.Signals, after_s: float) -> Iterator[None]:
    """Send a signal to whatever measures this model: hpcbench may start another with longer passes.

    The first gets it after so many seconds.
    """
    over = threading.Event()

    def send() -> None:
        own_program("perf_analyzer", "-m", model)
        over.wait(after_s)
        while not over.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if process.name() == "perf_analyzer" and model in process.cmdline():
                        process.send_signal(number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@native
@clean
def test_a_row_whose_neighbour_ended_early_is_not_taken_for_whole(
    tmp_path: Path, native_prefix: Path, two_models: Path
) -> None:
    placement, site = shared(
        tmp_path, native_prefix, two_models, stability_percentage=0.001, max_trials=300
    )
    with signalled("second", signal.SIGKILL, after_s=8):
        jets, others = measure(only_together(placement), site, tmp_path / "logs")
    assert others.status == Status.FAILED
    assert "signal 9" in (others.reason or "")
    assert jets.status in (Status.UNSTABLE, Status.FAILED)
    assert jets.reason


@native
@clean
def test_a_hung_neighbour_is_a_timeout_and_nothing_is_left_of_either(
    tmp_path: Path, native_prefix: Path, two_models: Path
) -> None:
    placement, site = shared(tmp_path, native_prefix, two_models, timeout_s=15.0)
    with signalled("second", signal.SIGSTOP, after_s=0):
        jets, others = measure(only_together(placement), site, tmp_path / "logs")
    assert others.status == Status.TIMEOUT
    assert jets.status == Status.UNSTABLE
    assert "the other models loaded the server for only" in (jets.reason or "")
    assert (jets.overlap or 0) < 1
    assert wait_until(lambda: not list((tmp_path / "scratch").iterdir()))


def test_the_time_allowed_is_that_of_the_slowest_and_of_bringing_it_under_load() -> None:
    quick = LoadVariant(measurement_interval_ms=100)
    slow = LoadVariant(measurement_interval_ms=10_000)
    assert limit_s([quick, slow]) == limit_s([slow, slow])
    assert limit_s([slow]) > limit_s([quick])
    assert limit_s([replace(quick, timeout_s=1.0)]) == 1
    # Together they must first come under load.
    assert limit_s([quick, quick]) > limit_s([quick])


# A precision


@native
@clean
def test_a_point_is_measured_until_it_is_known_to_the_precision_asked_for(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    reached, missed = real.measured(
        *quick_run(
            tmp_path,
            native_prefix,
            demo_models,
            # Requests that all wait as long make a mean that is known too well.
            server={"instance_count": 1},
            load={"batch_size": 4, "concurrency": 2},
            measurement={
                "percentile": 90,
                # No report is longer than this, so that enough of them fit also into the time of a
                # machine that answers few requests.
                "measurement_interval_ms": 300,
                "stop": [{"precision": 0.3, "max_s": 200}, {"precision": 0.0001, "max_s": 6}],
            },
        ),
        tmp_path / "logs",
    )
    assert reached.status == Status.OK, reached.reason
    assert (reached.precision_reached or 1) <= 0.3
    assert (reached.windows_counted or 0) >= 10
    assert reached.max_trials is None
    assert missed.status == Status.UNSTABLE
    assert "did not reach ± 0.0001 of the mean within 6 s: ± " in (missed.reason or "")
    assert (missed.precision_reached or 0) > 0.0001


# Open loops


def open_loop(
    folder: Path, prefix: Path, models: Path, rate: float, **measurement: Any
) -> list[Record]:
    return real.measured(
        *quick_run(
            folder,
            prefix,
            models,
            server={"instance_count": 1},
            load={"batch_size": 4, "request_rate": rate},
            measurement={"percentile": 95} | measurement,
        ),
        folder / "logs",
    )


@native
@clean
def test_a_rate_that_cannot_be_reached_is_an_overload_within_15_seconds(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (record,) = open_loop(tmp_path, native_prefix, demo_models, 20_000.0)
    assert record.status == Status.UNSTABLE
    assert record.overloaded
    assert (record.reason or "").startswith("overloaded: 20000 requests per second were asked for")
    assert (record.perf_analyzer_s or 99) < 15


@native
@clean
def test_a_rate_that_is_kept_is_no_overload(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    (record,) = open_loop(
        tmp_path,
        native_prefix,
        demo_models,
        30.0,
        measurement_interval_ms=2000,
        stability_percentage=900.0,
    )
    assert record.status == Status.OK, record.reason
    assert record.overloaded is False
    # The ends of the time cut as many requests as are in flight: on a busy machine a few more. All
    # others were sent when they were due, in the time that the row itself is about.
    answered_per_s = (record.throughput_infer_per_s or 0) / 4
    due = 30 * (record.request_count or 0) / answered_per_s
    assert due > 150
    assert record.request_count == pytest.approx(due, abs=2 + 0.02 * due)
    assert record.send_request_rate == pytest.approx(answered_per_s)
    assert record.schedule_lag_s == pytest.approx(
        max(0.0, due - (record.request_count or 0)) / 30, abs=0.001
    )


@native
@clean
def test_windows_whose_latency_grows_are_not_ok_though_the_rate_is_kept(
    tmp_path: Path, native_prefix: Path
) -> None:
    """110, 220, 330, 440 ms: the signature of a load that is too high."""
    window_s = 2.1
    models.growing(tmp_path / "models", tmp_path / "begun", growth=0.11 / window_s, instances=3)
    (record,) = real.measured(
        *quick_run(
            tmp_path,
            native_prefix,
            tmp_path / "models",
            models=[{"name": "grower"}],
            load={"batch_size": 1, "request_rate": 4.0},
            measurement={
                "measurement_interval_ms": round(1000 * window_s),
                # Of eight or nine requests, one more or less is none of the reasons.
                "stability_percentage": 25.0,
                "max_trials": 4,
            },
        ),
        tmp_path / "logs",
    )
    assert record.status == Status.UNSTABLE, record.windows_latency_us
    windows = record.windows_latency_us or ()
    assert all(later > 1.1 * earlier for earlier, later in pairwise(windows)), windows
    assert (record.latency_avg_us or 0) > 100_000
    if not record.overloaded:  # a machine that does much else may not keep even this rate
        assert len(windows) == 4
        (percent,) = re.findall(r"within 4 windows: .* in latency by (\d+)%", record.reason or "")
        assert int(percent) > 25
