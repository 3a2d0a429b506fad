"""What a notebook shows: in a real kernel, as a browser gets it."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.helpers.paths import CHECKOUT

FIRST = """
import hpcbench
from hpcbench.cluster.events import Note, PlacementStarted, Planned, Stopping, point_measured
from hpcbench.errors import Interrupted
from tests.cli.screens import plan_of, records_of, results_of

todo, records = plan_of("two_axes"), records_of("two_axes")
"""

PROGRESS = """
with hpcbench.progress() as listener:
    listener(Planned(todo))
    listener(PlacementStarted("p", "cpu", "0", "node", 0.0))
    listener(Note("moved <aside>"))
    for record in records[:2]:
        listener(point_measured(record))
    listener(Stopping("stopping: waiting for the point under way"))
"""

SHOWN = {
    "todo.campaign": ("instance_count", "[&quot;base&quot;, 2]"),
    "todo.site": ("/p", "cpu"),
    "todo": ("points", "4"),
    "hpcbench.results_table(results_of('two_axes'))": ("instances", "p99 ms"),
}
"""What shows itself, and what that says."""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell showed, by its source."""
    home = tmp_path_factory.mktemp("jupyter")
    sources = [FIRST, PROGRESS, *SHOWN]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells.append(nbformat.v4.new_code_cell("raise Interrupted('stopped', 'run it again')"))
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("PYTHONPATH", str(CHECKOUT))
        patient = {"timeout": 240, "startup_timeout": 240}
        client = NotebookClient(notebook, kernel_name="python3", **patient)
        with pytest.raises(CellExecutionError):
            client.execute(cwd=str(home))
    return {cell.source: cell.outputs for cell in notebook.cells}


def page(outputs: list[Any]) -> str:
    """The only thing that a cell showed, as HTML."""
    (shown,) = outputs
    return shown.data["text/html"]


def test_a_run_is_one_display_with_its_bar_its_notes_and_the_newest_measurement_first(
    outputs: dict[str, list[Any]],
) -> None:
    html = page(outputs[PROGRESS])
    assert '<progress value="2" max="4">' in html
    assert "study on here" in html
    assert "1 ok, 1 unstable" in html
    assert "moved &lt;aside&gt;" in html
    rows = html.split("<tr>")[1:]
    assert [">instances<" in rows[0], ">infer/s<" in rows[0]] == [True, True]
    assert "unstable" in rows[1]
    assert "ok" in rows[2]


def test_what_is_no_browser_gets_the_progress_as_text(outputs: dict[str, list[Any]]) -> None:
    (shown,) = outputs[PROGRESS]
    assert shown.data["text/plain"].startswith("study on here: 2/4 ended, 1 ok, 1 unstable, 0:00")


@pytest.mark.parametrize("source", SHOWN)
def test_what_a_study_consists_of_shows_itself(outputs: dict[str, list[Any]], source: str) -> None:
    html = page(outputs[source])
    assert "<table>" in html
    assert [word for word in SHOWN[source] if word not in html] == []


def test_an_interrupt_is_one_message_and_no_traceback(outputs: dict[str, list[Any]]) -> None:
    (shown,) = outputs["raise Interrupted('stopped', 'run it again')"]
    assert shown.traceback == ["Interrupted: stopped\n  -> run it again"]
