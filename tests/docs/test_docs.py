"""The documentation keeps up with the code."""

import importlib.util
import re
import runpy
from pathlib import Path
from types import ModuleType

import jupyter_client
import nbformat
import pytest
import yaml
from click.testing import CliRunner
from nbclient import NotebookClient

from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.figures.styles import STYLES
from hpcbench.analysis.summary.invalid_rows import is_left_out
from hpcbench.analysis.summary.points import summarise
from hpcbench.cli.main import main
from hpcbench.config.campaign import Campaign
from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.model import Model
from hpcbench.config.server_axes import Server
from hpcbench.records.columns import COLUMNS
from hpcbench.records.frame import load_results
from tests.helpers.builders import expanded
from tests.helpers.paths import CHECKOUT

DOCS = CHECKOUT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_columns_is_that_of_the_records(build):
    """`make docs` writes it."""
    assert (DOCS / "columns.md").read_text() == build.columns()


def test_the_page_of_cms_models_is_that_of_their_results(build):
    """Of three sessions of docs/cms_models.yaml; `make docs` writes it."""
    assert (DOCS / "cms_models.md").read_text() == build.cms_models()
    frame = load_results(build.CMS_MODELS)
    batch_sizes = yaml.safe_load((DOCS / "cms_models.yaml").read_text())["load"]["batch_size"]
    assert set(frame["batch_size"]) == set(batch_sizes)
    assert frame["run_id"].nunique() == 3
    assert len(frame) == 3 * 4 * len(batch_sizes)


def test_every_column_is_in_the_reference_once_with_the_source_of_its_part(build):
    text = build.columns()
    for column in COLUMNS:
        assert text.count(f"\n| `{column.name}` | {column.type} |") == 1
    parts = re.findall(r"^## (?!Derived|Computed)(.*)\n\n(.*)$", text, re.MULTILINE)
    source = "".join(map(build.inspect.getsource, (build.Asked, build.Record)))
    assert len(parts) == len(re.findall(r"^    # [A-Z]", source, re.MULTILINE))
    assert all(source for _, source in parts), parts


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_page_with_its_image(name):
    """And the list of figures leads to it."""
    page = (DOCS / "figures" / f"{name}.md").read_text()
    assert f"({name}.png)" in page
    assert f"--figure {name}" in page
    assert (DOCS / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"(figures/{name}.md)" in (DOCS / "figures.md").read_text()


def test_every_figure_can_be_drawn_from_the_results_of_the_documentation(build):
    for name in FIGURES:
        assert len(build.example_figure(name).data)


def test_every_style_is_shown():
    text = (DOCS / "figures.md").read_text()
    for style in STYLES:
        assert f"`{style}`" in text or f"--style {style}" in text
        assert (DOCS / "figures" / f"style_{style}.png").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_reached_from_the_index() -> None:
    waiting, reached = ["index"], set[str]()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        page = DOCS / f"{name}.md"
        text = page.read_text() if page.exists() else ""
        for tree in re.findall(r"^```{toctree}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for entry in (line for line in tree.split() if not line.startswith(":")):
                found = {path.relative_to(DOCS).with_suffix("") for path in DOCS.glob(f"{entry}.*")}
                waiting += sorted({str(path) for path in found} - reached)
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in PAGES}
    assert pages <= reached, pages - reached


def test_the_kernel_of_the_notebook_listens_on_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which any user of the machine could reach, and of which the kernel warns."""
    monkeypatch.setattr(jupyter_client, "AsyncKernelManager", jupyter_client.AsyncKernelManager)
    runpy.run_path(str(DOCS / "conf.py"))
    client = NotebookClient(nbformat.v4.new_notebook())
    assert client.create_kernel_manager().transport == "ipc"


def test_the_results_of_the_documentation_are_those_of_its_campaign():
    """Measured with docs/campaign.yaml, and small enough for a repository."""
    path = DOCS / "results" / "jet_tagger.parquet"
    assert path.stat().st_size < 300_000
    frame = load_results(path)
    assert len(frame) == 2 * 2 * 4 * 3 * Campaign.load(DOCS / "campaign.yaml").repeats
    assert frame["measurement_interval_ms"].eq(2000).all()
    assert frame["status"].eq("ok").mean() > 0.9
    assert set(frame["batch_size"]) == {1, 4, 16, 64}
    assert set(frame["concurrency"]) == {1, 2, 8}


def commands_of_the_tutorial() -> list[list[str]]:
    """Those that need no Triton: they read the results of the documentation."""
    lines = re.findall(r"^    hpcbench (.*)$", TUTORIAL.read_text(), re.MULTILINE)
    return [line.split() for line in lines if RESULTS in line]


TUTORIAL, RESULTS = DOCS / "tutorial.md", "docs/results/jet_tagger.parquet"


def test_the_tutorial_goes_through_every_command_that_reads_results():
    assert [words[0] for words in commands_of_the_tutorial()] == [
        *("report", "plot", "recommend", "aggregate", "compare"),
    ]


@pytest.mark.parametrize("words", commands_of_the_tutorial(), ids=lambda words: words[0])
@pytest.mark.usefixtures("few_figures")
def test_the_commands_of_the_tutorial_run_as_they_stand(words, tmp_path, monkeypatch):
    """From a folder of their own; one figure stands for all, which the tests of figures draw."""
    (tmp_path / "docs").symlink_to(DOCS)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "demo").symlink_to(DOCS / RESULTS.removeprefix("docs/"))
    monkeypatch.chdir(tmp_path)
    one = ["--figure", "heat_map"] if words[0] == "plot" else []
    done = CliRunner().invoke(main, [*words, *one])
    assert done.exit_code == 0, done.output
    out = words[words.index("--out") + 1] if "--out" in words else "docs"
    assert (tmp_path / out).exists()


def test_the_tables_of_the_tutorial_are_what_its_commands_print(monkeypatch, tmp_path):
    """On a terminal of 80 columns."""
    (tmp_path / "docs").symlink_to(DOCS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shown = re.findall(r"^```text\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    words = next(words for words in commands_of_the_tutorial() if words[0] == "recommend")
    printed = CliRunner().invoke(main, words).stdout
    lines = [line.rstrip() for line in printed.splitlines()]
    assert shown
    for block in shown:
        assert block in "\n".join(lines)


def test_the_tutorial_says_how_many_measurements_are_left_out_and_how_narrow_intervals_are():
    frame = load_results(DOCS / "results" / "jet_tagger.parquet")
    points = summarise(frame)
    throughput = points["throughput_infer_per_s"]
    half = (points["throughput_infer_per_s_high"] - throughput) / throughput
    text = " ".join(TUTORIAL.read_text().split())
    assert f"{is_left_out(frame).sum()} of the {len(frame)} measurements" in text
    assert f"half of them are within \N{PLUS-MINUS SIGN}{half.median():.0%}" in text


def test_the_python_of_the_tutorial_runs_as_it_stands(monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(DOCS.parent)
    names: dict[str, object] = {}
    exec(code, names)
    assert "throughput_infer_per_s" in capsys.readouterr().out
    assert names["figure"].axes


@pytest.mark.parametrize("path", sorted(DOCS.glob("results/*")), ids=lambda path: path.stem)
def test_the_results_of_the_documentation_name_no_folder_of_the_machine_they_come_from(path):
    assert load_results(path)["command"].dropna().str.startswith("perf_analyzer ").all()


def test_every_key_of_a_campaign_stands_in_its_reference() -> None:
    text = (DOCS / "campaign.md").read_text()
    for model in (Campaign, Model):
        for name, info in model.model_fields.items():
            assert f"`{info.alias or name}`" in text, name


def test_every_axis_stands_in_its_reference() -> None:
    text = (DOCS / "axes.md").read_text()
    for section in (Server, Load, Measurement):
        for name, info in section.model_fields.items():
            assert f"| `{info.alias or name}` |" in text, name


def test_every_campaign_in_the_reference_can_be_planned(tmp_path: Path) -> None:
    snippets = re.findall(r"```yaml\n(.*?)```", (DOCS / "campaign.md").read_text(), re.DOTALL)
    assert len(snippets) == 7
    events = {str(tmp_path / "events.json"): "digest"}
    sizes = []
    for snippet in snippets:
        (tmp_path / "campaign.yaml").write_text(snippet)
        study = Campaign.load(tmp_path / "campaign.yaml")
        sizes.append(len(expanded(study, input_data=events).points))
    assert sizes == [3, 3 * 3 * 2 - 3 - 4, 3 + 1 + 3 * 2, 1, 2 * 2, 2, 3]


def test_every_promise_of_security_names_a_test_that_is_there() -> None:
    """No promise without a test."""
    text = (DOCS / "security.md").read_text()
    promises = re.findall(r"^\| .*\. \| (.*) \|$", text, re.MULTILINE)
    assert len(promises) > 20
    for cell in promises:
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", cell), cell
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text):
        assert f"def {name}(" in (CHECKOUT / path).read_text(), f"{path}::{name}"
