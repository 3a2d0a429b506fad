"""What `hpcbench plan` prints beside the plan: job scripts, what was not checked; its JSON."""

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcbench.plan.plan import Plan


def job_scripts(todo: "Plan", account: str | None) -> dict[str, str | None]:
    """Return what is submitted for a job of each pool.

    Parameters
    ----------
    todo
        The plan.
    account
        Who is charged; None where nobody is named.

    Returns
    -------
    dict of str to str or None
        By pool; None without a batch system. Words in capitals stand for values that only a run
        knows.
    """
    if todo.site.scheduler == "local":
        return dict.fromkeys(todo.placements)
    # Only here: it imports Dask, which takes longer than all the rest of this command.
    from hpcbench.cluster import submission

    return {
        pool: submission.job_script(todo.site, pool, account=account) for pool in todo.placements
    }


def not_checked(todo: "Plan") -> list[str]:
    """Return what of the site could not be looked at from this host.

    Parameters
    ----------
    todo
        The plan.

    Returns
    -------
    list of str
        A line each; none for this computer as the site.
    """
    site = todo.site
    if site.scheduler == "local":
        return list(todo.not_checked)
    from hpcbench.cluster import batch
    from hpcbench.runtime.command import runtime_of

    found = list(todo.not_checked)
    submit = batch.system(site.scheduler).commands[0]
    if shutil.which(submit) is None:
        found.append(
            f"the batch system: this host has no {submit}; whether it takes these partitions, "
            "limits and the account is not known"
        )
    container = site.container
    if not runtime_of(container).is_installed():
        found.append(f"the runtime: {container.runtime} is not in PATH here")
    if site.python is None:
        found.append(f"Python: {sys.executable} is this host's; a run takes its own host's")
    return found


def plan_json(todo: "Plan", scripts: dict[str, str | None]) -> dict[str, Any]:
    """Return a plan as `hpcbench plan --json` prints it.

    Parameters
    ----------
    todo
        The plan.
    scripts
        The job script of each pool.

    Returns
    -------
    dict
        Strings, numbers, lists and mappings.
    """
    from hpcbench.plan.initial_record import plan_rows

    grid = todo.grid
    return {
        "campaign": todo.campaign.name,
        "site": todo.site.name,
        "points": len(grid.points),
        "repeats": todo.campaign.repeats,
        "measurements": todo.measurements,
        "merged": grid.merged,
        "excluded": [{"rule": rule, "count": count} for rule, count in grid.excluded],
        "idle": list(grid.no_effect),
        "estimate_s": todo.estimate_s,
        "gpu_s": 3600 * sum(todo.gpu_hours.values()),
        "gpu_hours": todo.gpu_hours,
        "runtime": todo.site.container.runtime,
        "server_image": todo.site.container.server_image,
        "sdk_image": todo.site.container.sdk_image,
        "not_checked": not_checked(todo),
        "job_scripts": scripts,
        "placements": [
            {
                "id": placement.id,
                "pool": pool,
                "repeat": placement.repeat,
                "served": [
                    [{"model": each.model.name, "server": each.axes} for each in served]
                    for served in placement.served
                ],
                "points": [point.id for point in placement.points],
                "estimate_s": placement.estimate_s,
            }
            for pool, placements in todo.placements.items()
            for placement in placements
        ],
        "not_applicable": [
            {
                "pool": each.placement.pool,
                "repeat": each.placement.repeat,
                "served": [
                    {"model": variant.model.name, "server": variant.axes}
                    for variant in each.placement.served[0]
                ],
                "points": [point.id for point in each.placement.points],
                "reason": each.reason,
            }
            for each in todo.inapplicable
        ],
        "measurement_rows": plan_rows(todo),
    }
