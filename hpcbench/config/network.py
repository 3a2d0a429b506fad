"""The section ``network:`` of a site file: how scheduler and workers find each other."""

import re
from typing import Annotated

from pydantic import AfterValidator

from hpcbench.config.values import matching
from hpcbench.config.yaml_model import FileSection


def _ports(value: str) -> str:
    found = re.fullmatch(r"(\d{1,5}):(\d{1,5})", value, re.ASCII)
    if not found or not 0 < int(found[1]) <= int(found[2]) < 65536:
        raise ValueError('must be a range such as "10000:10100"')
    return value


def _two_for_each(value: str) -> str:
    first, last = value.split(":")
    if first == last:
        raise ValueError('must be two ports at least, which each job takes, such as "10000:10100"')
    return value


Ports = Annotated[str, AfterValidator(_ports)]


class Network(FileSection):
    """How scheduler and workers find each other.

    Attributes
    ----------
    interface
        A network interface that login and GPU nodes share.
    ports
        The range "first:last" that the site's firewall lets through. Each job on a node takes two.
    scheduler_ports
        The range on the driver's side, where it is another one.
    tls
        Whether connections are encrypted. Otherwise everyone on that network could run code as you.
    """

    interface: (
        Annotated[str, matching(r"\w[\w.:-]*", "must be a network interface's name, such as ib0")]
        | None
    ) = None
    ports: Annotated[Ports, AfterValidator(_two_for_each)] | None = None
    scheduler_ports: Ports | None = None
    tls: bool = True

    @property
    def listening(self) -> str | None:
        """The range "first:last" in which a scheduler may listen, where the site names one."""
        return self.scheduler_ports or self.ports

    @property
    def port_range(self) -> range:
        """The ports of `listening`; port 0, which is any, where the site names none."""
        first, _, last = (self.listening or "0:0").partition(":")
        return range(int(first), int(last) + 1)
