"""Repeats become configurations; metrics of these have intervals, and so have differences."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpcbench.analysis.summary.configuration import (
    CONFIGURATION,
    HARDWARE,
    OBSERVED,
    PLANNED,
    group_numbers,
    normalised,
    plain_rows,
    strings_as_categories,
)
from hpcbench.analysis.summary.statistics import (
    CONFIDENCE,
    Sample,
    group_statistics,
    join_repeats,
    requests_needed,
    too_few_requests,
    welch_ratio,
)
from hpcbench.records.columns import SCHEMA
from tests.helpers.measurements import A100, T4, failed, loaded, measured, repeats, server

THROUGHPUT = "throughput_infer_per_s"

OTHERS = {
    *("point_id", "campaign", "repeat", "placement_id", "status", "reason", "model_position"),
    *(
        "input_data_digest",
        "platform",
        "server_config",
        "own_config",
        "server_ready_s",
        "accelerator_nodes",
    ),
    *("engine_build_s", "engine_cached", "warmup_batch_sizes"),
    *("server_fresh", "node", "gpu_uuid", "memory_bytes", "kernel", "job_id", "command"),
    *(
        "request_intervals",
        "request_intervals_s",
        "figures_command",
        "exit_code",
        "log_tail",
        "perf_analyzer_s",
        "started_at",
        "ended_at",
    ),
    *("hpcbench_version", "client_overhead_percent", "send_request_rate", "request_count"),
    *("delayed_requests_percent", "inference_count", "execution_count", "success_count"),
    *("overloaded", "schedule_lag_s", "warm_up_s", "precision_reached"),
    *("executed_batch_sizes", "executed_batch_counts"),
    # What an image holds is known by its digest.
    *("server_image", "sdk_image", "backend_versions", "cuda_version", "tensorrt_version"),
    # What ran at the same time is in `beside`; what an ensemble called has a label of its own.
    *("run_id", "placement_position", "session_s", "capacity_step", "arrivals_seed"),
    *("pool_gpu", "pool_gpu_count", "cuda_visible_devices", "together_id", "overlap", "part_of"),
    *("failure_count", "cache_hit_count", "foreign_requests", "cpus_shared", "device_source"),
    *("cpu_governor", "numa_nodes", "source", "deploy_config", "needs", "other_cpu_s"),
    "beside_configs",
}
"""Columns that two repeats may differ in and that are not metrics of time, rate or device."""

FIGURE_PREFIXES = ("latency_", "client_", "network_", "server_", "windows_", "gpu_")
FIGURE_PREFIXES += ("output_", "executed_", "energy_", "idle_power_", "cpu_power_", "cpu_sampled_")


def summary(*records: Any) -> pd.DataFrame:
    return join_repeats(loaded(records), [THROUGHPUT])


def test_every_column_is_part_of_a_configuration_or_may_differ_between_repeats() -> None:
    metrics = {
        name for name in SCHEMA.names if name.startswith(FIGURE_PREFIXES) or name.endswith("_per_s")
    } - {
        *("server_image_digest", "server_flags", "output_shared_memory_bytes"),
        *("gpu_name", "gpu_count", "gpu_driver"),
    }
    assert set(CONFIGURATION).isdisjoint(OTHERS | metrics)
    # A new column belongs into hpcbench.analysis.summary.configuration, or into OTHERS above.
    assert set(SCHEMA.names) == set(CONFIGURATION) | OTHERS | metrics


def test_the_statistics_of_three_repeats_are_those_of_a_pocket_calculator() -> None:
    row = summary(*repeats([10.0, 12.0, 14.0])).iloc[0]
    assert (row["repeats"], row["measured"], row["unstable"]) == (3, 3, 0)
    found = {end: row[f"{THROUGHPUT}{end}"] for end in ("", "_n", "_median", "_std", "_cv")}
    assert found == {"": 12, "_n": 3, "_median": 12, "_std": 2, "_cv": pytest.approx(1 / 6)}
    assert (row[f"{THROUGHPUT}_min"], row[f"{THROUGHPUT}_max"]) == (10, 14)
    # t(2 degrees, 97.5 %) = 4.30265; times 2 / sqrt(3).
    assert row[f"{THROUGHPUT}_low"] == pytest.approx(12 - 4.96828, abs=1e-5)
    assert row[f"{THROUGHPUT}_high"] == pytest.approx(12 + 4.96828, abs=1e-5)


def test_one_repeat_has_no_spread_and_no_interval() -> None:
    row = summary(measured(10.0)).iloc[0]
    assert row[THROUGHPUT] == row[f"{THROUGHPUT}_median"] == 10
    assert row[[f"{THROUGHPUT}_{end}" for end in ("std", "cv", "low", "high")]].isna().all()


def test_two_repeats_have_the_wide_interval_of_one_degree_of_freedom() -> None:
    row = summary(*repeats([10.0, 12.0])).iloc[0]
    assert row[f"{THROUGHPUT}_high"] - 11 == pytest.approx(12.7062, abs=1e-4)


def test_equal_repeats_have_no_spread_to_the_last_digit() -> None:
    row = summary(*repeats([0.1, 0.1, 0.1])).iloc[0]
    assert (row[f"{THROUGHPUT}_std"], row[f"{THROUGHPUT}_low"]) == (0, 0.1)


def test_what_is_not_finite_or_missing_is_no_value() -> None:
    row = summary(*repeats([10.0, 12.0, float("nan"), float("inf")])).iloc[0]
    assert (row["measured"], row[f"{THROUGHPUT}_n"], row[THROUGHPUT]) == (4, 2, 11)
    none = summary(measured(None)).iloc[0]
    assert none[f"{THROUGHPUT}_n"] == 0
    assert pd.isna(none[THROUGHPUT])


def test_an_empty_table_has_no_configuration() -> None:
    table = summary()
    assert table.empty
    assert {*CONFIGURATION, THROUGHPUT, f"{THROUGHPUT}_low"} <= set(table)


values = st.lists(st.floats(-1e6, 1e6), max_size=6)


@given(st.lists(values, max_size=6))
def test_groups_are_described_as_scipy_describes_each(groups: list[list[float]]) -> None:
    numbers = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    order = np.random.default_rng(0).permutation(len(numbers))
    flat = np.array([value for group in groups for value in group], dtype=float)
    found = group_statistics(flat[order], numbers[order].astype(np.int64), len(groups))
    for place, group in enumerate(groups):
        assert found["_n"][place] == len(group)
        if group:
            assert found[""][place] == pytest.approx(np.mean(group), abs=1e-6)
            assert found["_median"][place] == pytest.approx(np.median(group), abs=1e-6)
            assert (found["_min"][place], found["_max"][place]) == (min(group), max(group))
        if len(group) > 1:
            assert found["_std"][place] == pytest.approx(np.std(group, ddof=1), abs=1e-6)
        if len(group) > 1 and np.ptp(group) > 1e-6:
            low, high = stats.t.interval(
                CONFIDENCE, len(group) - 1, np.mean(group), stats.sem(group)
            )
            assert found["_low"][place] == pytest.approx(low, rel=1e-9, abs=1e-5)
            assert found["_high"][place] == pytest.approx(high, rel=1e-9, abs=1e-5)


OTHER_VALUES: dict[Any, Any] = {"string": "other", "int64": 77, "double": 7.5, "bool": False}


def _other(column: str) -> Any:
    if column in ("preferred_batch_size", "gpus"):
        return (4, 8)
    if column in ("variant", "shapes"):
        return '{"other": [1]}'
    return OTHER_VALUES[str(SCHEMA.field(column).type)]


@pytest.mark.parametrize("column", CONFIGURATION)
def test_measurements_that_differ_in_a_column_of_a_configuration_are_never_joined(
    column: str,
) -> None:
    one, other = measured(repeat=0), measured(repeat=1, **{column: _other(column)})
    assert len(summary(one, other)) == 2


def test_measurements_that_differ_in_none_are_joined() -> None:
    assert len(summary(measured(repeat=0), measured(repeat=1))) == 1


def test_what_may_differ_between_repeats_does_not_part_them() -> None:
    changes = {"node": "n2", "gpu_uuid": "GPU-2", "job_id": "7", "campaign": "again"}
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert len(summary(measured(), measured(repeat=1, **changes, started_at=later))) == 1


def test_an_input_file_is_known_by_its_content_wherever_it_lay() -> None:
    one = measured(input_data="/here/x.json", input_data_digest="abc")
    same = measured(repeat=1, input_data="/there/x.json", input_data_digest="abc")
    other = measured(repeat=2, input_data="/here/x.json", input_data_digest="def")
    assert summary(one, same, other)["repeats"].tolist() == [2, 1]


def test_rows_that_failed_are_counted_and_have_no_say() -> None:
    odd = failed(repeat=2, throughput_infer_per_s=1e9)
    row = summary(*repeats([10.0, 12.0]), odd).iloc[0]
    assert (row["repeats"], row["measured"], row[THROUGHPUT]) == (3, 2, 11)


def test_a_row_that_did_not_settle_is_counted_and_has_a_say() -> None:
    row = summary(measured(10.0), measured(20.0, repeat=1, status="unstable")).iloc[0]
    assert (row["measured"], row["unstable"], row[THROUGHPUT]) == (2, 1, 15)


def test_a_point_that_failed_early_stands_on_the_hardware_of_its_server() -> None:
    frame = normalised(loaded([measured(batch_size=1), failed(batch_size=2)]))
    assert frame["gpu_name"].tolist() == [A100, A100]
    assert frame["instance_kind"].tolist() == ["KIND_GPU", "KIND_GPU"]


def test_a_server_that_never_started_stands_on_the_hardware_of_its_pool() -> None:
    frame = normalised(loaded([measured(), failed(variant=server(instance_count=9))]))
    assert frame["gpu_name"].tolist() == [A100, A100]
    assert frame.set_index("status")["instance_kind"].isna().to_dict() == {
        "ok": False,
        "failed": True,
    }


def test_a_failed_point_keeps_the_hardware_that_it_knows() -> None:
    frame = normalised(loaded([measured(batch_size=1), failed(batch_size=2, gpu_name=T4)]))
    assert frame["gpu_name"].tolist() == [A100, T4]
    assert frame["gpu_driver"].isna().tolist() == [False, True]


def test_nothing_is_filled_in_where_another_pool_was_measured() -> None:
    frame = normalised(loaded([measured(), failed(pool="t4")]))
    assert frame[list(OBSERVED)].isna().all(axis=1).tolist() == [False, True]


def test_groups_are_numbered_as_they_appear_and_missing_agrees_with_missing() -> None:
    frame = pd.DataFrame(
        {"a": ["y", None, "x", "y", np.nan], "b": pd.array([1, None, 1, 1, None], dtype="Int64")}
    )
    assert group_numbers(frame, ["a", "b"]).tolist() == [0, 1, 2, 0, 1]
    assert group_numbers(frame, []).tolist() == [0, 0, 0, 0, 0]


def test_a_compact_table_has_the_same_configurations() -> None:
    frame = loaded([*repeats([1.0, 2.0]), *repeats([3.0], gpu_name=T4), failed(batch_size=9)])
    plain, packed = (join_repeats(f, [THROUGHPUT]) for f in (frame, strings_as_categories(frame)))
    places = range(len(plain))
    assert plain_rows(plain, places) == plain_rows(packed, places)
    assert len(plain) == 3


def test_asked_and_found_are_all_of_a_configuration_once() -> None:
    assert len(set(CONFIGURATION)) == len(CONFIGURATION) == len(PLANNED) + len(OBSERVED)
    assert set(HARDWARE) <= set(OBSERVED)


@pytest.mark.parametrize(("percentile", "needed"), [(90, 64), (95, 130), (99, 662)])
def test_the_requests_that_a_percentile_needs_are_those_that_mlperf_publishes(
    percentile: int, needed: int
) -> None:
    assert requests_needed(percentile) == needed


def test_a_percentile_of_too_few_requests_is_marked_and_an_unknown_count_is_not() -> None:
    assert too_few_requests([661, 662, np.nan], 99).tolist() == [True, False, False]


def sample(*values: float) -> Sample:
    std = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return Sample(*(np.array([float(v)]) for v in (len(values), np.mean(values), std)))


A, B = (105.0, 108.0, 102.0), (95.0, 99.0, 91.0, 97.0)


def test_a_ratio_has_the_interval_that_a_pocket_calculator_gives() -> None:
    found = welch_ratio(sample(12, 10, 14), sample(10, 9, 11))
    # Relative errors of the means: 2 / 12 / sqrt(3) and 1 / 10 / sqrt(3).
    a, b = (2 / 12) ** 2 / 3, (1 / 10) ** 2 / 3
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 2)
    half = stats.t.ppf(0.975, freedom) * (a + b) ** 0.5
    assert found.value[0] == pytest.approx(1.2)
    assert found.low[0] == pytest.approx(1.2 * np.exp(-half))
    assert found.high[0] == pytest.approx(1.2 * np.exp(half))


@given(
    st.lists(st.floats(1, 1e6), min_size=2, max_size=5),
    st.lists(st.floats(1, 1e6), min_size=2, max_size=5),
)
def test_turned_round_a_ratio_has_the_reciprocal_interval(a: list[float], b: list[float]) -> None:
    there, back = welch_ratio(sample(*a), sample(*b)), welch_ratio(sample(*b), sample(*a))
    assert np.log(there.value[0]) == pytest.approx(-np.log(back.value[0]), abs=1e-9)
    with np.errstate(divide="ignore"):
        assert np.log(there.low[0]) == pytest.approx(-np.log(back.high[0]), rel=1e-6, abs=1e-9)
    assert there.low[0] <= there.value[0] <= there.high[0]


def test_what_was_measured_once_has_no_interval() -> None:
    for a, b in ((sample(1), sample(*B)), (sample(*B), sample(1)), (sample(1), sample(2))):
        found = welch_ratio(a, b)
        assert np.isfinite(found.value[0])
        assert np.isnan([found.low[0], found.high[0]]).all()


def test_equal_repeats_on_both_sides_leave_no_doubt() -> None:
    found = welch_ratio(sample(2, 2), sample(1, 1))
    assert (found.low[0], found.value[0], found.high[0]) == pytest.approx((2, 2, 2))


def test_a_ratio_of_what_is_not_positive_is_none() -> None:
    assert np.isnan(welch_ratio(sample(-1, 1), sample(*B)).value[0])
    assert np.isnan(welch_ratio(sample(*B), sample(0, 0)).value[0])


def test_intervals_of_ratios_hold_the_truth_as_often_as_they_say() -> None:
    chance = np.random.default_rng(1)
    a, b = chance.normal(1200, 60, (4000, 4)), chance.normal(1000, 20, (4000, 3))
    found = welch_ratio(*(Sample(*_moments(x)) for x in (a, b)))
    covered = ((found.low < 1.2) & (found.high > 1.2)).mean()
    assert 0.93 < covered < 0.97


def _moments(x: Any) -> tuple[Any, Any, Any]:
    return np.full(len(x), float(x.shape[1])), x.mean(axis=1), x.std(axis=1, ddof=1)
