"""What commands print fits the terminal, and says everything at every width."""

from __future__ import annotations

import re

import pytest

from tests.cli import screens
from tests.cli.screens import FOLDER, STUDIES, WIDTHS, records_of, results_screen

NARROW = 30


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("kind", screens.SCREENS)
def test_a_screen_is_as_it_was_looked_at(kind: str, name: str) -> None:
    """`python -m tests.cli.screens` writes the files again: look at each, then keep it."""
    assert screens.all_screens(kind, name) == (FOLDER / f"{kind}_{name}.txt").read_text()


@pytest.mark.parametrize("width", [NARROW, *WIDTHS])
@pytest.mark.parametrize("kind", screens.SCREENS)
def test_no_line_is_wider_than_the_terminal_but_for_a_word_that_is(kind: str, width: int) -> None:
    text = screens.SCREENS[kind]("four_axes_two_pools", width)
    wide = [line for line in text.splitlines() if len(line) > width and " " in line.strip()]
    assert not wide


@pytest.mark.parametrize("width", [NARROW, *WIDTHS, None])
@pytest.mark.parametrize("name", STUDIES)
def test_every_metric_of_every_measurement_is_in_the_table(name: str, width: int | None) -> None:
    shown = re.split(r"\s+", results_screen(name, width))
    for record in records_of(name):
        if record.throughput_infer_per_s:
            assert f"{record.throughput_infer_per_s:,.1f}" in shown
            assert f"{(record.latency_p99_us or 0) / 1000:,.2f}" in shown
    assert shown.count("failed") == sum(each.status == "failed" for each in records_of(name))
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(shown)


def test_a_table_that_is_piped_has_a_whole_line_with_all_columns_for_each_measurement() -> None:
    header, *lines = results_screen("three_axes_two_pools", None).splitlines()
    names = re.split(r"  +", header)
    assert names == [
        *("model", "pool", "instances", "batching", "concurrency", "batch"),
        *("infer/s", "mean ms", "p95 ms", "p99 ms", "status"),
    ]
    assert len(lines) == len(records_of("three_axes_two_pools"))
    assert {len(re.split(r"  +", line)) for line in lines} == {len(names)}
    first = dict(zip(names, re.split(r"  +", lines[0]), strict=True))
    assert (first["pool"], first["batching"], first["batch"]) == ("a100-80gb-sxm4", "off", "1")


def test_rows_stand_in_the_order_of_the_campaign_however_they_were_measured() -> None:
    lines = results_screen("one_axis", None).splitlines()[1:]
    assert [re.split(r"  +", line)[4] for line in lines] == ["1", "8", "64"]
