"""How a run ends on the screen: what a person who comes back reads first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcbench.cli.run_end import figure_name, print_end
from hpcbench.cluster.driver import summarise
from hpcbench.records.columns import Record
from hpcbench.records.folder import Results
from hpcbench.records.frame import load_results
from hpcbench.records.store import PLAN_SCHEMA, write_plan, write_records
from tests.cli.screens import OUT_OF_MEMORY, terminal, text_of
from tests.helpers.builders import record

FOLDER = Path("results/my scan")


def measured(number: int, **changes: Any) -> Record:
    """A measurement that Little's law allows, so that it is valid."""
    settings = {"throughput_infer_per_s": 1000.0 * (number + 1), "batch_size": number + 1} | changes
    speed = settings["throughput_infer_per_s"]
    latency = 4e6 * settings["batch_size"] / speed if speed else None
    return record(number, **({"latency_avg_us": latency, "latency_p99_us": 9000.0} | settings))


def ended(tmp_path: Path, records: Sequence[Record], *, missing: Sequence[Record] = ()) -> str:
    """What is printed below the table of a run that has left these records."""
    results = Results(tmp_path / "results")
    results.create()
    write_records(results.records / "all.parquet", list(records))
    planned = [*records, *missing]
    rows = [{name: getattr(each, name) for name in PLAN_SCHEMA.names} for each in planned]
    write_plan(results, rows)
    console = terminal(80)
    print_end(summarise(results), FOLDER, terminal(80), console)
    return text_of(console)


def failed(number: int, reason: str = OUT_OF_MEMORY) -> Record:
    return measured(number, status="failed", reason=reason, throughput_infer_per_s=None)


def test_a_run_ends_with_the_counts_the_best_the_figure_and_the_next_command(
    tmp_path: Path,
) -> None:
    text = ended(tmp_path, [measured(0), measured(1)])
    assert text.splitlines() == [
        "results/my scan: 2 measurements: 2 ok",
        "best throughput:",
        "  Tagger on unknown device: 2,000 infer/s, p99 9 ms, measured once",
        "    batch 2, concurrency 4",
        "figure: hpcbench plot 'results/my scan' --out 'results/my scan/figures' \\",
        "            --figure throughput_latency_vs_batch",
        "next:   hpcbench recommend 'results/my scan'",
    ]


def test_each_distinct_error_is_said_once_with_how_many_measurements_it_concerns(
    tmp_path: Path,
) -> None:
    records = [measured(0), failed(1), failed(2), failed(3, "Triton died: killed by SIGSEGV")]
    text = ended(tmp_path, records)
    assert text.startswith("results/my scan: 4 measurements: 1 ok, 3 failed\n")
    assert text.count("CUDA out of memory") == 1
    assert "2 measurements failed: the model did not load" in text
    assert "1 measurement failed: Triton died: killed by SIGSEGV\n" in text
    assert text.endswith(
        "next:   hpcbench status 'results/my scan'\n"
        "the same run command tries again what failed or is missing\n"
    )


def test_what_is_missing_is_counted_and_sends_to_the_status(tmp_path: Path) -> None:
    text = ended(tmp_path, [measured(0)], missing=[measured(1)])
    assert text.startswith("results/my scan: 2 measurements: 1 ok, 1 missing\n")
    assert "next:   hpcbench status" in text


def test_a_run_of_which_everything_failed_has_no_best_and_no_figure(tmp_path: Path) -> None:
    text = ended(tmp_path, [failed(0), failed(1)])
    assert "best" not in text
    assert "figure" not in text


def test_a_run_of_which_nothing_can_be_believed_has_no_best_and_says_so(tmp_path: Path) -> None:
    text = ended(tmp_path, [measured(0, latency_avg_us=1.0), measured(1, latency_avg_us=1.0)])
    assert (
        "best throughput: none, no measurement is valid: hpcbench check says why "
        "2 x LITTLE: throughput times latency is not the load asked for, by Little's law"
    ) in " ".join(text.split())
    assert text.endswith("next:   hpcbench check 'results/my scan'\n")


def test_where_all_was_measured_on_a_busy_machine_it_says_what_can_be_done(tmp_path: Path) -> None:
    """What others did is a user's to judge; numbers that contradict each other are not."""
    own = {"server_cpu_s": 2.0, "client_cpu_s": 1.0, "cpu_sampled_s": 4.0}
    busy = {**own, "server_cpu_wait_s": 2.0, "client_cpu_wait_s": 1.0, "other_cpu_s": 3.0}
    text = ended(tmp_path, [measured(0, **busy), measured(1, **busy)])
    assert "  2 x DISTURBED: other processes took the CPUs" in text
    assert text.endswith(
        "--new-session of run measures all points again, as on a quieter machine;\n"
        "--accept DISTURBED of recommend, plot and report takes these all the same\n"
    )
    assert "--accept" not in ended(tmp_path / "other", [measured(0, latency_avg_us=1.0)])


def test_measurements_that_are_left_out_are_counted(tmp_path: Path) -> None:
    text = ended(tmp_path, [measured(0, latency_avg_us=1.0), measured(1)])
    assert "\n1 measurement is not valid and is left out: hpcbench check says why\n" in text


def test_the_best_has_an_interval_where_it_was_repeated_and_says_what_is_as_good(
    tmp_path: Path,
) -> None:
    records = [
        measured(number, repeat=repeat, throughput_infer_per_s=speed * (1 + 0.1 * repeat))
        for number, speed in ((0, 100.0), (1, 1000.0), (2, 1010.0))
        for repeat in range(3)
    ]
    line = ended(tmp_path, records).split("best throughput:\n")[1].splitlines()
    first = " ".join(line[:2])
    assert " \N{PLUS-MINUS SIGN} " in first
    assert "from 3 repeats" in first
    assert "1 other as good" in " ".join(first.split())


def test_the_best_says_how_many_of_its_measurements_did_not_settle(tmp_path: Path) -> None:
    text = ended(tmp_path, [measured(0, status="unstable", reason="did not settle: by 12 %")])
    assert "measured once, 1 did not settle" in " ".join(text.split())
    assert "1 measurement unstable: did not settle\n" in text


def test_the_best_of_each_model_names_the_server_variant_and_the_pool(tmp_path: Path) -> None:
    records = [
        measured(
            10 * place + 3 * speed + count,
            model_label=label,
            model=label,
            pool=pool,
            batch_size=8,
            variant=json.dumps({"instance_count": count}),
        )
        for place, label in enumerate(["Tagger", "Jets"])
        for speed, pool in enumerate(["t4", "a100"])
        for count in (1, 2)
    ]
    text = ended(tmp_path, records)
    assert text.count("infer/s") == 2
    assert text.count("batch 8, concurrency 4, pool a100, instances 2\n") == 2


def test_the_best_has_both_names_of_a_server_that_has_two(tmp_path: Path) -> None:
    records = [
        measured(number, batch_size=8, instance_count=2, variant=json.dumps({"instance_count": n}))
        for number, n in enumerate(("base", 2))
    ]
    text = ended(tmp_path, records)
    assert "instances 2, the same as default instances\n" in text


@pytest.mark.parametrize(
    ("axes", "name"),
    [
        ({"batch_size": [1, 2], "concurrency": [1, 1]}, "throughput_latency_vs_batch"),
        ({"batch_size": [1, 1, 2], "concurrency": [1, 2, 3]}, "throughput_latency_vs_concurrency"),
        ({"batch_size": [1], "concurrency": [1]}, "pareto_front"),
    ],
)
def test_the_figure_is_that_over_the_axis_with_most_values(
    tmp_path: Path, axes: dict[str, list[int]], name: str
) -> None:
    results = Results(tmp_path / "results")
    results.create()
    values = [dict(zip(axes, each, strict=True)) for each in zip(*axes.values(), strict=True)]
    records = [measured(number, **each) for number, each in enumerate(values)]
    write_records(results.records / "all.parquet", records)
    assert figure_name(load_results(results.folder)) == name
