"""The lock in a results folder: written when a run begins and when it ends, compared with another.

See `hpcbench.plan.lock` for what it holds.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
import yaml

from hpcbench.config.site import Site
from hpcbench.measure import node
from hpcbench.plan.lock import HEADER, Lock, as_data
from hpcbench.plan.lock_differences import Difference, differences
from hpcbench.plan.make_lock import COLUMNS, Row, make_lock
from hpcbench.plan.plan import Plan
from hpcbench.records import store
from hpcbench.records.folder import Results, write_atomically
from hpcbench.records.session import Session


def write_lock(
    todo: Plan, session: Session, results: Results, *, only: Collection[str], complete: bool
) -> Lock:
    """Write the lock of a session into its folder.

    Parameters
    ----------
    todo
        What it measures.
    session
        The session.
    results
        The results folder. What its records say of programs and nodes goes into the lock.
    only
        The point_ids that it measures; empty for all.
    complete
        Whether the run has come to its end.

    Returns
    -------
    Lock
        What the file holds from now on.
    """
    lock = make_lock(todo, session, _rows(results, session), only=only, complete=complete)
    path = results.campaign_lock
    text = yaml.safe_dump(as_data(lock), sort_keys=False, allow_unicode=True)
    header = HEADER.format(run_id=session.run_id, name=path.name)
    write_atomically(path, f"{header}{text}".encode())
    return lock


def _rows(results: Results, session: Session) -> list[Row]:
    """What the records of a session say of programs and nodes, each combination once."""
    # What is damaged was reported where the run began.
    table = store.read_table(results.folder, ["run_id", *COLUMNS], on_damage=lambda _: None)
    own = table.filter(pc.equal(table["run_id"], session.run_id)).select(COLUMNS)
    rows: list[Row] = own.group_by(list(COLUMNS)).aggregate([]).to_pylist()
    return rows


def differences_before(before: Lock, todo: Plan) -> list[Difference]:
    """Return what is different from a lock, as far as it is known before anything is measured.

    Parameters
    ----------
    before
        The lock.
    todo
        The plan of the session that repeats it.

    Returns
    -------
    list of Difference
        Of nodes and drivers only where workers run on this host.
    """
    its = before.session
    session = Session(its.run_id, its.seed, its.started_at, adopts=False)
    rows = _this_node(todo.site, list(todo.placements))
    now = make_lock(todo, session, rows, only=before.only, complete=False)
    return differences(before, now)


def _this_node(site: Site, pools: Sequence[str]) -> list[Mapping[str, Any]]:
    if site.scheduler != "local":
        return []
    return [node.node_columns() | {"pool": pool} for pool in pools]
