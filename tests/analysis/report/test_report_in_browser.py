"""Reports in a real browser: what a reader sees, clicks and saves is what the data say."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, Page

from hpcbench.analysis.report import page as report_page
from hpcbench.analysis.report.page import render_report
from hpcbench.analysis.report.sections import NO_VALUE
from hpcbench.analysis.summary import statistics
from hpcbench.records.frame import load_results
from hpcbench.records.store import write_records
from tests.analysis.report.test_report import FEW, HOSTILE
from tests.helpers import browser as looks
from tests.helpers.builders import record
from tests.helpers.builders_results import results

pytestmark = pytest.mark.browser

MADE_AT = datetime(2026, 11, 23, tzinfo=UTC)
METRICS = ("throughput_infer_per_s", "latency_p99_us")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with looks.chromium() as found:
        yield found


def _write(frame: pd.DataFrame, path: Path) -> Path:
    path.write_text(render_report(frame, source="here", made_at=MADE_AT), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return results(tmp_path_factory.mktemp("results"), concurrencies=(1, 8), batching=(None,))


@pytest.fixture(scope="module")
def points(frame: pd.DataFrame) -> pd.DataFrame:
    """The configurations, in the order of the page."""
    table = statistics.join_repeats(frame, METRICS)
    return table.assign(status=frame["status"].to_numpy()[table["row"]])


@pytest.fixture(scope="module")
def path(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, "MOST_FIGURES", FEW)
        return _write(frame, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    with looks.opened(browser, path) as found:
        yield found


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_page, "MOST_FIGURES", 0)


def _message(page: Page, part: str) -> str:
    return page.locator(f"#{part} .message").inner_text()


def _cells(page: Page, label: str) -> list[str]:
    """The texts of a column in the rows that are in the document."""
    return page.locator(f'#points td[data-label="{label}"]').evaluate_all(
        "cells => cells.map((cell) => cell.firstChild.textContent)"
    )


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _head(page: Page, label: str) -> Locator:
    return page.locator("#points th button").filter(has_text=label)


def test_what_looks_at_pages_sees_what_is_wrong(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    line = "white-space: nowrap; margin: 0"
    page.set_content(
        f"<p style='{line}; width: 500px'>wide</p>"
        f"<p style='{line}; width: 40px; overflow: hidden'>longer than its box</p>"
        f"<p style='{line}; color: #bbb'>pale</p>"
        f"<p style='{line}'>below</p><p style='{line}; position: relative; top: -12px'>above</p>"
        f"<div style='overflow: auto'><p style='{line}; width: 900px'>scrolls</p></div>"
    )
    wide, whole = looks.too_wide(page)
    (cut,) = looks.cut_off(page)

    assert "wide" in wide
    assert "too wide" in whole
    assert "longer than its box" in cut
    assert looks.overlapping(page) == [["below", "above"]]
    assert looks.pale(page) == ["1.9: pale"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(looks.WIDTHS))
def test_nothing_is_cut_off_or_covered_and_all_can_be_read(
    browser: Browser, path: Path, size: str, scheme: str, tmp_path: Path
) -> None:
    with looks.opened(browser, path, size=size, scheme=scheme) as page:
        assert looks.too_wide(page) == []
        assert looks.cut_off(page) == []
        assert looks.overlapping(page) == []
        assert looks.pale(page) == []
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        for opening in page.locator("#problems summary, #provenance summary").all():
            opening.click()
        page.locator("#points td button").first.click()
        assert page.locator("#about").is_visible()
        assert looks.too_wide(page) == []


def test_the_cards_of_a_phone_keep_the_units(
    browser: Browser, path: Path, points: pd.DataFrame
) -> None:
    with looks.opened(browser, path, size="phone") as page:
        measured = points["throughput_infer_per_s"].notna().to_numpy().argmax()
        card = page.locator(f'#points tr[aria-rowindex="{measured + 2}"]')
        for label, unit in (("throughput", "infer/s"), ("p99 latency", "ms")):
            cell = card.locator(f'td[data-label="{label}"]')
            assert cell.locator(".unit").is_visible()
            assert cell.inner_text().split()[-1] == unit


def test_the_table_has_every_point_in_order(page: Page, points: pd.DataFrame) -> None:
    assert _message(page, "points") == f"all points: {len(points)}"
    sizes = [int(text) for text in _cells(page, "batch size")]
    assert sizes == points["batch_size"].tolist()[: len(sizes)]
    shown = [_number(text) for text in _cells(page, "throughput") if text != NO_VALUE]
    expected = points["throughput_infer_per_s"].iloc[: len(sizes)].dropna()
    np.testing.assert_allclose(shown, expected, rtol=1e-3)


def test_scrolling_down_shows_the_last_point(page: Page, points: pd.DataFrame) -> None:
    before = len(_cells(page, "model"))
    page.locator(".scroller").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    last = page.locator(f'#points tr[aria-rowindex="{len(points) + 1}"]')
    last.wait_for()

    assert last.locator("td").first.inner_text() == points["model_label"].iloc[-1]
    assert before < len(points)


def test_choosing_words_and_conditions_leaves_the_points_that_meet_them(
    page: Page, points: pd.DataFrame
) -> None:
    form = page.locator("#points form")
    form.locator("[name=words]").fill("t4 deeptau")
    mine = points[(points["gpu_name"] == "Tesla T4") & (points["model_label"] == "DeepTau 2018")]
    assert _message(page, "points") == f"{len(mine)} of {len(points)} points"

    form.locator("[name=which]").select_option(label="p99 latency [ms]")
    form.locator("[name=value]").fill("20,5")
    mine = mine[mine["latency_p99_us"] <= 20_500]
    assert len(mine) > 0
    assert _message(page, "points") == f"{len(mine)} of {len(points)} points"
    assert [int(text) for text in _cells(page, "batch size")] == mine["batch_size"].tolist()

    form.locator("[type=reset]").click()
    form.locator("select[name=status]").select_option(label="failed")
    failed = points[points["status"] == "failed"]
    assert _message(page, "points") == f"{len(failed)} of {len(points)} points"


def test_a_click_on_a_head_sorts_and_another_turns_it_round(
    page: Page, points: pd.DataFrame
) -> None:
    measured = points["throughput_infer_per_s"].dropna().sort_values()
    for expected in (measured[::-1], measured):
        _head(page, "throughput").click()
        shown = [_number(text) for text in _cells(page, "throughput")]
        np.testing.assert_allclose(shown, expected.iloc[: len(shown)], rtol=1e-3)
    assert page.locator("#points th[aria-sort]").get_attribute("aria-sort") == "ascending"

    page.locator(".scroller").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    page.locator(f'#points tr[aria-rowindex="{len(points) + 1}"]').wait_for()
    assert _cells(page, "throughput")[-1] == NO_VALUE


def test_the_keyboard_sorts_opens_and_closes(page: Page, points: pd.DataFrame) -> None:
    _head(page, "throughput").focus()
    page.keyboard.press("Enter")
    assert page.locator("#points th[aria-sort]").count() == 1
    page.locator("#points td button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#about").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#about").is_visible()


def test_a_point_shows_all_about_itself(
    page: Page, points: pd.DataFrame, frame: pd.DataFrame
) -> None:
    _head(page, "throughput").click()
    page.locator("#points td button").first.click()
    best = points.loc[points["throughput_infer_per_s"].idxmax()]
    row = frame.iloc[best["row"]]
    about = page.locator("#about")

    assert about.locator("pre").first.inner_text() == row["command"]
    assert row["server_config"].strip() in about.inner_text()
    shown = about.locator("tbody td:nth-child(3)").all_inner_texts()
    repeats = frame[(frame["point_id"] == row["point_id"]) & (frame["pool"] == row["pool"])]
    np.testing.assert_allclose(
        [_number(text) for text in shown], repeats["throughput_infer_per_s"], rtol=1e-3
    )


def test_saving_as_csv_gives_the_points_that_are_chosen(
    page: Page, points: pd.DataFrame, tmp_path: Path
) -> None:
    page.locator("#points [name=words]").fill("t4")
    with page.expect_download() as download:
        page.locator("[name=csv]").click()
    download.value.save_as(tmp_path / "points.csv")
    with (tmp_path / "points.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))

    mine = points[points["gpu_name"] == "Tesla T4"]
    assert [int(row["batch_size"]) for row in rows] == mine["batch_size"].tolist()
    values = [float(row["throughput_infer_per_s"] or "nan") for row in rows]
    np.testing.assert_allclose(values, mine["throughput_infer_per_s"], rtol=1e-4)
    # Five digits of something a bound of which may be small beside its value.
    low = [float(row["throughput_infer_per_s_low"] or "nan") for row in rows]
    np.testing.assert_allclose(low, mine["throughput_infer_per_s_low"], rtol=1e-4)


def test_choosing_models_draws_their_lines(page: Page, points: pd.DataFrame) -> None:
    pick = page.locator(".pick[data-column=model_label]")
    pick.locator("summary").click()
    for models in (3, 2, 1):
        mine = points[points["model_label"].isin(points["model_label"].unique()[:models])]
        boxes = pick.locator("input")
        for i in range(3):
            boxes.nth(i).set_checked(i < models)
        for name in ("concurrency", "instance_count"):
            page.locator(f".pick[data-column={name}] summary").click()
            page.locator(f".pick[data-column={name}] button").filter(has_text="all").click()
        pick.locator("summary").click()
        measured = mine["throughput_infer_per_s"].notna().sum()
        assert _message(page, "explore").startswith(f"{measured} points on ")
        absent = len(mine) - measured
        assert f"{absent} points without throughput" in _message(page, "explore")
        assert page.locator(".legend button").count() == models * 3


def test_hovering_shows_the_configuration_of_a_point(page: Page, points: pd.DataFrame) -> None:
    chart = page.locator(".chart")
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    ring = page.locator(".chart .ring").bounding_box()
    by_keyboard = page.locator(".tip").inner_text()
    page.mouse.move(5, 5)
    chart.blur()
    assert page.locator(".tip").is_hidden()
    assert ring is not None
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    tip = page.locator(".tip")

    assert tip.inner_text() == by_keyboard
    terms = tip.locator("dt").all_inner_texts()
    shown = dict(zip(terms, tip.locator("dd").all_inner_texts(), strict=True))
    row = points[
        (points["model_label"] == shown["model"])
        & points["gpu_name"].str.endswith(shown["device"])
        & (points["batch_size"] == int(shown["batch size"]))
        & (points["concurrency"] == int(shown["concurrency"]))
        & (points["instance_count"] == int(shown["instances"]))
    ].iloc[0]
    value, low, high = (
        _number(text)
        for text in shown["throughput"].replace("infer/s (", "").replace("to ", "")[:-1].split()
    )
    for shown, name in ((value, ""), (low, "_low"), (high, "_high")):
        assert shown == pytest.approx(row[f"throughput_infer_per_s{name}"], rel=1e-3)


def test_points_stand_where_their_figures_are(page: Page, points: pd.DataFrame) -> None:
    """The heights of two points on a logarithmic axis differ as their logarithms do."""
    page.locator(".chart").focus()
    found = []
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        shown = page.locator(".tip dd").first.inner_text()
        height = float(page.locator(".ring").get_attribute("cy") or "nan")
        found.append((np.log(_number(shown.split()[0])), height))
    values, heights = np.array(found).T
    slope, offset = np.polyfit(values, heights, 1)

    assert slope < 0
    np.testing.assert_allclose(slope * values + offset, heights, atol=0.3)


def test_axes_can_be_chosen(page: Page, points: pd.DataFrame) -> None:
    page.locator("#explore [name=y]").select_option(label="p99 latency [ms]")
    page.locator("#explore [name=x]").select_option(label="throughput [infer/s]")
    names = page.locator(".chart text.name").all_text_contents()

    assert names == ["throughput [infer/s]", "p99 latency [ms]"]
    page.locator(".chart").focus()
    page.keyboard.press("ArrowRight")
    terms = page.locator(".tip dt").all_inner_texts()
    assert terms[:2] == ["p99 latency", "throughput"]


def test_colours_never_change_along_a_line(page: Page) -> None:
    """Of what runs along the lines there is no colour to be named."""
    page.locator("#explore [name=colour]").select_option(label="batch size")
    assert page.locator(".legend button").all_inner_texts() == [
        "A100-SXM4-40GB",
        "H100 80GB HBM3",
        "Tesla T4",
    ]


def test_a_legend_entry_hides_its_line(page: Page) -> None:
    before = int(_message(page, "explore").split()[0])
    entry = page.locator(".legend button").first
    entry.click()
    entry = page.locator(".legend button").first
    assert entry.get_attribute("aria-pressed") == "false"
    assert int(_message(page, "explore").split()[0]) < before
    entry.click()
    assert int(_message(page, "explore").split()[0]) == before


def test_a_click_on_a_point_of_the_figure_opens_it(page: Page) -> None:
    page.locator(".chart").focus()
    page.keyboard.press("ArrowRight")
    ring = page.locator(".chart .ring").bounding_box()
    assert ring is not None
    page.mouse.click(ring["x"] + 8, ring["y"] + 8)

    assert page.locator("#about").is_visible()


def test_the_figures_are_shown_and_a_click_makes_one_larger(page: Page) -> None:
    images = page.locator("#figures img")
    loaded = images.evaluate_all(
        "all => Promise.all(all.map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(loaded) == FEW
    assert min(loaded) > 500
    images.first.click()
    assert page.locator("#larger img").is_visible()


def test_the_best_of_each_model_opens_its_point(page: Page, points: pd.DataFrame) -> None:
    button = page.locator(".best button").nth(1)
    row = int(button.get_attribute("data-row") or "-1")
    button.click()

    about = page.locator("#about dl").first.inner_text()
    assert str(points["model_label"].iloc[row]) in about
    assert f"batch size\n{points['batch_size'].iloc[row]}" in about


def test_it_prints_on_paper(page: Page, tmp_path: Path) -> None:
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    rows = page.locator("#points tbody tr:not(.spacer)")
    assert rows.count() == 100
    assert "the first 100 of them printed" in _message(page, "points")
    assert page.locator("#points form").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert looks.pale(page) == []
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert rows.count() < 100


def test_ten_thousand_points_put_few_rows_into_the_document(
    browser: Browser, tmp_path: Path, without_figures: None
) -> None:
    many = results(
        tmp_path,
        models=12,
        concurrencies=(1, 2, 4, 8, 16, 32, 64),
        batching=(None, (8, 16), (32,)),
        repeats=1,
    )
    path = _write(many, tmp_path / "report.html")

    assert path.stat().st_size < 2_000_000
    with looks.opened(browser, path) as page:
        assert _message(page, "points") == f"all points: {len(many):,}"
        assert len(many) > 10_000
        page.locator(".scroller").evaluate("box => box.scrollTo(0, box.scrollHeight / 2)")
        page.wait_for_timeout(50)
        assert 10 < page.locator("#points tbody tr").count() < 80
        _head(page, "throughput").click()
        best = many["throughput_infer_per_s"].max()
        assert _number(_cells(page, "throughput")[0]) == pytest.approx(best, rel=1e-3)
        # A hundred lines and more are not a figure: it begins with a few.
        assert page.locator(".legend button").count() <= 12


@pytest.mark.parametrize("size", list(looks.WIDTHS))
def test_text_from_results_never_runs(
    browser: Browser, tmp_path: Path, without_figures: None, size: str
) -> None:
    texts = ("campaign", "model_label", "model", "site", "node", "command", "gpu_name", "log_tail")
    rows = [
        record(i, status=status, reason=HOSTILE, **dict.fromkeys(texts, HOSTILE))
        for i, status in enumerate(["ok", "unstable", "failed"])
    ]
    write_records(tmp_path / "r.parquet", rows)
    path = _write(load_results(tmp_path / "r.parquet"), tmp_path / "report.html")

    with looks.opened(browser, path, size=size) as page:
        page.locator(".chart").focus()
        page.keyboard.press("ArrowRight")
        page.locator("#points td button").first.click()
        assert page.locator("#about dd").first.inner_text() == HOSTILE
        assert page.locator("img, iframe, script[src]").count() == 0
        assert looks.too_wide(page) == []


@pytest.mark.parametrize("status", ["ok", "unstable", "failed", "not_applicable"])
def test_one_point_makes_a_whole_page(
    browser: Browser, tmp_path: Path, without_figures: None, status: str
) -> None:
    throughput = 12.5 if status in ("ok", "unstable") else None
    rows = [record(status=status, reason="so it was", throughput_infer_per_s=throughput)]
    write_records(tmp_path / "r.parquet", rows)
    path = _write(load_results(tmp_path / "r.parquet"), tmp_path / "report.html")

    for size in looks.WIDTHS:
        with looks.opened(browser, path, size=size) as page:
            assert _message(page, "points") == "all points: 1"
            assert _cells(page, "status") == [status]
            expected = "1 point on 1 line." if throughput else "There is nothing to draw"
            assert _message(page, "explore").startswith(expected)
            assert looks.too_wide(page) == looks.overlapping(page) == []
