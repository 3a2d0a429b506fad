"""What the jobs of a run are submitted with, and a pool's Dask cluster that submits them."""

import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcbench.cluster import jobqueue
from hpcbench.cluster.jobs import Watcher
from hpcbench.cluster.ledger import Run
from hpcbench.cluster.reporting import Desk, reporting
from hpcbench.cluster.tls import Keys
from hpcbench.config.site import Site
from hpcbench.errors import SiteError, cause_chain
from hpcbench.records.store import Results

DEATHS = 3
"""So many jobs in a row that die before they connect end a run."""


@dataclass(frozen=True)
class Submission:
    """What all pools of a run share; ``deaths`` in a row before a job connects end the run."""

    results: Results
    run: Run
    account: str | None
    keys: Keys | None
    watcher: Watcher
    deaths: int = DEATHS

    def settings(self, site: Site, pool_name: str, excluded: Sequence[str] = ()) -> dict[str, Any]:
        """The arguments of dask-jobqueue for jobs that stay away from the nodes ``excluded``."""
        return jobqueue.settings(
            site,
            site.pools[pool_name],
            run=self.run.name,
            account=self.account,
            logs=self.results.logs,
            excluded=excluded,
            key_files=self.keys.files if self.keys else (),
        )

    def cluster(self, site: Site, pool_name: str, desk: Desk) -> Any:
        """A pool's scheduler, started here, without a job. Raises SiteError where it does not."""
        cls = reporting(jobqueue.cluster_class(site), desk)
        problem: BaseException
        for port in site.network.port_range:
            try:
                return cls(
                    name=f"{self.run.name}-{pool_name}",
                    interface=site.network.interface,
                    protocol="tls://" if self.keys else "tcp://",
                    security=self.keys.security() if self.keys else None,
                    worker_security=jobqueue.key_security(site, self.keys),
                    scheduler_options={"dashboard_address": "127.0.0.1:0", "port": port},
                    silence_logs=logging.CRITICAL,
                    **self.settings(site, pool_name),
                )
            except (RuntimeError, ValueError, OSError) as error:
                problem = cause_chain(error)[-1]
                if getattr(problem, "errno", None) != errno.EADDRINUSE:
                    break
        else:
            # Never where the site names none: port 0 is not in use.
            raise SiteError(
                f"pool {pool_name}: no scheduler could be started here: all ports of "
                f"{site.network.listening} are in use",
                f"end what listens there, or widen the range in the site file of {site.name}: each "
                "pool of each run takes a port",
            )
        raise SiteError(
            f"pool {pool_name}: no scheduler could be started here: {problem}",
            f"look at network in the site file of {site.name}: interface and ports",
        ) from problem
