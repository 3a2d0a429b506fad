"""How many CPUs a job has, or how many of them the server and the client get."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from hpcbench.config.values import Count
from hpcbench.config.yaml_model import FileSection


class CpuShares(FileSection):
    """How the CPUs of a job are divided, so that neither program takes them from the other.

    Attributes
    ----------
    server
        CPUs of Triton.
    client
        CPUs of perf_analyzer.
    """

    server: Count
    client: Count


def _kind(value: Any) -> str:
    return "<shares>" if isinstance(value, dict | CpuShares) else "<count>"


Cpus = Annotated[
    Annotated[Count, Tag("<count>")] | Annotated[CpuShares, Tag("<shares>")], Discriminator(_kind)
]
"""CPUs of one job. With a kind for each value, a message speaks of the one that was meant."""
