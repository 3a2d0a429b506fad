"""Text from elsewhere controls no terminal: no title, clipboard, colour or order of writing."""

from __future__ import annotations

import io
import logging
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.cli.console import SafeConsole
from hpcbench.cli.main import main
from hpcbench.cluster import run_state
from hpcbench.errors import printable
from hpcbench.records import store
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results
from tests.helpers.builders import record
from tests.helpers.measurements import measured, write

TITLE = "\x1b]0;owned\x07"
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4K\x07"


def hpcbench(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left_of_any_text(text: str) -> None:
    shown = printable(text)
    kinds = {unicodedata.category(each) for each in shown if each not in "\n\t"}
    assert not kinds & {"Cc", "Cs"}, "controls, and halves of characters"
    turning = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    assert turning.isdisjoint(map(unicodedata.bidirectional, shown))
    shown.encode()


def test_what_can_be_printed_stays() -> None:
    text = "Größe 12 µs → ok\n\t日本"
    assert printable(text) == text
    assert printable("a\x1b[31mb\x7f\udcff") == "a\\x1b[31mb\\x7f\\udcff"


def test_a_console_prints_its_own_colours_and_nobody_elses() -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, force_terminal=True, color_system="standard")
    console.print(f"[red]failed[/] {TITLE}", highlight=False)
    assert "\x1b[31mfailed\x1b[0m" in stream.getvalue()
    assert "\\x1b]0;owned" in stream.getvalue()


@pytest.fixture
def planted(tmp_path: Path) -> Results:
    """Results whose every string is an attack."""
    results = Results(tmp_path / "results")
    results.create()
    row = record(
        1, status=Status.FAILED, reason=TITLE, model_label=CLIPBOARD, variant_name=TITLE, node=TITLE
    )
    store.write_point(results, row)
    store.write_point(results, record(2, model_label=CLIPBOARD, node=TITLE))
    keys = [{name: getattr(row, name) for name in store.PLAN_SCHEMA.names}]
    store.write_plan(results, keys)
    return results


@pytest.mark.parametrize("command", ["status", "recommend", "compare", "aggregate", "plot"])
def test_no_command_prints_an_escape_sequence_of_the_results(
    planted: Results, tmp_path: Path, command: str
) -> None:
    folder = str(planted.folder)
    more = {
        "compare": [folder],
        "aggregate": ["--out", str(tmp_path / "out.parquet")],
        "plot": ["--out", str(tmp_path / "figures"), "--figure", "status_map"],
    }
    done = hpcbench(command, folder, *more.get(command, []))
    assert "\x1b" not in done.output
    assert "\x07" not in done.output
    if command == "status":
        assert "\\x1b]0;owned" in done.output


@pytest.mark.parametrize("command", ["recommend", "compare", "check"])
def test_a_label_of_two_lines_stays_in_its_row(tmp_path: Path, command: str) -> None:
    """It would write a row of its own, as of another model that is recommended."""
    records = [
        # More than one request in flight of one client: a rule that names its rows is broken.
        measured(1000, concurrency=c, model_label="good\nrecommended  9", latency_avg_us=latency)
        for c, latency in ((1, 8e3), (2, 16e3), (4, 9e9))
    ]
    folder = str(write(tmp_path / "results", records))
    done = hpcbench(command, folder, *([folder] if command == "compare" else []))
    assert "good\\nrecommended  9" in done.output
    assert not any(line.startswith("recommended  9") for line in done.output.splitlines())


def test_an_error_about_a_file_with_a_planted_name_is_printable(tmp_path: Path) -> None:
    done = hpcbench("status", str(tmp_path / f"{TITLE}\udcff"))
    assert done.exit_code == 2
    assert "\\x1b]0;owned\\x07\\udcff" in done.output
    assert "\x1b" not in done.output


def test_the_drivers_log_holds_no_escape_sequence(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.create()
    with run_state.log_file(results):
        logging.getLogger("hpcbench").warning("job said: %s", TITLE)
    text = (results.logs / "driver.log").read_text()
    assert "\\x1b]0;owned\\x07" in text
    assert "\x1b" not in text
