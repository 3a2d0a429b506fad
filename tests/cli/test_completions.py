"""What a shell completes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from hpcbench.analysis.figures.registry import FIGURES
from hpcbench.analysis.figures.styles import STYLES
from hpcbench.cli.main import main
from tests.helpers.builders import write_prefix, write_site


def completed(*words: str, begun: str = "") -> list[str]:
    shell = ShellComplete(main, {}, "hpcbench", "_HPCBENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(words), begun)]


@pytest.mark.parametrize("command", ["plan", "run", "doctor"])
def test_sites_are_completed_without_the_template(command: str) -> None:
    found = completed(command, "--site")
    assert {"local", "perlmutter"} <= set(found)
    assert "template" not in found
    assert completed(command, "--site", begun="perl") == ["perlmutter"]


def test_a_site_file_is_completed_as_a_file() -> None:
    shell = ShellComplete(main, {}, "hpcbench", "_HPCBENCH_COMPLETE")
    (item,) = shell.get_completions(["plan", "--site"], "./my")
    assert item.type == "file"


def test_pools_are_those_of_the_site(tmp_path: Path) -> None:
    write_prefix(tmp_path)
    site = write_site(tmp_path, pools={"a100": {}, "t4": {}})
    assert completed("plan", "c.yaml", "--site", str(site), "--pool") == ["a100", "t4"]
    assert completed("plan", "c.yaml", "--site", "nowhere", "--pool") == []


def test_styles_and_figures_are_completed() -> None:
    assert completed("plot", "results", "--style") == list(STYLES)
    assert completed("plot", "results", "--figure") == list(FIGURES)
    assert completed("plot", "results", "--figure", begun="heat") == ["heat_map"]
