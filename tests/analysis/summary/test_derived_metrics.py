"""Metrics that are computed from the columns of a record."""

from hpcbench.analysis.summary.derived_metrics import energy_j_per_infer, settled_latency_us
from tests.helpers.measurements import loaded, measured


def test_the_latency_of_a_point_is_the_percentile_asked_for_else_its_mean() -> None:
    frame = loaded(
        [
            measured(batch_size=1, latency_percentile_us=7.0),
            measured(batch_size=2, latency_p95_us=8.0, latency_avg_us=1.0),
            measured(batch_size=3, percentile=None, latency_avg_us=9.0),
            measured(batch_size=4, latency_avg_us=1.0),
        ]
    )
    assert settled_latency_us(frame).fillna(-1).tolist() == [7, 8, 9, -1]


def test_the_energy_of_an_inference_is_that_of_the_counted_windows_else_power_over_throughput() -> (
    None
):
    older = {"gpu_energy_j": 2000.0, "perf_analyzer_s": 10.0}
    power = {"gpu_power_avg_w": 150.0, "gpu_count": 2}
    frame = loaded(
        [
            measured(1000.0, batch_size=1, energy_j_per_infer=0.25, **power),
            measured(1000.0, batch_size=2, **power, **older),
            measured(1000.0, batch_size=3, **older),
            measured(1000.0, batch_size=4),
            measured(0.0, batch_size=5, **power),
        ]
    )
    assert energy_j_per_infer(frame).fillna(-1).tolist() == [0.25, 0.3, 0.2, -1, -1]
