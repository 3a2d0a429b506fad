"""What the server counted: the batches that ran, and requests of somebody else."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.measure import sampling, server_statistics
from hpcbench.measure.sampling import Reading
from hpcbench.measure.server_statistics import (
    Client,
    Counted,
    CountsByModel,
    ModelCounts,
    ServerStatistics,
    in_flight_s,
    wait_until_idle,
)
from hpcbench.plan.model import TritonModel
from hpcbench.records.columns import Record, Status
from hpcbench.runtime.loopback import Port
from tests.helpers import real
from tests.helpers.paths import CHECKOUT
from tests.helpers.real import SHAPES, quick_run
from tests.helpers.traces import own_program

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


def counted(**requests: int) -> Counted:
    return Counted({name: ModelCounts(n, 0, 0, {}) for name, n in requests.items()}, 1.0)


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


def test_a_model_that_answered_from_its_cache_ran_no_batches() -> None:
    columns = ModelCounts(100, 0, 100, {}).columns
    assert (columns["executed_batch_sizes"], columns["executed_batch_counts"]) == (None, None)


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


def sent_by(
    of: TritonModel, requests: int, answered: int, in_flight: int, reports: int = 1
) -> Client:
    """A client of one second."""
    return Client(of, requests, answered, in_flight, float(requests), reports)


def foreign(found: Counted, client: Client, *beside: TritonModel) -> int:
    return server_statistics.foreign_requests(found, client, beside)


@pytest.mark.parametrize("answered", [1000, 1008, 995])
def test_requests_at_the_edges_of_the_windows_are_nobody_elses(answered: int) -> None:
    client = sent_by(model("jets"), 1000, answered, in_flight=4)
    assert foreign(counted(jets=990), client) == 0


@pytest.mark.parametrize("in_flight", [1, 4, 16, 64])
def test_requests_over_the_clients_are_somebody_elses(in_flight: int) -> None:
    """The counts of a point during which another user sent requests to the same Triton."""
    for reports in (1, 9):
        sums = sent_by(model("jets"), 1817, 2126, in_flight, reports)
        assert foreign(counted(jets=2126), sums) == 309


@pytest.mark.parametrize("in_flight", [4, 16, 64])
def test_what_is_in_flight_at_the_ends_is_nobody_elses_however_many_reports(in_flight: int) -> None:
    requests = 6000 + 2 * in_flight
    for reports in (1, 9, 60):
        sums = sent_by(model("jets"), 6000, requests, in_flight, reports)
        assert foreign(counted(jets=requests), sums) == 0


def test_the_time_of_a_count_is_known_as_far_as_reading_takes() -> None:
    """A reading took 0.1 s on a busy machine: the server answered its next requests meanwhile."""
    readings = [
        Reading(10.0, {"jets": ModelCounts(0, 0, 0, {})}, 0.1),
        Reading(12.0, {"jets": ModelCounts(2100, 0, 0, {})}, 0.1),
    ]
    found = server_statistics.counted(readings)
    assert found is not None
    assert found.unsure_s == pytest.approx(0.1)
    client = Client(model("jets"), 2000, 2100, in_flight=1, rate=1000.0)
    assert foreign(found, client) == 0
    assert foreign(replace(found, unsure_s=0.0, longest_delay_s=0.0), client) == 100


def test_counts_that_perf_analyzer_read_late_are_nobody_elses() -> None:
    """Both CPUs were busy with something else: meanwhile the server answered its next requests."""
    client = Client(model("jets"), 1827, 1982, in_flight=1, rate=1218.0, reports=3)
    assert foreign(Counted({"jets": ModelCounts(1705, 0, 0, {})}, 1.4), client) == 0
    stranger = Counted({"jets": ModelCounts(1860, 0, 0, {})}, 1.4)
    assert foreign(stranger, client) == pytest.approx(155, abs=15)


@dataclass(frozen=True)
class Machine:
    """How late its processes read, how often it stalls, and for how long, in seconds."""

    late_s: float
    stalls_per_s: float = 0.0
    stall_s: float = 0.2

    def watched(
        self, chance: np.random.Generator, stranger: float, reports: int, pass_s: float
    ) -> tuple[Counted, Client]:
        """What both see of a load of 1000 requests per second, and a stranger's share of it."""
        step_s, whole_s = 0.001, 9 * reports * pass_s + 20
        runs = np.ones(round(whole_s / step_s), dtype=bool)
        for begin in chance.uniform(0, whole_s, chance.poisson(self.stalls_per_s * whole_s)):
            stall_s = chance.exponential(self.stall_s)
            runs[round(begin / step_s) : round((begin + stall_s) / step_s)] = False
        at = np.arange(len(runs)) * step_s
        own = np.cumsum(runs * chance.normal(1.0, 0.1, len(runs)).clip(0))

        def over(due: float) -> float:
            """When what was to happen then has happened; in a stall nothing does."""
            place = round((due + chance.exponential(self.late_s)) / step_s)
            return float(at[place + int(np.argmax(runs[place:]))])

        def count(when: float, share: float) -> int:
            return int(np.interp(when, at, own) * (1 + share))

        begin = end = 1.0
        requests = answered = 0
        for _ in range(3 * reports):
            first, last = over(end), over(end + pass_s)
            answered += count(last, stranger) - count(first, stranger)
            requests += count(end + pass_s, 0) - count(end, 0)
            end = last
        readings, due = [], 0.0
        while due <= end:
            start = over(due)
            there = over(start)
            value = {"jets": ModelCounts(count(chance.uniform(start, there), stranger), 0, 0, {})}
            readings.append(Reading((start + there) / 2, value, there - start, start - due))
            due = max(due + 0.1, there)
        found = server_statistics.counted([each for each in readings if begin <= each.at <= end])
        assert found is not None
        rate = requests / (3 * reports * pass_s)
        return found, Client(model("jets"), requests, answered, 4, rate, reports)


def noticed(machine: Machine, stranger: float, trials: int = 100) -> float:
    """The share of measurements in which a stranger is noticed: short and long, many reports."""
    chance = np.random.default_rng(11)
    kinds = [(3, 1 / 3), (9, 1 / 9), (30, 1 / 30), (1, 1.0)]
    found = [
        foreign(*machine.watched(chance, stranger, *kinds[trial % len(kinds)])) > 0
        for trial in range(trials)
    ]
    return float(np.mean(found))


@pytest.mark.parametrize(
    "machine",
    [Machine(0.0005), Machine(0.03), Machine(0.002, 0.5), Machine(0.02, 1.0, stall_s=0.5)],
    ids=["calm", "busy", "stalling", "standing still half of the time"],
)
def test_whoever_is_alone_is_no_stranger_however_late_a_machine_reads(machine: Machine) -> None:
    assert noticed(machine, 0.0) == 0


def test_on_a_calm_machine_one_request_of_ten_is_noticed_and_on_a_busy_one_three() -> None:
    assert noticed(Machine(0.0005), 0.1) > 0.95
    assert noticed(Machine(0.03), 0.3) > 0.95


def test_requests_to_a_model_that_is_loaded_and_idle_are_somebody_elses() -> None:
    client = sent_by(model("jets"), 500, 500, in_flight=4)
    assert foreign(counted(jets=500, idle=300), client) == 300


def test_models_under_load_at_the_same_time_are_not_strangers() -> None:
    client = sent_by(model("jets"), 500, 500, in_flight=4)
    assert foreign(counted(jets=500, taus=300), client, model("taus")) == 0


STEPS = """
ensemble_scheduling {
  step { model_name: "prepare" } step { model_name: "tag" } step { model_name: "prepare" }
}"""
ENSEMBLE = model("all", STEPS, (model("prepare"), model("tag")))


def test_what_an_ensemble_calls_is_the_ensembles() -> None:
    """A step that stands in it twice runs twice."""
    client = sent_by(ENSEMBLE, 400, 400, in_flight=4)
    assert foreign(counted(all=390, prepare=780, tag=390), client) == 0


def test_a_strangers_request_to_an_ensemble_counts_once_however_many_models_it_calls() -> None:
    client = sent_by(ENSEMBLE, 400, 600, in_flight=4)
    assert foreign(counted(all=600, prepare=1200, tag=600), client) == 200


def test_a_strangers_request_to_a_model_that_an_ensemble_calls_is_noticed() -> None:
    client = sent_by(ENSEMBLE, 400, 400, in_flight=4)
    assert foreign(counted(all=390, prepare=780, tag=540), client) == 150


def test_an_ensemble_that_is_measured_beside_a_model_it_calls_is_no_stranger_to_it() -> None:
    client = sent_by(model("tag"), 300, 690, in_flight=4)
    assert foreign(counted(all=390, prepare=780, tag=690), client, ENSEMBLE) == 0


def test_what_a_python_model_may_have_called_itself_is_no_strangers() -> None:
    """Triton does not say who called, and a script may call any other model."""
    script = model("script", 'backend: "python"')
    found = counted(script=400, jets=800)
    assert foreign(found, sent_by(script, 400, 400, in_flight=4)) == 0
    more = counted(script=700, jets=800)
    assert foreign(more, sent_by(script, 400, 700, in_flight=4)) == 300
    assert foreign(found, sent_by(model("jets"), 400, 800, in_flight=4), script) == 0
    # A config.pbtxt need not name the backend, and C++ may call others, too: then needs says so.
    needs = replace(model("script", ""), composing=(model("jets"),), needs=("jets",))
    assert foreign(found, sent_by(needs, 400, 400, in_flight=4)) == 0


def measured(folder: Path, prefix: Path, repository: Path, /, **changes: Any) -> list[Record]:
    return real.measured(*quick_run(folder, prefix, repository, **changes), folder / "logs")


def test_an_idle_model_has_edges_only_where_an_ensemble_calls_it() -> None:
    client = sent_by(model("jets"), 500, 500, in_flight=64)
    assert foreign(counted(jets=500, idle=160, other=0), client) == 160
    whole = sent_by(ENSEMBLE, 400, 400, in_flight=64)
    assert foreign(counted(all=400, prepare=800, tag=560), whole) == 0


@native
@clean
def test_dynamic_batching_shows_in_the_batches_that_ran(
    tmp_path: Path, native_prefix: Path, demo_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Read ten times a second, whatever that takes of a busy CPU: else seconds of windows may lie
    # outside of the first and the last reading.
    monkeypatch.setattr(sampling, "_CPU_SHARE", 1.0)
    plain, batched = measured(
        tmp_path,
        native_prefix,
        demo_models,
        server={"preferred_batch_size": [None, [4, 8]], "max_queue_delay_us": [100_000]},
        # So many that some wait together, and so few that the CPUs are not full.
        load={"batch_size": 1, "request_rate": 60},
        measurement={"measurement_interval_ms": 2000, "stability_percentage": 900.0},
    )
    assert plain.executed_batch_sizes == (1,)
    assert max(batched.executed_batch_sizes or ()) > 1
    for record in (plain, batched):
        assert record.status == Status.OK, record.reason
        sizes, counts = record.executed_batch_sizes or (), record.executed_batch_counts or ()
        ran = sum(size * count for size, count in zip(sizes, counts, strict=True))
        assert ran == pytest.approx(record.request_count, rel=0.2)
        assert (record.foreign_requests, record.failure_count) == (0, 0)


def test_the_next_load_waits_until_triton_has_answered_what_the_last_one_left() -> None:
    """Rarely seen on a real server: the test for a warm-up leaves most of such a beginning out."""
    answers = iter([counted(jets=answered).counts for answered in (7, 8, 8)])

    class Statistics(ServerStatistics):
        def read(self) -> CountsByModel:
            return next(answers)

    statistics = Statistics(http_port=cast("Port", None))
    wait_until_idle(statistics, 0.0)
    wait_until_idle(statistics, 0.001)
    assert next(answers, None) is None


def test_a_load_of_quick_requests_is_not_waited_for() -> None:
    assert in_flight_s({"latency_p99_us": 20_000.0}) == 0
    assert in_flight_s({"latency_p99_us": 500_000.0}) == pytest.approx(0.75)
    assert in_flight_s({"latency_p99_us": None, "overloaded": True}) > 0
    assert in_flight_s({}) == 0


def _stranger(over: threading.Event) -> None:
    """Once a perf_analyzer of this test measures, send requests to the same server."""
    words = own_program("perf_analyzer", "-m").cmdline()
    inputs = []
    for name, shape in SHAPES.items():
        value = np.zeros((1, *shape), np.float32)
        inputs.append(InferInput(name, value.shape, "FP32"))
        inputs[-1].set_data_from_numpy(value)
    # The server goes when hpcbench has seen enough.
    gone = contextlib.suppress(InferenceServerException)
    with InferenceServerClient(words[words.index("-u") + 1]) as client, gone:
        while not over.is_set():
            client.infer("jet_tagger", inputs)


@native
@clean
def test_requests_of_another_process_are_noticed(
    tmp_path: Path, native_prefix: Path, demo_models: Path
) -> None:
    """Where the node allows no loopback of their own, that nobody else reaches."""
    campaign, site = quick_run(
        tmp_path,
        native_prefix,
        demo_models,
        load={"batch_size": 1, "concurrency": 2},
        measurement={"measurement_interval_ms": 1500, "stability_percentage": 900.0},
    )
    container = site.container.model_copy(update={"network_isolation": "off"})
    site = site.model_copy(update={"container": container})
    over = threading.Event()
    stranger = threading.Thread(target=_stranger, args=(over,), daemon=True)
    stranger.start()
    (record,) = real.measured(campaign, site, tmp_path / "logs")
    over.set()
    stranger.join(10)
    assert record.status == Status.UNSTABLE
    assert "somebody else sent" in (record.reason or "")
    assert (record.foreign_requests or 0) > 0.1 * (record.request_count or 0)
