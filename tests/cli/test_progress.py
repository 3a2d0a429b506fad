"""What a person sees of a run."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

import hpcbench
from hpcbench.cli.point_text import POINT, duration, point_phrases
from hpcbench.cli.progress import progress
from hpcbench.cli.results_table import results_table
from hpcbench.cluster.events import (
    Event,
    JobsSeen,
    PlacementEnded,
    PlacementRetried,
    PlacementStarted,
    Planned,
    StartsWorkers,
    Stopping,
    point_measured,
)
from hpcbench.cluster.run_state import PoolJobs
from hpcbench.config.campaign import Campaign
from hpcbench.config.site import Site
from hpcbench.plan.grid import Grid
from hpcbench.plan.order import make_placements
from hpcbench.plan.placement import Placement
from hpcbench.plan.plan import Plan
from hpcbench.records.columns import Record, Status
from hpcbench.records.folder import Results
from hpcbench.records.frame import load_results
from hpcbench.records.store import write_point
from tests.cli.screens import printed
from tests.helpers.builders import NOON, campaign, expanded, record, triton_model, variant

STARTED = PlacementStarted("p", "cpu", "0", "node", 0.0)


def seen(*events: Event, terminal: bool = False) -> str:
    """What is printed while these events are heard."""
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal)
    with progress(console) as listener:
        for event in events:
            listener(event)
    return out.getvalue()


def planned(study: Campaign, *, done: int = 0) -> Plan:
    models = {each.name: triton_model(each.name, versions=(1, 2)) for each in study.models}
    grid: Grid = expanded(study, models)
    site = Site(name="here", container={"prefix": "/p"}, pools={"cpu": {}})
    placements = make_placements(
        grid.points,
        campaign=study.name,
        pool="cpu",
        repeats=study.repeats,
        fresh_servers=True,
    )
    keys = [key for placement in placements for key in placement.keys]
    return Plan(study, site, grid, {"cpu": tuple(placements)}).without_done(set(keys[:done]))


def placement_of(study: Campaign) -> Placement:
    return planned(study).placements["cpu"][0]


def test_a_run_begins_with_what_it_will_do() -> None:
    study = campaign(load={"batch_size": [1, 2]}, repeats=3)
    text = seen(Planned(planned(study)))
    assert "study on here: 6 measurements, about" in text
    assert "already done" not in text


def test_a_resumed_run_says_what_it_keeps() -> None:
    text = seen(Planned(planned(campaign(repeats=3), done=2)))
    assert "3 measurements, 2 of them already done, about" in text


def test_a_run_with_nothing_left_promises_no_time() -> None:
    text = seen(Planned(planned(campaign(), done=1)))
    assert "1 measurement, 1 of them already done\n" in text


@pytest.mark.parametrize("status", list(Status))
def test_every_measurement_is_a_line_with_its_status_load_and_model(status: Status) -> None:
    text = seen(point_measured(record(7, status=status)))
    assert len(text.splitlines()) == 1
    for part in (str(status), "batch 8", "concurrency 4", "1,007.0 infer/s", "Tagger"):
        assert part in text


def test_a_measurement_without_a_figure_shows_none() -> None:
    text = seen(point_measured(record(1, status="failed", throughput_infer_per_s=None)))
    assert "infer/s" not in text


def test_why_a_point_failed_is_shown_and_how_one_did_not_settle_is_not() -> None:
    assert "no such [model] there" in seen(
        point_measured(record(1, status=Status.FAILED, reason="no such [model] there"))
    )
    assert "windows" not in seen(
        point_measured(record(1, status=Status.UNSTABLE, reason="did not settle within 10 windows"))
    )


LABELS = ["PN [fp16]", "PN [/x]", "PN [bold]AK4[/bold]", "[red]"]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_shown_as_it_is_written(label: str) -> None:
    """Brackets are nobody's markup, least of all something that ends the run."""
    assert label in seen(point_measured(record(1, model_label=label)))


def test_a_lost_worker_is_reported_with_the_points_that_are_tried_again() -> None:
    study = campaign(load={"batch_size": [1, 2, 4]})
    text = seen(PlacementRetried(placement_of(study), "KilledWorker: [/tmp/x]"))
    assert "worker lost (KilledWorker: [/tmp/x]), trying 3 points again" in text


def test_workers_and_jobs_are_shown_in_words_where_there_is_a_queue() -> None:
    jobs = [
        PoolJobs(0),
        PoolJobs(0, 1, "Priority"),
        PoolJobs(1, 2, "Resources"),
        PoolJobs(3),
        PoolJobs(3),
    ]
    text = seen(*(JobsSeen({"gpu": each}) for each in jobs))
    assert [line.partition(" ")[2] for line in text.splitlines()] == [
        "gpu: no workers",
        "gpu: no workers, 1 job waiting (Priority)",
        "gpu: 1 worker, 2 jobs waiting (Resources)",
        "gpu: 3 workers",
    ]
    assert seen(JobsSeen({"cpu": PoolJobs(2, batch=False)})) == ""


def test_the_bar_counts_what_was_there_and_what_came() -> None:
    study = campaign(load={"batch_size": [1, 2, 4]})
    text = seen(
        Planned(planned(study, done=1)),
        StartsWorkers(),
        STARTED,
        point_measured(record(1)),
        point_measured(record(2, status=Status.UNSTABLE)),
        terminal=True,
    )
    assert "3/3" in text
    assert "measuring (1 ok, 1 unstable)" in text


def test_a_run_that_stops_promises_no_time() -> None:
    study = campaign(load={"batch_size": [1, 2, 4]})
    text = seen(Planned(planned(study)), STARTED, Stopping("wait"), terminal=True)
    before, after = text.rsplit("stopping ", maxsplit=1)
    assert " left" in before
    assert " left" not in after


def test_events_that_say_nothing_and_early_ones_are_no_trouble() -> None:
    part = point_measured(record(1, part_of="a"))
    assert seen(StartsWorkers(), STARTED, PlacementEnded("p", "cpu", "0", 1.0), part) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.6, "60 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5000, "83 min"),
        (5400, "1.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_times_are_shown_as_a_person_reads_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


HEADER = "batch infer/s mean ms p95 ms p99 ms status"


def table(results: Results, *records: Record) -> str:
    results.create()
    for entry in records:
        write_point(results, entry)
    return printed(results_table(load_results(results.folder)).lines(160))


@pytest.fixture
def results(tmp_path: Any) -> Results:
    return Results(tmp_path / "results")


def test_the_table_names_sessions_where_there_are_several(results: Results) -> None:
    late = NOON + timedelta(days=1)
    text = table(
        results,
        record(0, placement_id="p", run_id="b", started_at=NOON),
        record(0, placement_id="q", run_id="a", started_at=late, throughput_infer_per_s=7.0),
    )
    first, second = (line.split() for line in text.splitlines()[-2:])
    assert "session" in text
    assert (first[0], second[:2]) == ("1", ["2", "7.0"])


def test_the_table_has_a_line_for_each_measurement_and_says_once_what_is_the_same(
    results: Results,
) -> None:
    text = table(
        results,
        record(0, latency_avg_us=18741.0, latency_p95_us=33278.0),
        record(1, status=Status.FAILED, throughput_infer_per_s=None),
    )
    same, header, first, second = text.splitlines()
    assert same == "all rows: Tagger, pool cpu, base, concurrency 4"
    assert " ".join(header.split()) == HEADER
    assert first.split() == ["1", "1,000.0", "18.74", "33.28", "-", "ok"]
    assert second.split() == ["2", "-", "-", "-", "-", "failed"]


def test_the_table_has_a_column_for_whatever_differs(results: Results) -> None:
    text = table(
        results,
        record(0),
        record(0, repeat=1),
        record(1, pool="gpu", concurrency=8, variant=json.dumps(variant(instance_count=2).axes)),
    )
    header = text.splitlines()[1].split()
    for name in ("pool", "instances", "concurrency", "repeat"):
        assert name in header


@pytest.mark.parametrize("label", LABELS)
def test_the_table_shows_a_label_as_it_is_written(results: Results, label: str) -> None:
    assert label in table(results, record(0, model_label=label))


def test_a_table_of_nothing_is_empty(results: Results) -> None:
    assert table(results).split() == ["infer/s", "mean", "ms", "p95", "ms", "p99", "ms", "status"]


def test_a_load_of_recorded_arrivals_is_named_by_its_file(results: Results) -> None:
    replayed = {
        "concurrency": None,
        "request_rate": 20.0,
        "request_distribution": "intervals",
        "request_intervals": "/data/monday.txt",
    }
    words = point_phrases(vars(point_measured(record(0, **replayed))), POINT)
    assert words[-2:] == ["rate 20/s", "arrivals monday.txt"]
    assert "monday.txt" in table(results, record(0), record(1, **replayed))


def test_the_table_separates_open_loops_from_closed_ones(results: Results) -> None:
    text = table(results, record(0), record(1, concurrency=None, request_rate=20.0))
    header = text.splitlines()[1].split()
    assert {"concurrency", "requests/s"} <= set(header)


def test_a_script_shows_what_the_command_shows_on_stderr(capsys: Any) -> None:
    with hpcbench.progress() as listener:
        listener(Planned(planned(campaign(repeats=3))))
        listener(point_measured(record(1)))
    out, err = capsys.readouterr()
    assert out == ""
    assert "study on here: 3 measurements" in err
    assert "ok" in err.splitlines()[-1]


def lines_at(width: int, **changes: Any) -> list[str]:
    """What a terminal of this width shows of the first point of a campaign."""
    plan = planned(campaign(**changes))
    first = plan.placements["cpu"][0]
    out = io.StringIO()
    with progress(Console(file=out, width=width, force_terminal=True, color_system=None)) as said:
        said(Planned(plan))
        point_id, pool, repeat = first.keys[0]
        said(point_measured(record(8, point_id=point_id, pool=pool, repeat=repeat)))
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n")
    return [line for line in text.splitlines() if line and "0/" not in line and "1/" not in line]


def test_a_line_says_point_server_and_pool_where_the_terminal_is_wide_enough() -> None:
    axes = {"server": {"instance_count": [1, 2]}, "load": {"batch_size": [16, 64]}}
    _, line = lines_at(120, **axes)
    assert line[5:] == " ok        1,008.0 infer/s  batch 16, concurrency 1, instances 1, pool cpu"


def test_a_line_names_the_version_where_the_campaign_chooses_several() -> None:
    _, line = lines_at(120, models=[{"name": "tagger", "version": [2, 1]}])
    assert line.endswith(", version 2")


def test_a_narrow_terminal_says_once_what_all_points_share() -> None:
    axes = {
        "server": {"instance_count": [1, 2], "preferred_batch_size": [None, [16, 32]]},
        "load": {"batch_size": [16, 64]},
        "repeats": 2,
    }
    _, same, line = lines_at(80, **axes)
    assert same == "all points: tagger, concurrency 1, pool cpu"
    assert line[5:] == (" ok        1,008.0 infer/s  batch 16, instances 1, batching off, repeat 0")
