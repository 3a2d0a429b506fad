"""hpcbench: benchmark campaigns for Triton models over the GPU nodes of an HPC cluster.

    from hpcbench import Campaign, Site, plan, run, load_results

These five are the public interface; they are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcbench._version import __version__ as __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hpcbench.cluster.driver import run as run
    from hpcbench.config.campaign import Campaign as Campaign
    from hpcbench.config.site import Site as Site
    from hpcbench.plan.plan import Plan
    from hpcbench.records.frame import load_results as load_results

_HOMES = {
    "Campaign": "hpcbench.config.campaign",
    "Site": "hpcbench.config.site",
    "run": "hpcbench.cluster.driver",
    "load_results": "hpcbench.records.frame",
}

__all__ = ["Campaign", "Site", "load_results", "plan", "run"]

# The function `plan` stands in the place of the package of this name. A package becomes an
# attribute of its parent once, when it is first imported: so that is done before.
import_module("hpcbench.plan")


def plan(
    campaign: "Campaign",
    site: "Site",
    *,
    pools: "Sequence[str]" = (),
    results: "str | Path | None" = None,
) -> "Plan":
    """The points and placements of a campaign; see `hpcbench.plan.plan.plan`."""
    from hpcbench.plan.plan import plan

    return plan(campaign, site, pools=pools, results=results)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hpcbench' has no attribute '{name}'")
