"""What `hpcbench plan` prints beside the plan: job scripts, what was not checked; its JSON."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from hpcbench.cli.lines import say
from hpcbench.config.container import DOCKER
from hpcbench.errors import BadInput

if TYPE_CHECKING:
    from hpcbench.config.site import Site
    from hpcbench.plan.model import TritonModel
    from hpcbench.plan.plan import Plan
    from hpcbench.plan.point import ServerVariant


def charged_account(given: str | None, site: "Site") -> str | None:
    """Return who is charged for the jobs, as a run decides it.

    Parameters
    ----------
    given
        What the user asks for; None to take what the environment says.
    site
        Where the jobs run.

    Returns
    -------
    str or None
        None where nobody is named, or nothing is charged.

    Raises
    ------
    BadInput
        Where it is more than a name.
    """
    if site.scheduler == "local":
        return None
    # Only here: it imports what writes records, which a plan for this computer does not need.
    from hpcbench.cluster import run_state

    return run_state.charged_account(given, site)


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


def to_do_before_run(todo: "Plan", account: str | None) -> list[str]:
    """Return what the site file leaves to its user, without which a run would not measure.

    Parameters
    ----------
    todo
        The plan.
    account
        Who is charged; None where nobody is named.

    Returns
    -------
    list of str
        A line each.
    """
    site = todo.site
    if site.scheduler == "local":
        return []
    found = []
    charged = [name for name in todo.placements if site.pools[name].account_suffix]
    if charged and account is None:
        found.append(
            f"no account: the jobs of {', '.join(charged)} are charged to one; name it with "
            "--account or in HPCBENCH_ACCOUNT"
        )
    pools, ports = len(todo.placements), len(site.network.port_range)
    if site.network.listening and pools > ports:
        found.append(
            f"pools: {', '.join(todo.placements)} need a port each on this side, and the network "
            f"of the site has {ports} ({site.network.listening}): measure them in several runs, "
            "each with --pool"
        )
    return found if site.shared_filesystem else [*found, *_to_bring(todo)]


def _to_bring(todo: "Plan") -> Iterator[str]:
    """What has to be on nodes that do not see this host's folders."""
    container = todo.site.container
    if todo.site.python is None:
        yield (
            "python: the nodes do not see this host's; in a copy of the site file, name one that "
            "they have with hpcbench"
        )
    # Not Path.home: it fails where there is none.
    if container.cache.is_relative_to(os.path.expanduser("~")):  # noqa: PTH111
        for key in ("server_image", "sdk_image"):
            image = getattr(container, key)
            if image and image.startswith(DOCKER):
                yield (
                    f"{key}: {image} would be pulled into {container.cache}, which the nodes do "
                    f"not see; name an image that they have by --{key.replace('_', '-')}, or in a "
                    "copy of the site file a cache that they see"
                )
    folders = " and ".join(map(str, todo.campaign.repositories))
    yield f"models: the nodes have to see {folders} under the same path, as on CVMFS"


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
    found = list(todo.not_checked)
    if not _can_ask_triton(todo) and (unknown := incomplete_variants(todo)):
        found.append(
            f"{', '.join(each.label for each in unknown)}: no inputs in config.pbtxt, so batch "
            "sizes and shapes; Triton completes them when it loads the model"
        )
    if site.scheduler == "local":
        return found
    from hpcbench.cluster import batch
    from hpcbench.runtime.command import runtime_of

    submit = batch.system(site.scheduler).commands[0]
    if shutil.which(submit) is None:
        found.append(
            f"the batch system: this host has no {submit}; whether it takes these partitions, "
            "limits and the account is not known"
        )
    container = site.container
    if not runtime_of(container).is_installed():
        found.append(f"the runtime: {container.runtime} is not in PATH here")
    if site.python is None and site.shared_filesystem:
        found.append(f"Python: {sys.executable} is this host's; a run takes its own host's")
    return found


def incomplete_variants(todo: "Plan") -> tuple["ServerVariant", ...]:
    """Return the models of a plan that leave inputs and batch limit to the server.

    Parameters
    ----------
    todo
        The plan.

    Returns
    -------
    tuple of ServerVariant
        Each of them once, as it is in the repository.
    """
    found: dict[str, ServerVariant] = {}
    placements = chain.from_iterable(todo.placements.values())
    for variant in chain.from_iterable(chain.from_iterable(each.served for each in placements)):
        if variant.model.inputs is None and variant.model.name not in found:
            found[variant.model.name] = replace(variant, changes=(), version=None, compared=None)
    return tuple(found.values())


def _can_ask_triton(todo: "Plan") -> bool:
    """Whether Triton can be started here: it is installed, and this is no login node."""
    return todo.site.scheduler == "local" and todo.site.container.runtime == "native"


def completed_models(todo: "Plan") -> dict[str, "TritonModel"]:
    """Return the models that Triton completes as it does so, if it can be started here.

    Parameters
    ----------
    todo
        The plan.

    Returns
    -------
    dict of str to TritonModel
        By the name of the model; none where it cannot be asked.

    Raises
    ------
    BadInput
        A model does not load, or cannot take what the campaign asks for.
    """
    if not _can_ask_triton(todo) or not (unknown := incomplete_variants(todo)):
        return {}
    # Only here: most models say themselves what they are.
    from hpcbench.errors import ServerFailed
    from hpcbench.measure import completion

    names = ", ".join(each.label for each in unknown)
    say(f"asking Triton to complete {names}: no inputs in config.pbtxt", err=True)
    try:
        found = completion.completed_models(unknown, todo.site.container)
    except ServerFailed as error:
        raise BadInput(
            f"{todo.campaign.source}: Triton does not load {names}: {error.message}",
            "a config.pbtxt may say what the model lacks",
        ) from error
    if problems := completion.completed_problems(todo.campaign, found):
        raise BadInput(
            "\n".join(problems),
            "Triton completed this by itself; the axis max_batch_size or a config.pbtxt changes it",
        )
    return found


def plan_json(
    todo: "Plan",
    scripts: dict[str, str | None],
    completed: Mapping[str, "TritonModel"],
    to_do: Sequence[str],
) -> dict[str, Any]:
    """Return a plan as `hpcbench plan --json` prints it.

    Parameters
    ----------
    todo
        The plan.
    scripts
        The job script of each pool.
    completed
        From `completed_models`.
    to_do
        From `to_do_before_run`.

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
        "hints": list(todo.hints),
        "estimate_s": todo.estimate_s,
        "gpu_s": 3600 * sum(todo.gpu_hours.values()),
        "gpu_hours": todo.gpu_hours,
        "runtime": todo.site.container.runtime,
        "server_image": todo.site.container.server_image,
        "sdk_image": todo.site.container.sdk_image,
        "to_do": list(to_do),
        "not_checked": not_checked(todo),
        "completed": {
            name: {
                "max_batch_size": model.max_batch_size,
                "dynamic_batching": model.dynamic_batching,
                "inputs": {tensor: list(dims) for tensor, dims in model.inputs or ()},
            }
            for name, model in completed.items()
        },
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
