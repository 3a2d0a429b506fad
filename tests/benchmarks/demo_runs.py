"""The demo's model on a Triton of this computer, for benchmarks that are run by hand."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hpcbench import Campaign, Site, load_results
from tests.helpers.real import SHAPES, campaign_file, site_file

CHECKOUT = Path(__file__).resolve().parents[2]
MODELS = CHECKOUT / "jobs" / "demo" / "models"
PREFIX = Path(os.environ.get("HPCBENCH_NATIVE", CHECKOUT / ".native"))
THREE_WINDOWS = {"percentile": 95, "stability_percentage": 900.0}
"""A spread that every point stays within, so that each takes three windows."""


def inputs(folder: Path, *, container: dict[str, Any], **changes: Any) -> tuple[Path, Path]:
    """A campaign of the demo's model, and this computer as its site: two files."""
    folder.mkdir(exist_ok=True)
    models = [{"name": "jet_tagger", "shapes": SHAPES}]
    path = campaign_file(folder, MODELS, **{"models": models, **changes})
    return path, site_file(folder, PREFIX, **container)


def read(folder: Path, *, container: dict[str, Any], **changes: Any) -> tuple[Campaign, Site]:
    """The campaign and the site of the two files."""
    campaign, site = inputs(folder, container=container, **changes)
    return Campaign.load(campaign), Site.load(site)


def run(files: tuple[Path, Path], results: Path) -> pd.DataFrame:
    """The rows of a campaign that the command runs, as a user runs it."""
    campaign, site = map(str, files)
    words = ["run", campaign, "--site", site, "--results", str(results)]
    subprocess.run(
        [sys.executable, "-m", "hpcbench", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return load_results(results)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print()
