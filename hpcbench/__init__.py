"""Benchmark campaigns for Triton models over the GPU nodes of an HPC cluster.

The public interface::

    from hpcbench import Campaign, Site, plan, run, load_results, save_results
    from hpcbench import recommend, compare, figures, report, progress, results_table

    campaign = Campaign.load("campaign.yaml")
    site = Site.load("perlmutter")
    todo = plan(campaign, site)             # starts nothing
    run(campaign, site, results="results")  # measures what is missing
    frame = load_results("results")         # one row per measurement

`Campaign`
    A campaign file, or the same written in Python: models, axes, how to measure.
`Site`
    A site file: a batch system, its pools, and where Triton and perf_analyzer come from.
`plan`
    The points of a campaign and the Triton launches that measure them.
`run`
    Submits jobs, measures, and returns a summary. It can be interrupted and given again.
`progress`
    Shows a run on the terminal, as the command does. In a notebook, `run` shows itself.
`results_table`
    What differs between measurements, beside throughput and latency.
`load_results`
    Results as a pandas frame.
`save_results`
    The way back: a frame becomes a results folder that every command reads.
`recommend`, `compare`, `figures`, `report`
    What the commands of these names make of a frame; a notebook shows it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcbench._version import __version__ as __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hpcbench.analysis.api import compare as compare
    from hpcbench.analysis.api import figures as figures
    from hpcbench.analysis.api import recommend as recommend
    from hpcbench.analysis.api import report as report
    from hpcbench.cli.progress import progress as progress
    from hpcbench.cli.results_table import results_table as results_table
    from hpcbench.cli.shown_run import run as run
    from hpcbench.config.campaign import Campaign as Campaign
    from hpcbench.config.site import Site as Site
    from hpcbench.plan.plan import Plan
    from hpcbench.records.frame import load_results as load_results
    from hpcbench.records.save import save_results as save_results

# Imported when they are first used: `run` loads Dask and most others pandas, which takes longer
# than most commands.
_HOMES = {
    "Campaign": "hpcbench.config.campaign",
    "Site": "hpcbench.config.site",
    "progress": "hpcbench.cli.progress",
    "results_table": "hpcbench.cli.results_table",
    "run": "hpcbench.cli.shown_run",
    "load_results": "hpcbench.records.frame",
    "save_results": "hpcbench.records.save",
    "compare": "hpcbench.analysis.api",
    "figures": "hpcbench.analysis.api",
    "recommend": "hpcbench.analysis.api",
    "report": "hpcbench.analysis.api",
}

__all__ = ["Campaign", "Site", "compare", "figures", "load_results", "plan", "progress"]
__all__ += ["recommend", "report", "results_table", "run", "save_results"]

# The function `plan` has the name of a package. Importing a package for the first time sets it as
# an attribute of its parent, which would replace the function: so it is imported before.
import_module("hpcbench.plan")


def plan(
    campaign: "Campaign",
    site: "Site",
    *,
    pools: "Sequence[str]" = (),
    results: "str | Path | None" = None,
    yes: bool = False,
) -> "Plan":
    """Return the points and placements of a campaign. Start nothing.

    Parameters
    ----------
    campaign
        What to measure.
    site
        Where.
    pools
        The pools of the site to use; all by default.
    results
        A results folder. What it holds already is left out.
    yes
        Whether the campaign is meant to have more than a million measurements.

    Returns
    -------
    Plan
        The points, and the placements of each pool. For a site with a batch system, its
        ``not_checked`` says what of the site could not be looked at from this host; without
        Triton's images the points have other ids than in a run.

    Raises
    ------
    BadInput
        Where the campaign does not fit the site or the model repository, or is larger than that.
    SiteError
        Where Triton's image, or the prefix, cannot be used on this computer as the site, or is
        needed to find what the results hold.
    """
    from hpcbench.plan.grid_axes import check_size
    from hpcbench.plan.plan import chosen_pools, plan

    check_size(campaign, pools=len(chosen_pools(site, pools)), yes=yes)
    return plan(campaign, site, pools=pools, results=results, anywhere=True)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hpcbench' has no attribute '{name}'")
