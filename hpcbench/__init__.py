"""hpcbench: benchmark campaigns for Triton models over the GPU nodes of an HPC cluster.

    from hpcbench import Campaign, Site, plan, run, load_results

These five are the public interface; they are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcbench._version import __version__ as __version__

if TYPE_CHECKING:
    from hpcbench.campaign import Campaign as Campaign
    from hpcbench.driver import run as run
    from hpcbench.planning import plan as plan
    from hpcbench.site import Site as Site
    from hpcbench.store import load_results as load_results

_HOMES = {
    "Campaign": "hpcbench.campaign",
    "Site": "hpcbench.site",
    "plan": "hpcbench.planning",
    "run": "hpcbench.driver",
    "load_results": "hpcbench.store",
}

__all__ = ["Campaign", "Site", "load_results", "plan", "run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hpcbench' has no attribute '{name}'")
