"""The report: what is in the file, read as a program would; a browser looks at it elsewhere."""

import base64
import gzip
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hpcbench.analysis.report import page as report_page
from hpcbench.analysis.report import sections
from hpcbench.analysis.report.page import render_report, write_report
from hpcbench.analysis.report.page_data import point_columns, report_points
from hpcbench.analysis.report.problems import MOST_TAIL_CHARACTERS, find_problems
from hpcbench.analysis.summary import statistics
from hpcbench.cli.main import main
from hpcbench.records.frame import load_results
from hpcbench.records.store import write_records
from tests.helpers.builders import record, refusal
from tests.helpers.builders_results import results, write_results

MADE_AT = datetime(2026, 11, 23, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}\u2028"


class _Page(HTMLParser):
    """What a browser would find: elements, the text of scripts, and the text of a reader."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    @property
    def data(self) -> dict[str, Any]:
        """What the page's scripts unpack."""
        _, packed, _ = self.scripts
        found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
        return found

    def column(self, name: str) -> list[Any]:
        """The values of a column, texts in words."""
        column = next(c for c in self.data["columns"] if c["name"] == name)
        levels = column.get("levels")
        if levels is None:
            return list(column["values"])
        return [None if code < 0 else levels[code] for code in column["values"]]


def _made(frame: pd.DataFrame) -> _Page:
    return _Page(render_report(frame, source="results/here", made_at=MADE_AT))


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return results(
        tmp_path_factory.mktemp("results"), models=2, gpus=2, concurrencies=(4,), batching=(None,)
    )


FEW = 5
"""Figures of a page: to draw them takes longer than all else."""


@pytest.fixture(scope="module")
def page(frame: pd.DataFrame) -> _Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, "MOST_FIGURES", FEW)
        return _made(frame)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(report_page, "MOST_FIGURES", 0)
    return


def test_the_page_says_where_the_spread_comes_from(
    page: _Page, frame: pd.DataFrame, without_figures: None
) -> None:
    assert "Where the spread comes from" in page.text
    # Made with 1.2 % between repeats, each of which is on a node of its own.
    assert re.search(r"throughput - 1\.\d% - of 14 - of 2 p50 latency", page.text)
    once = frame[frame["repeat"] == 0]
    assert "Where the spread comes from" not in _made(once).text


def test_the_data_hold_every_configuration_with_the_means_of_its_repeats(
    page: _Page, frame: pd.DataFrame
) -> None:
    table = statistics.join_repeats(frame, ["throughput_infer_per_s", "latency_p99_us"])

    assert page.data["count"] == len(table)
    assert page.column("batch_size") == table["batch_size"].tolist()
    assert page.column("model_label") == table["model_label"].tolist()
    for name, factor in (("throughput_infer_per_s", 1), ("latency_p99_us", 1000)):
        shown = pd.Series(page.column(name), dtype=float)
        np.testing.assert_allclose(shown * factor, table[name], rtol=1e-4)


def test_the_data_hold_every_measurement_of_each_point(page: _Page, frame: pd.DataFrame) -> None:
    repeats = page.data["repeats"]
    throughput = next(c for c in repeats["columns"] if c["name"] == "throughput_infer_per_s")
    first = repeats["first"]

    assert first[-1] == len(throughput["values"]) == len(frame)
    means = [
        np.mean([v for v in throughput["values"][begin:end] if v is not None] or [np.nan])
        for begin, end in itertools.pairwise(first)
    ]
    shown = pd.Series(page.column("throughput_infer_per_s"), dtype=float)
    np.testing.assert_allclose(means, shown, rtol=1e-4)


def test_only_what_sets_points_apart_is_a_setting(page: _Page) -> None:
    settings = [c["name"] for c in page.data["columns"] if c.get("setting")]

    assert settings == ["model_label", "device", "batch_size", "concurrency", "instance_count"]
    assert "asynchronous gRPC, random input" in page.text


def test_the_summary_has_the_recommended_configuration_of_each_model_and_device(
    page: _Page, frame: pd.DataFrame
) -> None:
    points = report_points(frame)
    best = sections.best_configurations(points)

    pairs = frame[["model_label", "gpu_name"]].drop_duplicates()
    assert len(best) == len(pairs) == 4
    for row in best:
        same = points.table[
            (points.table["model_label"] == row["model"])
            & (points.table["device"] == row["device"])
        ]
        assert row["row"] == same["throughput_infer_per_s"].idxmax()
        assert row["throughput"] in page.text
        assert re.fullmatch(r"\d+/\d+/\d+", row["counts"])
        assert row["counts"] in page.text


def test_counts_of_statuses_are_those_of_the_measurements(page: _Page, frame: pd.DataFrame) -> None:
    for status, count in frame["status"].value_counts().items():
        assert f"{status} {count:,}" in page.text


def test_alike_failures_are_shown_once_with_unlike_logs(tmp_path: Path) -> None:
    logs = ["E1123 port 8001 is taken", "E1124 port 9001 is taken", "something else"]
    write_records(
        tmp_path / "r.parquet",
        [
            record(
                i,
                status="failed",
                throughput_infer_per_s=None,
                reason=f"the server died after {i}.5 s",
                log_tail=logs[i],
            )
            for i in range(3)
        ],
    )
    points = report_points(load_results(tmp_path / "r.parquet"))

    (problem,) = find_problems(points)

    assert (problem.count, problem.reason) == (3, "the server died after 0.5 s")
    assert problem.log_tails == [logs[0], logs[2]]
    assert problem.places == ["Tagger on unknown device, batch size 1, 2, 3"]


def test_where_something_went_wrong_is_said_with_all_axes_that_vary(tmp_path: Path) -> None:
    """And with none that does not, also where only what went well had another value."""
    settings = [
        {"variant": json.dumps({"instance_count": count, "warmup": True}), "concurrency": load}
        for count in (1, 2)
        for load in (1, 8)
    ]
    each_measured = enumerate((each, batch) for each in settings for batch in (1, 16, 64))
    records = [
        record(i, **each, batch_size=batch, status="failed" if batch > 1 else "ok", reason="died")
        for i, (each, batch) in each_measured
    ]
    write_records(tmp_path / "r.parquet", records)
    (problem,) = find_problems(report_points(load_results(tmp_path / "r.parquet")))
    assert problem.places == [
        f"Tagger on unknown device, {server}, concurrency {load}, batch size 16, 64"
        for server in ("1 instance", "2 instances")
        for load in (1, 8)
    ]


def test_of_many_places_where_something_went_wrong_twelve_are_named(tmp_path: Path) -> None:
    records = [record(i, concurrency=i + 1, status="failed", reason="died") for i in range(15)]
    write_records(tmp_path / "r.parquet", records)
    (problem,) = find_problems(report_points(load_results(tmp_path / "r.parquet")))
    assert len(problem.places) == 12
    assert problem.more_places == 3


def test_of_a_long_log_the_end_is_shown(tmp_path: Path) -> None:
    log = "x" * 100_000 + "the end"
    write_records(tmp_path / "r.parquet", [record(status="failed", reason="died", log_tail=log)])
    (problem,) = find_problems(report_points(load_results(tmp_path / "r.parquet")))

    assert len(problem.log_tails[0]) == MOST_TAIL_CHARACTERS
    assert problem.log_tails[0].endswith("the end")


def test_text_from_results_is_only_ever_text(tmp_path: Path, without_figures: None) -> None:
    rows = [
        record(
            i,
            campaign=HOSTILE,
            site=HOSTILE,
            model=HOSTILE,
            model_label=HOSTILE,
            status=status,
            reason=HOSTILE,
            log_tail=HOSTILE,
            command=HOSTILE,
            node=HOSTILE,
            gpu_name=HOSTILE,
            server_config=HOSTILE,
        )
        for i, status in enumerate(["ok", "failed", "unstable"])
    ]
    write_records(tmp_path / "r.parquet", rows)
    page = _made(load_results(tmp_path / "r.parquet"))

    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert page.text.count("{{ 7*7 }}") >= 10
    assert page.column("model_label") == [HOSTILE] * 3


def test_only_the_pages_own_script_and_style_may_run(page: _Page) -> None:
    policy = next(
        attrs["content"]
        for tag, attrs in page.elements
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    style, _, script = page.scripts
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]

    assert policy == (
        f"default-src 'none'; img-src blob:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def test_the_page_asks_for_nothing_outside_itself(page: _Page) -> None:
    sources = {
        value
        for _, attrs in page.elements
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    }
    style, _, script = page.scripts

    assert all(source and source.startswith("#") for source in sources)
    assert "url(" not in style
    assert "@import" not in style
    assert set(re.findall(r"https?://[^\s\"'`]+", script)) == {"http://www.w3.org/2000/svg"}
    for picture in page.data["figures"]:
        links = re.findall(r'(?:href|src)="([^"]+)"', picture)
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_the_figures_are_a_few_of_each_kind(page: _Page) -> None:
    names = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]

    assert len(set(names)) == len(names) == len(page.data["figures"]) == FEW


def test_the_same_results_make_the_same_page(tmp_path: Path) -> None:
    write_records(tmp_path / "r.parquet", [record(i) for i in range(3)])
    frame = load_results(tmp_path / "r.parquet")

    pages = [render_report(frame, source="", made_at=MADE_AT) for _ in range(2)]

    assert pages[0] == pages[1]


def test_one_point_makes_a_report(tmp_path: Path) -> None:
    write_records(tmp_path / "r.parquet", [record()])
    page = _made(load_results(tmp_path / "r.parquet"))

    assert page.data["count"] == 1
    assert page.column("throughput_infer_per_s") == [1000]
    assert page.data["columns"][0]["levels"] == ["Tagger"]
    assert "1 point " in page.text


def test_names_of_any_kind_make_a_report(tmp_path: Path) -> None:
    names = ["{oops", "1²2", "$\\frac{$", "a--b", "-" * 300]
    rows = [record(i, model_label=name, campaign=name, node=name) for i, name in enumerate(names)]
    write_records(tmp_path / "r.parquet", rows)
    page = _made(load_results(tmp_path / "r.parquet"))

    assert sorted(page.column("model_label")) == sorted(names)
    for picture in page.data["figures"]:
        ET.fromstring(picture)


def test_a_report_of_failures_alone_says_why(tmp_path: Path) -> None:
    rows = [
        record(i, status=status, reason=f"it {status}", throughput_infer_per_s=None, log_tail="oh")
        for i, status in enumerate(["failed", "timeout", "not_applicable"])
    ]
    write_records(tmp_path / "r.parquet", rows)
    page = _made(load_results(tmp_path / "r.parquet"))

    assert page.column("status") == ["failed", "timeout", "not_applicable"]
    assert not any(c["group"] == "Metrics" for c in page.data["columns"])
    assert all(f"it {status}" in page.text for status in ("failed", "timeout", "not_applicable"))
    assert "none of its 3 configurations was measured" in page.text


def test_what_is_no_number_is_missing(tmp_path: Path) -> None:
    rows = [
        record(0, throughput_infer_per_s=float("nan"), latency_p99_us=float("inf"), percentile=99),
        record(1, throughput_infer_per_s=5.0, latency_p99_us=None, percentile=99),
        record(2, throughput_infer_per_s=0.0, latency_p99_us=12.5),
    ]
    write_records(tmp_path / "r.parquet", rows)
    page = _made(load_results(tmp_path / "r.parquet"))

    assert page.column("throughput_infer_per_s") == [None, 5, 0]
    assert page.column("latency_p99_us") == [None, None, 0.0125]


def test_imported_results_that_know_little_make_a_report(tmp_path: Path) -> None:
    rows = [
        record(
            i,
            variant=None,
            model_position=None,
            batch_size=None if i else 1,
            concurrency=None,
            ended_at=None,
        )
        for i in range(2)
    ]
    write_records(tmp_path / "r.parquet", rows)
    page = _made(load_results(tmp_path / "r.parquet"))

    assert page.column("batch_size") == [1, None]
    assert page.column("throughput_infer_per_s") == [1000, 1001]


def test_beyond_what_a_page_holds_the_best_of_each_model_and_device_stay(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, without_figures: None
) -> None:
    whole = _made(frame)
    monkeypatch.setattr(report_page, "MOST_POINTS", 10)
    page = _made(frame)

    total = whole.data["count"]
    assert f"This page holds 10 of {total} points" in page.text
    assert f"{total} points" in page.text
    assert page.data["count"] == 10

    def by_pair(of: _Page) -> pd.DataFrame:
        names = ("model_label", "device", "throughput_infer_per_s", "batch_size")
        return pd.DataFrame({name: of.column(name) for name in names})

    best = by_pair(whole).groupby(["model_label", "device"])["throughput_infer_per_s"].max()
    kept = by_pair(page).groupby(["model_label", "device"])["throughput_infer_per_s"].max()
    pd.testing.assert_series_equal(kept, best)
    first = page.data["repeats"]["first"]
    assert len(first) == 11
    assert first[-1] == 30
    rows = {attrs["data-row"] for tag, attrs in page.elements if attrs.get("data-row")}
    assert rows <= {str(row) for row in range(10)}


def test_values_of_an_axis_are_numbers_where_they_can_be(tmp_path: Path) -> None:
    path = write_results(
        tmp_path / "r.parquet",
        models=1,
        gpus=1,
        batch_sizes=(1,),
        instances=("base", 1, 4),
        batching=(None, (4, 8)),
        troubles=False,
    )
    columns = point_columns(report_points(load_results(path)))
    found = {column["name"]: column for column in columns}

    assert set(found["instance_count"]["values"]) == {1, 2, 4}
    assert found["preferred_batch_size"]["levels"] == ["4/8", "none"]


def test_no_results_are_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    message = refusal(write_report, frame.iloc[:0], tmp_path / "report.html", "results/here")

    assert "results/here: there are no results yet" in message
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_cannot_be_written_is_refused(
    frame: pd.DataFrame, tmp_path: Path, without_figures: None
) -> None:
    out = tmp_path / "nowhere" / "report.html"

    assert f"--out {out}: cannot be written" in refusal(write_report, frame, out)


def test_the_command_writes_the_file_and_names_it(tmp_path: Path) -> None:
    write_records(tmp_path / "r.parquet", [record(i) for i in range(3)])
    out = tmp_path / "report.html"

    done = CliRunner().invoke(main, ["report", str(tmp_path / "r.parquet"), "--out", str(out)])

    assert (done.exit_code, done.output) == (0, f"{out}\n")
    assert str(tmp_path / "r.parquet") in _Page(out.read_text(encoding="utf-8")).text
