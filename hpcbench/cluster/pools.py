"""The workers of a site's pools while a run lasts: here, or as jobs, with their keys and ledger."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from hpcbench.cluster import ledger, tls
from hpcbench.cluster.batch_workers import DEATHS, batch_workers
from hpcbench.cluster.jobs import batch_run
from hpcbench.cluster.local import Workers, local_workers
from hpcbench.cluster.submission import Submission
from hpcbench.config.site import Site
from hpcbench.records.folder import Results


def started(
    site: Site,
    names: Sequence[str],
    where: Results,
    account: str | None,
    stack: ExitStack,
    *,
    deaths: int = DEATHS,
) -> Iterator[tuple[str, Workers]]:
    """The workers of these pools; they, their jobs and their keys are gone with ``stack``.

    So many ``deaths`` in a row of jobs that did not connect are a SiteError.
    """
    if site.scheduler == "local":
        for name in names:
            yield name, stack.enter_context(local_workers(site.pools[name]))
        return
    allow_many_connections()
    run_ = ledger.begin(where, site.scheduler)
    watcher = stack.enter_context(batch_run(where, run_))
    made = stack.enter_context(tls.made(where.keys)) if site.network.tls else None
    submission = Submission(site, where, run_, account, made)
    for name in names:
        yield name, stack.enter_context(batch_workers(name, submission, watcher, deaths))


def allow_many_connections() -> None:
    """A worker takes several connections of this process, and login nodes often allow 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
