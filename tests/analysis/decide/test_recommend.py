"""The configuration to deploy: the best that was measured within limits, and what to do with it."""

import contextlib
import json
import math
import shutil
import uuid
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

import hpcbench
from hpcbench.analysis.decide import deploy, recommend_text
from hpcbench.analysis.decide.candidates import RECOMMEND_COLUMNS
from hpcbench.analysis.decide.recommend import (
    MOST_RUNNERS_UP,
    Recommendation,
    recommend_configurations,
    recommend_on_all_servers,
)
from hpcbench.analysis.decide.size import servers_needed
from hpcbench.analysis.summary.configuration_names import device_name
from hpcbench.analysis.summary.limits import Requirements
from hpcbench.analysis.summary.number_format import format_number, format_with_error
from hpcbench.cli.main import main
from hpcbench.config.site import Site
from hpcbench.errors import BadInput
from hpcbench.measure import loaded_config
from hpcbench.records.columns import Record
from hpcbench.records.frame import load_results
from hpcbench.runtime import command as container
from hpcbench.runtime import process
from hpcbench.runtime.loopback import free_ports
from tests.helpers.builders import refusal
from tests.helpers.measurements import T4, failed, loaded, measured, repeats, server, write
from tests.helpers.real import quick_run, site_file
from tests.helpers.waiting import wait_until

TWO = server(instance_count=2)
ONLY_TWO = '{"instance_count": 2}'


def advise(*records: Record, **wanted: Any) -> list[Recommendation]:
    return recommend_configurations(
        loaded(records)[list(RECOMMEND_COLUMNS)], Requirements(**wanted)
    )


def only(*records: Record, **wanted: Any) -> Recommendation:
    (advice,) = advise(*records, **wanted)
    return advice


def printed(advice: Recommendation, width: int = 200) -> str:
    text = StringIO()
    recommend_text.print_recommendations([advice], Console(width=width, file=text))
    return text.getvalue()


SCAN = [
    *repeats([1000, 1010, 1020], 2.0, batch_size=1),
    *repeats([4000, 4040, 4080], 5.0, batch_size=8),
    *repeats([9000, 9090, 9180], 20.0, batch_size=64),
]


def test_without_limits_the_highest_throughput_wins() -> None:
    advice = only(*SCAN)
    assert (advice.best["batch_size"], advice.best["throughput_infer_per_s"]) == (64, 9090)
    assert (advice.configurations, advice.within_limits) == (3, 3)
    assert (advice.measured, str(advice.counts)) == (3, "9/9/9")


@pytest.mark.parametrize(
    ("wanted", "batch_size"),
    [
        ({"max_latency_p99_ms": 20.1}, 64),
        ({"max_latency_p99_ms": 19.9}, 8),
        ({"max_latency_p99_ms": 2.1}, 1),
        # Of whole microseconds nobody knows that they are not above.
        ({"max_latency_p99_ms": 20}, 8),
        ({"max_latency_p99_ms": 20, "limits_by_mean": True}, 64),
        ({"objective": "latency"}, 1),
        ({"objective": "latency", "min_throughput": 2000}, 8),
        ({"objective": "latency", "min_throughput": 4041}, 64),
        ({"objective": "latency", "min_throughput": 4030}, 64),
        ({"objective": "latency", "min_throughput": 4030, "limits_by_mean": True}, 8),
    ],
)
def test_limits_are_kept_and_the_objective_is_made_best(
    wanted: dict[str, Any], batch_size: int
) -> None:
    assert only(*SCAN, **wanted).best["batch_size"] == batch_size


def test_a_p99_whose_bound_is_beyond_the_limit_keeps_none_however_often_it_was_repeated() -> None:
    def within(bound_ms: float, repeat: int = 3, **wanted: Any) -> int:
        records = repeats(range(1000, 1000 + repeat), 9.0, latency_p99_bound_us=1000 * bound_ms)
        return only(*records, max_latency_p99_ms=10, **wanted).within_limits

    assert (within(9.5), within(15.0)) == (1, 0)
    assert (within(9.5, repeat=1), within(15.0, repeat=1)) == (1, 0)
    assert within(15.0, limits_by_mean=True) == 1


def test_the_memory_of_the_gpus_is_limited_in_gib() -> None:
    large = repeats([2000], variant=TWO, gpu_memory_max_bytes=3 * 2**30)
    assert only(*repeats([1000]), *large).best["variant"] == ONLY_TWO
    small = only(*repeats([1000]), *large, max_gpu_memory_gib=2.5)
    assert (small.best["gpu_memory_gib"], small.within_limits) == (2, 1)


def test_the_most_inferences_per_joule_win() -> None:
    frugal = measured(1000, gpu_power_avg_w=100.0)
    hungry = measured(1500, gpu_power_avg_w=300.0, variant=TWO)
    advice = only(frugal, hungry, objective="energy")
    assert advice.best["infer_per_j"] == pytest.approx(10)
    assert only(frugal, hungry).best["infer_per_j"] == pytest.approx(5)


def test_the_cost_of_an_inference_is_price_over_throughput() -> None:
    records = [
        *repeats([1000], concurrency=1),
        *repeats([3000], concurrency=8, gpu_count=4),
    ]
    single, four = advise(*records, objective="cost", prices={"a100": 3.6})
    # 3.6 an hour is 0.001 a second, in which there are 1000 inferences: a million cost 1.
    assert single.best["cost_per_million"] == pytest.approx(1)
    assert four.best["cost_per_million"] == pytest.approx(4 / 3)


def test_a_price_may_be_that_of_one_site() -> None:
    here, there = measured(1000), measured(1000, site="fnal", variant=TWO)
    advice = only(here, there, objective="cost", prices={"a100": 3.6, "fnal/a100": 1.8})
    assert (advice.best["site"], advice.best["cost_per_million"]) == ("fnal", pytest.approx(0.5))


def test_prices_of_several_pools_are_each_taken_for_their_own() -> None:
    records = [*repeats([1000]), *repeats([100], pool="t4", gpu_name=T4)]
    advice = advise(*records, rate=1400, spares=0, prices={"a100": 3.0, "t4": 0.5})
    assert [a.sizing.cost_per_hour for a in advice] == [6, 10]


def test_a_pool_without_a_price_and_a_price_without_a_pool_are_reported() -> None:
    frame = loaded([measured(), measured(pool="t4", gpu_name=T4)])
    lacking = refusal(
        recommend_configurations, frame, Requirements(objective="cost", prices={"t4": 1.0})
    )
    assert "no price for cern/a100" in lacking
    assert "--price cern/a100=X" in lacking
    unknown = refusal(recommend_configurations, frame, Requirements(prices={"v100": 1.0}))
    assert "--price v100: no measurement comes from that pool" in unknown
    assert "cern/a100, cern/t4" in unknown


def test_each_model_on_each_gpu_has_its_own_advice() -> None:
    advice = advise(
        *SCAN,
        *repeats([500], pool="t4", gpu_name=T4),
        *repeats([100], model="other", model_label="Other", model_position=1),
        *repeats([300], pool="two", gpu_count=2),
    )
    found = [(a.identity["model"], device_name(a.identity)) for a in advice]
    assert sorted(found) == [
        ("other", "A100-SXM4-40GB"),
        ("tagger", "2 \N{MULTIPLICATION SIGN} A100-SXM4-40GB"),
        ("tagger", "A100-SXM4-40GB"),
        ("tagger", "Tesla T4"),
    ]


def test_another_processor_beside_a_gpu_or_another_site_is_a_choice_and_no_other_device() -> None:
    other = repeats([2000], cpu_name="Intel Xeon", site="fnal")
    assert only(*repeats([1000]), *other).best["site"] == "fnal"


def test_a_model_on_the_processor_of_a_gpu_node_is_advised_apart() -> None:
    on_cpu = repeats([10], instance_kind="KIND_CPU", variant=TWO)
    assert len(advise(*SCAN, *on_cpu)) == 2


def test_unlike_work_is_never_weighed_against_each_other() -> None:
    long = repeats([10], shapes='{"x": [100]}')
    short = repeats([1000], shapes='{"x": [10]}')
    assert [a.best["throughput_infer_per_s"] for a in advise(*long, *short)] == [10, 1000]


def test_the_gain_over_base_is_that_of_the_best_over_the_best() -> None:
    records = [
        *repeats([990, 1000, 1010], batch_size=1),
        *repeats([1990, 2000, 2010], batch_size=8),
        *repeats([2990, 3000, 3010], batch_size=8, variant=TWO),
    ]
    advice = only(*records)
    assert advice.base.row["batch_size"] == 8
    assert advice.base.ratio == pytest.approx(1.5)
    assert 1.46 < advice.base.low < 1.5 < advice.base.high < 1.54
    assert (advice.base.as_good, advice.base_within_limits) == (False, True)
    assert "throughput: 1.5 [1.4" in printed(advice)


def test_base_under_the_same_load_is_shown_where_none_of_it_keeps_to_the_limits() -> None:
    records = [
        *repeats([1000, 1001], 10.0, batch_size=8),
        *repeats([9000, 9001], 90.0, batch_size=64),
        *repeats([1500, 1501], 5.0, batch_size=8, variant=TWO),
    ]
    advice = only(*records, max_latency_p99_ms=6)
    assert (advice.base.row["batch_size"], advice.base_within_limits) == (8, False)
    assert "base never keeps the limits" in printed(advice)


def test_base_that_is_the_best_or_was_not_measured_is_reported() -> None:
    assert "this is the model's own configuration" in printed(only(*SCAN))
    advice = only(*repeats([1000], variant=TWO))
    assert advice.base is None
    assert "(base) was not measured" in printed(advice)


def test_axes_that_change_nothing_in_the_models_configuration_are_base() -> None:
    advice = only(
        *repeats([990, 1000, 1010], variant=server(accelerator=None), own_config=True),
        *repeats([1980, 2000, 2020], variant=server(accelerator='{"name": "x"}'), own_config=False),
    )
    assert advice.base.ratio == pytest.approx(2.0)
    assert "(base) was not measured" not in printed(advice)


def test_a_variant_that_leaves_only_some_axes_alone_is_not_base() -> None:
    advice = only(
        *repeats([1000], variant=server(preferred_batch_size=[4, 8], max_queue_delay_us=100)),
        *repeats([900], variant=server(preferred_batch_size=None, max_queue_delay_us=None)),
        *repeats([800]),
    )
    assert advice.base.ratio == pytest.approx(1000 / 800)
    assert "dynamic batching 4/8, queue delay 100 µs" in printed(advice)


def test_runners_up_within_the_noise_are_as_good_and_others_are_not() -> None:
    records = [
        *repeats([1000, 1100, 1200], concurrency=1),
        *repeats([1010, 1080, 1190], concurrency=2),
        *repeats([500, 501, 502], concurrency=4),
    ]
    advice = only(*records)
    assert [(r.row["concurrency"], r.as_good) for r in advice.runners_up] == [(2, True), (4, False)]
    assert advice.as_good == (advice.runners_up[0].row["point_id"],)


def test_of_what_was_measured_once_nobody_knows_whether_it_is_as_good() -> None:
    advice = only(measured(1000), measured(999, variant=TWO))
    assert [r.as_good for r in advice.runners_up] == [None]
    assert math.isnan(advice.runners_up[0].low)
    assert advice.as_good == ()
    assert advice.corrected is None
    assert any("measured once" in note for note in advice.notes)
    assert "next, once" in printed(advice)


def test_no_more_runners_up_are_shown_than_a_reader_can_weigh() -> None:
    records = [r for c in range(1, 21) for r in repeats([900, 1000, 1100], concurrency=c)]
    advice = only(*records)
    assert (len(advice.runners_up), len(advice.as_good)) == (MOST_RUNNERS_UP, 19)
    assert "19 others cannot be told from it" in printed(advice)


def test_a_narrow_terminal_cuts_no_number() -> None:
    records = repeats([123456, 123789], 5.0, gpu_power_avg_w=100.0)
    advice = only(*records, *repeats([100000, 100001], variant=TWO), prices={"a100": 1.0})
    narrow = printed(advice, width=80)
    assert "…" not in narrow
    assert format_with_error(advice.best, "throughput_infer_per_s") in narrow
    assert "[infer/J]" not in narrow
    assert "[infer/J]" in printed(advice, width=140)


def test_a_best_that_did_not_settle_is_reported_beside_the_best_that_did() -> None:
    shaky = [
        measured(2000, repeat=0, variant=TWO),
        measured(2100, repeat=1, variant=TWO, status="unstable"),
    ]
    advice = only(*shaky, *repeats([1000, 1010]))
    assert advice.best["variant"] == ONLY_TWO
    assert advice.best_settled.row["throughput_infer_per_s"] == 1005
    assert any("1 of its 2 measurements did not settle" in note for note in advice.notes)
    assert "best settled" in printed(advice)


def test_a_p99_of_few_requests_is_marked_where_it_matters() -> None:
    few = repeats([1000, 1001], request_count=661)
    assert any("661 requests" in note for note in only(*few, max_latency_p99_ms=9).notes)
    assert any("661 requests" in note for note in only(*few, objective="latency").notes)
    assert not any("requests" in note for note in only(*few).notes)
    enough = repeats([1000, 1001], request_count=662)
    assert not any("requests" in note for note in only(*enough, max_latency_p99_ms=9).notes)


def test_a_limit_is_kept_where_the_end_of_the_interval_keeps_it() -> None:
    records = [measured(1000, p99, repeat=i) for i, p99 in enumerate((8.0, 9.0, 10.0))]
    advice = only(*records, max_latency_p99_ms=10)
    assert advice.best is None
    (sentence,) = advice.failing
    assert "1 of 1 keep it by the mean, none with 95 % confidence: the surest may reach 10.8" in (
        sentence
    )
    assert only(*records, max_latency_p99_ms=12).notes == ()
    assert only(*records, max_latency_p99_ms=10, confidence=0.7).best
    # Three repeats have no finite end there; they were not measured once.
    assert (
        "none with 99.99999999 % confidence: no end can be given"
        in (only(*records, max_latency_p99_ms=10, confidence=0.9999999999).failing[0])
    )
    by_mean = only(*records, max_latency_p99_ms=10, limits_by_mean=True)
    assert by_mean.best
    assert any("is judged by the mean alone: the interval" in note for note in by_mean.notes)
    assert "1 within --max-latency-p99-ms 10 by the mean" in printed(by_mean)


def test_what_was_measured_once_keeps_a_limit_only_as_far_as_others_say_how_it_varies() -> None:
    alone = only(measured(1000, 5.0), max_latency_p99_ms=20)
    assert "all were measured once" in alone.failing[0]
    assert "--limits-by-mean" in alone.failing[0]
    accepted = only(measured(1000, 5.0), max_latency_p99_ms=20, limits_by_mean=True)
    assert any("nothing says how far that varies" in note for note in accepted.notes)
    others = [
        measured(900, p99, concurrency=c, repeat=i)
        for c in (1, 2, 3)
        for i, p99 in enumerate((4.9, 5.0, 5.1))
    ]
    assert only(measured(1000, 5.0), *others, max_latency_p99_ms=20).best["measured"] == 1


def test_a_limit_that_nothing_meets_is_named_with_the_nearest_point() -> None:
    advice = only(*SCAN, max_latency_p99_ms=1)
    assert advice.best is None
    assert advice.failing == (
        "no configuration meets --max-latency-p99-ms 1: the lowest p99 latency measured is 2 ms",
    )
    assert advice.nearest["batch_size"] == 1
    assert "nothing to recommend" in printed(advice)


def test_limits_that_cannot_be_met_together_are_named_together() -> None:
    advice = only(*SCAN, max_latency_p99_ms=4, min_throughput=4500)
    limits = "--max-latency-p99-ms 4 and --min-throughput 4500"
    assert advice.failing == (f"no configuration meets {limits} together",)
    # 5 ms for 4 is 1.25 over, 4040 for 4500 is 1.11: nearer than 2.3 times too much latency.
    assert advice.nearest["batch_size"] == 8


def test_a_limit_on_what_was_not_measured_is_named() -> None:
    advice = only(*repeats([10], gpu_memory_max_bytes=None), max_gpu_memory_gib=4)
    assert advice.failing == ("--max-gpu-memory-gib 4: the GPU memory was not measured",)
    assert advice.nearest is None


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_without_percentiles_throughput_can_be_chosen_and_latency_is_said_to_lack(
    missing: float | None,
) -> None:
    records = repeats([10, 12], latency_p99_us=missing, latency_p50_us=missing)
    assert only(*records).best["throughput_infer_per_s"] == 11
    assert "the p99 latency was not measured" in only(*records, objective="latency").failing[0]
    assert "the p99 latency was not measured" in only(*records, max_latency_p99_ms=5).failing[0]


def test_where_all_failed_the_reason_is_reported() -> None:
    advice = only(failed(), failed(batch_size=16), failed("died", batch_size=32))
    assert advice.best is None
    assert advice.failing == ("none of its 3 configurations was measured: out of memory",)
    assert "out of memory" in printed(advice)
    only(failed(), max_latency_p99_ms=5, objective="cost", prices={"a100": 1.0})


def test_one_point_alone_is_recommended_with_what_is_not_known() -> None:
    advice = only(measured(1000), rate=2500)
    assert advice.best["throughput_infer_per_s"] == 1000
    assert (advice.sizing.servers, advice.sizing.servers_low) == (4, None)


def test_no_results_at_all_are_reported() -> None:
    assert "there are no results" in refusal(recommend_configurations, loaded([]), Requirements())


results = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.floats(1, 1e4),
        st.floats(0.1, 100) | st.none(),
        st.sampled_from(["ok", "unstable", "failed"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40)
@given(results, st.floats(0.1, 100))
def test_nothing_that_was_measured_within_the_limit_beats_the_recommendation(
    measurements: list[tuple[int, float, float | None, str]], limit: float
) -> None:
    records = [
        measured(throughput, p99 or 0.0, concurrency=c, repeat=i, status=status)
        if p99
        else measured(throughput, concurrency=c, repeat=i, status=status, latency_p99_us=None)
        for i, (c, throughput, p99, status) in enumerate(measurements)
    ]
    advice = only(*records, max_latency_p99_ms=limit, limits_by_mean=True)
    frame = pd.DataFrame(measurements, columns=["c", "throughput", "p99", "status"])
    there = frame[frame["status"] != "failed"]
    means = there.groupby("c")[["throughput", "p99"]].mean()
    # Records have microseconds: what is the limit but for rounding may be on either side of it.
    assume(not any(math.isclose(p99, limit) for p99 in means["p99"].astype(float)))
    within = means[means["p99"].astype(float) <= limit]
    lost = 1 - there.groupby("c").size() / frame.groupby("c").size()
    reliable = within[lost[within.index] < 1 / 3]
    if within.empty:
        assert advice.best is None
        assert advice.failing
    else:
        best = advice.best["throughput_infer_per_s"]
        assert best == pytest.approx((within if reliable.empty else reliable)["throughput"].max())


@pytest.mark.parametrize(
    ("rate", "throughput", "servers"),
    [(1000, 1000, 1), (1001, 1000, 2), (0.3, 0.1, 3), (1, 1e9, 1)],
)
def test_a_rate_needs_as_many_servers_as_reach_it(
    rate: float, throughput: float, servers: int
) -> None:
    assert servers_needed(rate, throughput) == servers


def test_a_rate_is_sized_with_the_end_of_the_interval_that_does_not_flatter() -> None:
    advice = only(*repeats([990, 1000, 1010]), rate=7e4)
    # 1000 times exp(-+4.303 * 0.01 / 3 ** 0.5): 683 and 718 infer/s at 70 %.
    assert (advice.sizing.servers, advice.sizing.servers_low, advice.sizing.spares) == (103, 98, 1)
    assert advice.sizing.share == pytest.approx(0.68, abs=0.001)
    assert "104 GPUs: 103 for the rate (98 at least) and 1 to spare" in printed(advice)
    assert "the p99 at this load was not measured" in printed(advice)


def test_servers_of_several_gpus_are_counted_in_gpus() -> None:
    advice = only(*repeats([1000], gpu_count=4), rate=1750, prices={"a100": 2.0})
    assert (advice.sizing.servers, advice.sizing.gpus_per_server) == (3, 4)
    assert advice.sizing.cost_per_hour == pytest.approx(32)
    assert "16 GPUs in servers of 4: 12 for the rate and 4 to spare, 32 per hour" in printed(advice)


def test_servers_without_a_gpu_are_counted_in_nodes() -> None:
    on_cpu = {"gpu_name": None, "gpu_count": 0, "instance_kind": "KIND_CPU"}
    advice = only(*repeats([1000], **on_cpu), rate=1750, spares=0, prices={"a100": 0.5})
    assert (advice.sizing.gpus_per_server, advice.sizing.cost_per_hour) == (0, 1.5)
    assert "3 nodes: 3 for the rate" in printed(advice)
    assert only(*repeats([1], instance_kind="KIND_CPU"), rate=1).sizing.gpus_per_server == 0


def poisson(rate: float, p99_ms: float, **changes: Any) -> list[Record]:
    """An open loop that was measured three times: requests of 8 inferences, at random."""
    return [
        measured(
            8 * changes.get("send_request_rate", rate),
            p99_ms * (1 + 0.01 * repeat),
            repeat=repeat,
            concurrency=None,
            request_rate=rate,
            request_distribution="poisson",
            **{"send_request_rate": rate, "delayed_requests_percent": 0.0} | changes,
        )
        for repeat in range(3)
    ]


def test_a_rate_is_sized_from_random_arrivals_where_they_were_measured() -> None:
    closed = [measured(1600 + i, 9.0, concurrency=16, repeat=i) for i in range(3)]
    open_loops = [*poisson(100, 6.0), *poisson(150, 12.0), *poisson(180, 40.0)]
    sizing = only(*closed, *open_loops, max_latency_p99_ms=20, rate=10_000).sizing
    assert (sizing.measured_rate, sizing.capacity) == (True, pytest.approx(1200))
    assert (sizing.servers, sizing.share) == (9, None)
    text = printed(only(*closed, *open_loops, max_latency_p99_ms=20, rate=10_000))
    assert "each serves up to 1,200 infer/s within the limits: measured" in text
    assert "was not measured" not in text
    # Of another server it says nothing.
    other = [*poisson(150, 12.0, variant=TWO)]
    assert not only(*closed, *other, max_latency_p99_ms=20, rate=10_000).sizing.measured_rate


def test_no_number_contradicts_measured_rates_of_which_none_kept_the_limit() -> None:
    closed = [measured(1600 + i, 9.0, concurrency=16, repeat=i) for i in range(3)]

    def why(*open_loops: Record) -> str:
        advice = only(*closed, *open_loops, max_latency_p99_ms=20, rate=10_000)
        assert advice.sizing is None
        (note,) = (note for note in advice.notes if "no number of servers" in note)
        assert note in " ".join(printed(advice).split())
        return note

    exceeded = why(*poisson(100, 45.0), *poisson(150, 90.0))
    assert "the lowest measured, 800 infer/s, already exceeds --max-latency-p99-ms 20" in exceeded
    assert "(p99 latency 45.45 ms): measure lower rates, or load.capacity" in exceeded
    behind = why(*poisson(100, 9.0, send_request_rate=50.0, delayed_requests_percent=90.0))
    assert "400 infer/s, was more than the server kept up with" in behind
    assert "is not known to keep --max-latency-p99-ms 20" in why(*poisson(100, 19.5))
    without = only(*closed, *poisson(100, 45.0), max_latency_p99_ms=20)
    assert not any("no number" in note for note in without.notes)


def test_a_rate_above_which_none_was_tried_is_said_to_be_so() -> None:
    closed = [measured(1600 + i, 9.0, concurrency=16, repeat=i) for i in range(3)]
    alone = only(*closed, *poisson(50, 6.0), max_latency_p99_ms=20, rate=10_000)
    assert alone.sizing.higher_rate_tried is False
    assert "at random; no higher rate was tried, so that fewer servers may do" in printed(alone)
    more = [*poisson(50, 6.0), *poisson(150, 45.0)]
    tried = only(*closed, *more, max_latency_p99_ms=20, rate=10_000)
    assert (tried.sizing.higher_rate_tried, tried.sizing.capacity) == (True, pytest.approx(400))
    assert "no higher rate" not in printed(tried)


def test_a_server_sized_from_a_constant_rate_is_said_to_be_so() -> None:
    def sized(**load: Any) -> str:
        records = repeats([1600, 1601, 1602], 9.0, concurrency=None, **load)
        return printed(only(*records, max_latency_p99_ms=20, rate=10_000))

    constant = sized(request_rate=200.0, request_distribution="constant")
    assert "70% of what it was sent at a constant rate; the p99 at this load was" in constant
    assert "clients that wait" not in constant
    assert "70% of what it was sent at given intervals" in sized(request_intervals="a" * 16)
    closed = only(*repeats([1600, 1601, 1602], 9.0), max_latency_p99_ms=20, rate=10_000)
    assert "70% of what clients that wait got from it" in printed(closed)


def test_measurements_without_the_metric_to_optimise_are_counted_and_named() -> None:
    lacking = repeats([1000, 1001], concurrency=8, throughput_infer_per_s=None, latency_avg_us=1e3)
    advice = only(*repeats([1000, 1001, 1002]), *lacking)
    (note,) = (note for note in advice.notes if "without throughput" in note)
    assert note.startswith("measured without throughput, and left out: 2: (Tagger")
    assert "concurrency 8" in note


def test_cost_and_energy_of_a_million_inferences_have_intervals() -> None:
    records = [
        measured(1000 + 10 * i, repeat=i, gpu_power_avg_w=300.0, concurrency=c)
        for i in range(3)
        for c in (1, 2)
    ]
    sizing = only(*records, rate=70_000, prices={"a100": 3.6}).sizing
    cost, energy = sizing.cost_per_million, sizing.kwh_per_million
    assert cost.value == pytest.approx(3.6 * (sizing.servers + 1) / (70_000 * 3600) * 1e6)
    assert cost.low < cost.value <= cost.high
    # 300 W / 1010 infer/s is 0.297 J for one, 0.0825 kWh for a million.
    assert energy.value == pytest.approx(0.0825, abs=1e-4)
    assert energy.low < energy.value < energy.high


def test_clients_are_those_measured_within_the_limit_and_the_interpolated_are_marked() -> None:
    records = [
        *repeats([1000], 2.0, concurrency=2),
        *repeats([1900], 4.0, concurrency=4),
        *repeats([2000], 12.0, concurrency=12),
        *repeats([1], 9.0, concurrency=20, batch_size=99),
    ]
    advice = only(*records, max_latency_p99_ms=8.5, rate=100, limits_by_mean=True)
    # 4 ms at 4 clients, 12 ms at 12: 8.5 ms at 8.5.
    assert (advice.sizing.clients, advice.sizing.clients_interpolated) == (4, 8)
    assert "serves 4 clients" in printed(advice)
    assert "8 until p99 latency reaches 8.5 ms (interpolated, not measured)" in printed(advice)


def test_nothing_is_interpolated_beyond_what_was_measured() -> None:
    records = [
        *repeats([1000, 1001], 2.0, concurrency=2),
        *repeats([1900, 1901], 4.0, concurrency=4),
    ]
    assert only(*records, max_latency_p99_ms=50, rate=100).sizing.clients_interpolated is None
    assert only(*records, rate=100).sizing.clients_interpolated is None


def test_open_loop_has_no_number_of_clients() -> None:
    advice = only(*repeats([1000], concurrency=None, request_rate=125.0), rate=100)
    assert advice.sizing.clients is None
    assert "125" in printed(advice)


def run(*words: Any) -> Any:
    return CliRunner().invoke(main, ["recommend", *map(str, words)])


def test_the_command_ends_with_0_where_all_have_a_recommendation_and_1_where_one_has_none(
    tmp_path: Path,
) -> None:
    results = write(tmp_path / "r", [*SCAN, *repeats([5], 100.0, pool="t4", gpu_name=T4)])
    assert run(results).exit_code == 0
    done = run(results, "--max-latency-p99-ms", 20)
    assert done.exit_code == 1
    assert "the lowest p99 latency measured is 100 ms" in done.output


def test_the_command_prints_json_that_any_reader_takes(tmp_path: Path) -> None:
    results = write(tmp_path / "r", SCAN)
    done = run(results, "--json", "--rate", 1000, "--max-latency-p99-ms", 6)
    assert done.exit_code == 0
    (found,) = json.loads(done.output, parse_constant=pytest.fail)
    assert found["recommended"]["configuration"]["batch_size"] == 8
    throughput = found["recommended"]["metrics"]["throughput_infer_per_s"]
    assert (throughput["mean"], throughput["n"]) == (4040, 3)
    assert found["limits"] == {"--max-latency-p99-ms": 6}
    assert found["sizing"]["servers"] == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--price", "a100"], "is not POOL=PRICE"),
        (["--price", "a100=-1"], "is not POOL=PRICE"),
        (["--price", "a100=nan"], "is not POOL=PRICE"),
        (["--rate", "0"], "not in the range"),
        (["--rate", "inf"], "not in the range"),
        (["--rate", "nan"], "is not a number"),
        (["--max-latency-p99-ms", "nan"], "is not a number"),
        (["--max-latency-p99-ms", "-3"], "not in the range"),
        (["--objective", "speed"], "throughput"),
        (["--objective", "cost"], "no price for cern/a100"),
    ],
)
def test_bad_options_end_with_2_and_what_is_allowed(
    words: list[str], expected: str, tmp_path: Path
) -> None:
    done = run(write(tmp_path / "r", SCAN), *words)
    assert done.exit_code == 2
    assert expected in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_the_options_that_size_count_on_the_command_line(tmp_path: Path) -> None:
    results = write(tmp_path / "r", SCAN)
    sizing = {}
    for words in ((), ("--spares", 0), ("--spares", 3), ("--headroom", 1), ("--headroom", 0.35)):
        done = run(results, "--json", "--rate", 100_000, *words)
        assert done.exit_code == 0
        (found,) = json.loads(done.stdout)
        sizing[words] = found["sizing"]
    assert [sizing[words]["spares"] for words in sizing] == [1, 0, 3, 1, 1]
    usual, whole, half = (sizing[words] for words in ((), ("--headroom", 1), ("--headroom", 0.35)))
    assert whole["capacity"] == pytest.approx(usual["capacity"] / 0.7)
    assert half["capacity"] == pytest.approx(usual["capacity"] / 2)
    assert half["servers"] > usual["servers"] > whole["servers"]
    text = run(results, "--rate", 100_000, "--spares", 3, "--headroom", 0.35).output
    assert f"{half['servers'] + 3} GPUs: {half['servers']} for the rate" in text
    assert "and 3 to spare" in text
    assert "35% of what clients that wait got from it" in text


def test_the_confidence_of_a_limit_counts_on_the_command_line(tmp_path: Path) -> None:
    results = write(tmp_path / "r", [*SCAN[:3], *spread_p99(4000, (9.4, 9.5, 9.7), 8)])
    kept = {}
    for confidence in (0.7, 0.95, 0.999999):
        words = ("--max-latency-p99-ms", 10, "--confidence", confidence)
        (found,) = json.loads(run(results, "--json", *words).stdout)
        assert found["confidence"] == confidence
        kept[confidence] = found["within_limits"]
        assert f"with {100 * confidence:.8g} % confidence" in run(results, *words).output
    assert (kept[0.7], kept[0.999999]) == (2, 1)


def test_no_confidence_is_printed_as_certainty(tmp_path: Path) -> None:
    words = ("--max-latency-p99-ms", 10, "--confidence", 0.999999)
    done = run(write(tmp_path / "r", [*spread_p99(4000, (7.0, 8.0, 9.9), 8)]), *words)
    assert done.exit_code == 1
    assert "none with 99.9999 % confidence" in done.output
    assert "100 %" not in done.output


def test_a_confidence_of_the_mean_alone_is_refused(tmp_path: Path) -> None:
    results = write(tmp_path / "r", SCAN)
    words = ("--max-latency-p99-ms", 10, "--limits-by-mean")
    assert run(results, *words).exit_code == 0
    for confidence in (0.95, 0.99):
        done = run(results, *words, "--confidence", confidence)
        assert done.exit_code == 2
        assert (
            "--limits-by-mean with --confidence: the mean alone has no confidence"
            in str(done.exception or done.output) + done.output
        )


def spread_p99(speed: float, p99_ms: tuple[float, ...], batch_size: int) -> list[Record]:
    return [
        measured(speed * (1 + repeat / 1000), p99, batch_size=batch_size, repeat=repeat)
        for repeat, p99 in enumerate(p99_ms)
    ]


def test_a_configuration_alone_is_compared_with_no_others() -> None:
    assert "(base): there are no others" in printed(only(*repeats([1000, 1010])))
    beyond = only(
        *repeats([1000, 1010], 5.0),
        *repeats([2000, 2020], 50.0, concurrency=8),
        max_latency_p99_ms=20,
    )
    assert "(base): no other can be recommended" in printed(beyond)
    assert "(base): none of the others was better" in printed(only(*SCAN))


def test_identical_repeats_beside_one_that_was_measured_once_were_measured_more_than_once() -> None:
    """Their variance is 0: its square is no reason to know nothing."""
    records = [
        *(record for c in (1, 2, 3) for record in repeats([1000.0 * c] * 3, 9.0, concurrency=c)),
        measured(4000.0, 15.0, concurrency=4),
    ]
    advice = only(*records, max_latency_p99_ms=10)
    text = printed(advice)
    assert "nothing was measured twice" not in text
    assert "next, once" not in text
    assert [other.as_good for other in advice.runners_up] == [False, False]


def test_a_folder_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    done = run(tmp_path / "none")
    assert done.exit_code == 2
    assert "neither a results folder nor a Parquet file" in done.output


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else", None])
def test_a_damaged_file_ends_with_2_and_its_name(tmp_path: Path, content: bytes | None) -> None:
    folder = write(tmp_path / "r", SCAN)
    (path,) = folder.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    done = run(folder)
    assert done.exit_code == 2
    assert str(path) in done.output


def test_the_folder_to_deploy_holds_the_configuration_to_deploy(tmp_path: Path) -> None:
    text = 'name: "tagger"\nmax_batch_size: 256\n# ü\n'
    results = write(tmp_path / "r", repeats([1, 2], server_config="measured", deploy_config=text))
    out = tmp_path / "out"
    done = run(results, "--out", out, "--rate", 3)
    assert done.exit_code == 0
    assert (out / "tagger" / "config.pbtxt").read_text(encoding="utf-8") == text
    (listed,) = json.loads((out / "recommendation.json").read_text())
    assert listed["config"] == "tagger/config.pbtxt"
    readme = (out / "README.md").read_text()
    assert "batch size 8, concurrency 4" in readme
    assert "for 3 infer/s: " in readme


def deployed(out: Path) -> dict[str, str]:
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("config.pbtxt")}


def test_what_a_model_needs_is_deployed_with_it_as_it_was_served(tmp_path: Path) -> None:
    needs = json.dumps({"add": "# as it stands", "sub": "# as it stands", "auto": ""})
    bls = {"model": "bls", "model_label": "bls", "deploy_config": "# bls", "needs": needs}
    add = {"model": "add", "model_label": "add", "deploy_config": "# best"}
    results = write(tmp_path / "r", [*repeats([1, 2], **bls), *repeats([1, 2], **add)])
    out = tmp_path / "out"
    for _ in range(2):  # the second time into the same folder
        assert run(results, "--out", out, "--for", "triton").exit_code == 0
    # Copied over a repository, no folder makes another server than was measured.
    assert deployed(out) == {
        "with_add_sub_auto/bls/config.pbtxt": "# bls",
        "with_add_sub_auto/add/config.pbtxt": "# as it stands",
        "with_add_sub_auto/sub/config.pbtxt": "# as it stands",
        "add/config.pbtxt": "# best",
    }
    assert "- needs: add, sub, auto, on the same server" in (out / "README.md").read_text()
    note = "note: it calls add, sub, auto: deploy that beside it, as it was served there"
    assert run(results).output.count(note) == 1
    server = (out / "triton" / "with_add_sub_auto" / "bls" / "tritonserver.sh").read_text()
    assert "--load-model=bls --load-model=add --load-model=sub --load-model=auto" in server
    assert "--load-model=bls" not in (out / "triton" / "add" / "tritonserver.sh").read_text()


def test_what_a_model_needs_stands_beside_it_where_nothing_else_is_recommended_for_that(
    tmp_path: Path,
) -> None:
    needs = json.dumps({"add": "# base", "auto": ""})
    bls = {"model": "bls", "model_label": "bls", "deploy_config": "# bls", "needs": needs}
    add = {"model": "add", "model_label": "add", "deploy_config": "# base"}
    results = write(tmp_path / "r", [*repeats([1, 2], **bls), *repeats([1, 2], **add)])
    assert run(results, "--out", tmp_path / "out").exit_code == 0
    assert deployed(tmp_path / "out") == {
        "bls/config.pbtxt": "# bls",
        "add/config.pbtxt": "# base",
    }


def test_all_models_of_a_shared_server_are_deployed_as_they_were_served(tmp_path: Path) -> None:
    """Each model of the server is recommended with the others; one of them calls a fourth."""
    busy = {"batch_size": 4, "concurrency": 2}
    configs = {"other": "# 2 instances", "bls": "# bls", "leaf": "# leaf"}
    shared = {"beside": beside(busy, instance_count=2), "beside_configs": json.dumps(configs)}
    records = [
        *repeats([1000, 1001], deploy_config="# alone"),
        *repeats([500, 501], point_id="b", deploy_config="# shared", **shared),
    ]
    out = tmp_path / "out"
    results = write(tmp_path / "r", records)
    assert run(results, "--out", out, "--for", "triton").exit_code == 0
    place = "beside_other_batch_size_4_concurrency_2"
    assert deployed(out) == {
        "tagger/config.pbtxt": "# alone",
        f"{place}/tagger/config.pbtxt": "# shared",
        **{f"{place}/{name}/config.pbtxt": text for name, text in configs.items()},
    }
    readme = (out / "README.md").read_text()
    assert "- shares its server with: other, bls, leaf, on the same server, each as" in readme
    server = (out / "triton" / place / "tagger" / "tritonserver.sh").read_text()
    assert "--load-model=tagger --load-model=other --load-model=bls --load-model=leaf" in server
    alone, together = hpcbench.recommend(load_results(results))
    assert (alone.config_pbtxt, alone.others) == ("# alone", {})
    assert (together.config_pbtxt, together.others) == ("# shared", configs)
    assert "beside Other" in together.title


def test_several_gpus_have_folders_of_their_own(tmp_path: Path) -> None:
    records = [
        *repeats([1]),
        *repeats([2], pool="t4", gpu_name=T4),
        *repeats([3], shapes='{"x": [9]}'),
    ]
    out = tmp_path / "out"
    assert run(write(tmp_path / "r", records), "--out", out).exit_code == 0
    found = sorted(str(path.relative_to(out)) for path in out.rglob("config.pbtxt"))
    assert found == [
        "a100_sxm4_40gb/tagger/config.pbtxt",
        "a100_sxm4_40gb_x_9/tagger/config.pbtxt",
        "tesla_t4/tagger/config.pbtxt",
    ]


def test_folders_of_one_model_are_named_by_their_shapes_and_not_by_what_was_chosen(
    tmp_path: Path,
) -> None:
    records = [
        *repeats([1], shapes='{"x": [9]}', shapes_name="short", protocol="http"),
        *repeats([3], shapes='{"x": [50]}', shapes_name="long", protocol="grpc"),
    ]
    out = tmp_path / "out"
    done = run(write(tmp_path / "r", records), "--out", out)
    assert "tagger on A100-SXM4-40GB, shapes long: 1 conf" in done.output.replace(
        "Tagger", "tagger"
    )
    found = sorted(str(path.relative_to(out)) for path in out.rglob("config.pbtxt"))
    assert found == ["shapes_long/tagger/config.pbtxt", "shapes_short/tagger/config.pbtxt"]
    assert "## Tagger on A100-SXM4-40GB, shapes short\n" in (out / "README.md").read_text()


def test_folders_of_one_model_under_two_labels_are_named_by_these(tmp_path: Path) -> None:
    records = [
        *repeats([1], model_label="Old"),
        *repeats([3], model_label="New", model_digest="d2"),
    ]
    out = tmp_path / "out"
    assert run(write(tmp_path / "r", records), "--out", out).exit_code == 0
    found = sorted(str(path.relative_to(out)) for path in out.rglob("config.pbtxt"))
    assert found == ["new/tagger/config.pbtxt", "old/tagger/config.pbtxt"]


def test_versions_of_a_model_are_named_and_none_is_switched_off(tmp_path: Path) -> None:
    own = 'name: "tagger" version_policy { all { } }'
    records = [
        record
        for version in (1, 2)
        for record in repeats(
            [version],
            model_version=version,
            server_config=f"version_policy {{ specific {{ versions: {version} }} }}",
            deploy_config=own,
        )
    ]
    out = tmp_path / "out"
    done = run(write(tmp_path / "r", records), "--out", out)
    assert done.exit_code == 0
    assert "Tagger version 1 on A100-SXM4-40GB: 1 conf" in done.output
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("config.pbtxt")}
    assert found == {f"version_{n}/tagger/config.pbtxt": own for n in (1, 2)}
    readme = (out / "README.md").read_text()
    assert "## Tagger version 2 on A100-SXM4-40GB\n" in readme
    assert "- version: 2; the version_policy is that of your model" in readme
    assert "A config.pbtxt holds for all versions of tagger: copy one of them" in readme


def test_a_file_that_serves_one_version_only_says_so(tmp_path: Path) -> None:
    """Results of before had no other."""
    out = tmp_path / "out"
    assert run(write(tmp_path / "r", repeats([1], model_version=2)), "--out", out).exit_code == 0
    assert "the file serves version 2 only" in (out / "README.md").read_text()


def test_a_model_without_a_configuration_goes_without(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(write(tmp_path / "r", repeats([1], deploy_config="")), "--out", out).exit_code == 0
    assert "- configuration: none, as in your repository" in (out / "README.md").read_text()
    assert not list(out.rglob("config.pbtxt"))


def test_an_earlier_recommendation_is_replaced_and_nothing_else_is_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = write(tmp_path / "r1", [*repeats([1]), *repeats([2], pool="t4", gpu_name=T4)])
    second = write(tmp_path / "r2", repeats([3]))
    assert run(first, "--out", out).exit_code == 0
    (out / "tesla_t4" / "mine.txt").write_text("kept")
    assert run(second, "--out", out).exit_code == 0
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert names == ["README.md", "recommendation.json", "tagger/config.pbtxt", "tesla_t4/mine.txt"]


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    done = run(write(tmp_path / "r", SCAN), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "is not empty" in done.output
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["[]", "{", '[{"config": "../../x/config.pbtxt"}]', '[{"a": 1}]'])
def test_a_list_that_is_not_ours_deletes_nothing(tmp_path: Path, text: str) -> None:
    victim = tmp_path / "x" / "config.pbtxt"
    victim.parent.mkdir()
    victim.write_text("kept")
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    (out / deploy.LIST).write_text(text)
    run(write(tmp_path / "r", SCAN), "--out", out)
    assert victim.read_text() == "kept"


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    advice = advise(*repeats([1], model="../tagger"))
    with pytest.raises(BadInput, match="cannot be the name of a folder"):
        deploy.write_deployment(advice, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_without_a_configuration_are_recommended_without_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    results = write(tmp_path / "r", repeats([1], server_config=None, variant=None))
    assert run(results, "--out", out).exit_code == 0
    assert "these results hold no config.pbtxt" in (out / "README.md").read_text()
    assert not (out / "tagger").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (None, "-"),
        (math.nan, "-"),
        (12345.6, "12,346"),
        (1.5, "1.5"),
        (0.012346, "0.01235"),
    ],
)
def test_numbers_have_four_digits(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_a_number_is_shown_with_two_digits_of_its_error() -> None:
    row = {"x": 1234.567, "x_high": 1234.567 + 0.0345, "y": 5.0, "y_high": None, "z": 2.0}
    assert format_with_error(row, "x") == "1,234.567 ± 0.034"
    assert format_with_error(row, "y") == "5"
    assert format_with_error(row | {"z_high": 2.0}, "z") == "2.0 ± 0.0"
    assert format_with_error({"x": 1e4, "x_high": 1e4 + 321.0}, "x") == "10,000 ± 321"


@pytest.mark.native
@pytest.mark.usefixtures("as_if_alone")
def test_the_recommended_configuration_loads_on_a_triton_as_it_is(
    tmp_path: Path, native_prefix: Path, demo_models: Path, leaves_nothing: None
) -> None:
    from hpcbench import run as run_campaign

    axes = {"instance_count": [1, 2], "preferred_batch_size": [[4, 8]]}
    campaign, site = quick_run(tmp_path, native_prefix, demo_models, server=axes)
    assert run_campaign(campaign, site, tmp_path / "results").exit_code == 0
    out = tmp_path / "out"
    assert run(tmp_path / "results", "--out", out).exit_code == 0
    (listed,) = json.loads((out / deploy.LIST).read_text())
    repository = tmp_path / "repository"
    shutil.copytree(demo_models / "jet_tagger", repository / "jet_tagger")
    shutil.copytree(out, repository, dirs_exist_ok=True)
    recommended = listed["recommended"]
    frame = load_results(tmp_path / "results")
    mean = recommended["metrics"]["throughput_infer_per_s"]["mean"]
    # On a busy machine, the fastest may be one that is not valid.
    assert mean == frame.loc[frame["valid"].eq(True), "throughput_infer_per_s"].max()
    loaded = _loaded(Site.load(site_file(tmp_path, native_prefix)), repository, tmp_path / "log")
    assert loaded["dynamic_batching"]["preferred_batch_size"] == [4, 8]
    instances = sum(group["count"] for group in loaded["instance_group"])
    assert instances == recommended["configuration"]["instance_count"]


def _loaded(site: Site, repository: Path, log: Path) -> dict[str, Any]:
    """The configuration of jet_tagger that a Triton on this repository says it has loaded."""
    http, grpc, metrics = free_ports(3)
    arguments = [
        f"--model-repository={repository}",
        *("--http-address=127.0.0.1", f"--http-port={http.number}"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={grpc.number}"),
        *("--metrics-address=127.0.0.1", f"--metrics-port={metrics.number}"),
    ]
    shared = f"hpcbench-test-{uuid.uuid4().hex}-"
    access = container.NodeAccess(folder=log.parent, shm_prefix=shared)
    command = container.runtime_of(site.container).server_command(site.container, arguments, access)

    def answer() -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError):
            answer = loaded_config.get_json(http, "/v2/models/jet_tagger/config")
            return None if "error" in answer else answer
        return None

    with (
        log.open("w") as stream,
        process.running(
            command,
            stdout=stream,
            stderr=stream,
            grace_s=10,
        ),
    ):
        assert wait_until(answer, timeout_s=240), log.read_text()
        return answer() or {}


def test_what_shared_its_server_is_not_recommended() -> None:
    alone = repeats([1000])
    shared = repeats([5000], point_id="b", beside='[{"model": "other"}]')
    called = repeats([9000], point_id="c", part_of="a", model_label="Tagger / step")
    assert only(*alone, *shared, *called).best["throughput_infer_per_s"] == 1000
    assert "measure the models alone" in refusal(advise, *shared, *called)


def beside(load: dict[str, Any] | None, **axes: Any) -> str:
    return json.dumps([{"model_label": "Other", "variant": axes, "load": load}])


def test_models_on_shared_servers_have_advice_of_their_own_for_each_load_of_the_others(
    tmp_path: Path,
) -> None:
    busy, idle = {"batch_size": 4, "concurrency": 2}, None
    records = [
        *repeats([1000, 1001]),
        *repeats([900, 901], point_id="i", beside=beside(idle)),
        *repeats([500, 501], point_id="b", beside=beside(busy)),
        *repeats([700, 701], point_id="c", beside=beside(busy, instance_count=2)),
    ]
    advice = recommend_on_all_servers(loaded(records), Requirements())
    assert [one.best["throughput_infer_per_s"] for one in advice] == [1000.5, 700.5, 900.5]
    assert [one.configurations for one in advice] == [1, 2, 1]
    text = printed(advice[1])
    assert text.startswith("Tagger on A100-SXM4-40GB, beside Other (batch size 4, concurrency 2): ")
    assert "note: measured on a shared server, and true of such servers only: beside Other" in text
    assert "(2 instances, batch size 4, concurrency 2)" in text
    assert recommend_text.recommendation_json(advice[0])["beside"] is None
    assert recommend_text.recommendation_json(advice[1])["beside"][0]["load"] == busy
    # None of them was alone: then there is nothing to say of that.
    (shared,) = recommend_on_all_servers(loaded(records[2:4]), Requirements())
    assert shared.best["throughput_infer_per_s"] == 900.5
    out = tmp_path / "out"
    done = run(write(tmp_path / "r", records), "--out", out, "--for", "triton")
    assert done.exit_code == 0, done.output
    folders = {path.parent.parent.name: path for path in out.rglob("tritonserver.sh")}
    place = "beside_other_batch_size_4_concurrency_2"
    assert set(folders) == {"triton", "beside_other_idle", place}
    said = folders[place].read_text()
    assert "# From 2 measurements" in said
    assert "# Measured on a shared server, beside Other (2 instances, batch size 4" in said
    assert "shared" not in folders["triton"].read_text()


# What failed, what fell behind, and what is luck


def crashed(throughput: float, measured_of_3: int, **changes: Any) -> list[Record]:
    """Three repeats of which some died."""
    there = [
        measured(throughput + repeat, repeat=repeat, **changes) for repeat in range(measured_of_3)
    ]
    dead = [
        failed("the server died", repeat=repeat, **changes) for repeat in range(measured_of_3, 3)
    ]
    return [*there, *dead]


def test_a_configuration_that_crashes_is_not_recommended_while_others_are_left() -> None:
    crashing = crashed(2000, 1, variant=TWO)
    advice = only(*crashing, *repeats([1000, 1001, 1002]))
    assert advice.best["throughput_infer_per_s"] == 1001
    assert (advice.measured, str(advice.counts)) == (2, "6/4/4")
    left_out = "1 configuration is left out, of which a third or more of the repeats failed"
    assert f"{left_out}, or were not valid" in advice.notes
    assert "3/3/3" in printed(advice)


def test_where_every_configuration_crashes_the_best_of_them_is_named_with_that_said() -> None:
    advice = only(*crashed(2000, 1, variant=TWO), *crashed(1000, 2))
    assert advice.best["variant"] == ONLY_TWO
    assert any("only 1 of its 3 repeats could be measured" in note for note in advice.notes)
    assert "3/1/1" in printed(advice)


def test_an_open_loop_that_fell_behind_is_not_recommended() -> None:
    # The review's: asked for 5000/s, 640/s sent, 99.7 % late.
    behind = poisson(5000, 6.5, send_request_rate=640.0, delayed_requests_percent=99.7)
    kept = poisson(400, 5.0)
    advice = only(*behind, *kept)
    assert advice.best["request_rate"] == 400
    assert any("fell behind the request rate asked for" in note for note in advice.notes)
    late = poisson(700, 5.0, delayed_requests_percent=1.5)
    assert only(*late, *kept).best["request_rate"] == 400
    alone = only(*behind)
    assert alone.best is None
    assert "every configuration fell behind the request rate asked for" in alone.failing[0]


def test_what_is_not_valid_is_left_out_counted_and_named() -> None:
    # 8 requests of 4 inferences in flight, each within 1 ms, are no 10 infer/s.
    little = measured(10.0, 1.0, repeat=0, concurrency=1, latency_avg_us=100.0, batch_size=4)
    others = repeats([1000, 1001, 1002])
    advice = only(little, *others)
    assert str(advice.counts) == "4/3/3"
    assert "1 measurement is left out, not being valid: hpcbench check says why" in advice.notes


def test_memory_is_limited_by_its_largest_value() -> None:
    gib = [14.9, 14.9, 17.8]
    records = [
        measured(1000 + i, repeat=i, gpu_memory_max_bytes=int(each * 2**30))
        for i, each in enumerate(gib)
    ]
    assert only(*records, max_gpu_memory_gib=16).best is None
    assert only(*records, max_gpu_memory_gib=18).best["gpu_memory_gib"] == pytest.approx(17.8)


def test_the_best_of_a_tie_has_an_interval_that_holds_what_was_measured() -> None:
    """Values that are rounded, as rates of a search are, are often the same."""
    records = [r for c in (1, 2, 3, 4, 5) for r in repeats([1000, 1010, 1020], concurrency=c)]
    corrected = only(*records).corrected
    assert corrected.low < corrected.value <= 1010 < corrected.high


def test_the_figure_of_the_best_of_equals_is_corrected_for_its_luck() -> None:
    chance = np.random.default_rng(3)
    records = [
        measured(float(value), concurrency=c + 1, repeat=repeat)
        for c in range(50)
        for repeat, value in enumerate(chance.normal(1000, 50, 3))
    ]
    advice = only(*records)
    assert advice.best["throughput_infer_per_s"] > 1040
    assert advice.corrected.candidates == 50
    assert advice.corrected.value == pytest.approx(1000, rel=0.02)
    assert advice.corrected.low < 1000 < advice.corrected.high
    assert len(advice.as_good) >= 48
    assert "corrected for being the best of 50" in printed(advice)


def test_one_that_is_clearly_ahead_keeps_its_figure() -> None:
    advice = only(*repeats([2000, 2020, 2040], variant=TWO), *repeats([1000, 1010, 1020]))
    assert advice.corrected.value == pytest.approx(2020)
    assert advice.corrected.low < 2020 < advice.corrected.high
    assert advice.as_good == ()


def test_repeats_that_no_normal_distribution_has_are_reported() -> None:
    chance = np.random.default_rng(5)
    slow = chance.random((20, 5)) < 0.1
    values = chance.normal(1000, 20, (20, 5)) * np.where(slow, 0.5, 1)
    records = [
        measured(float(values[c, repeat]), concurrency=c + 1, repeat=repeat)
        for c in range(20)
        for repeat in range(5)
    ]
    (note,) = (note for note in only(*records).notes if "not normal" in note)
    assert note.startswith("throughput: repeats are not normal (outliers")


def test_two_files_of_one_model_under_one_label_have_titles_of_their_own() -> None:
    advice = advise(*repeats([1], model_digest="d1" * 32), *repeats([2], model_digest="d2" * 32))
    assert recommend_text.recommendation_distinctions(advice) == [
        "model digest d1d1d1d1d1d1",
        "model digest d2d2d2d2d2d2",
    ]
