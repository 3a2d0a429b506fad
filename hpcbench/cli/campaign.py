"""The commands that measure: check a site, plan a campaign, run it, look at the run, end it."""

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcbench.cli.fold import folded, width_of
from hpcbench.cli.results import JSON, RESULTS
from hpcbench.cli.say import say, say_damaged
from hpcbench.errors import BadInput, HpcbenchError

if TYPE_CHECKING:
    from pandas import DataFrame

    from hpcbench.config.campaign import Campaign
    from hpcbench.plan.plan import Plan

CAMPAIGN = click.argument("campaign", type=click.Path(path_type=Path))
SITE = click.option(
    "--site",
    default="local",
    show_default=True,
    help="Name of a site profile, or the path of a site file.",
)
POOL = click.option(
    "--pool",
    "pools",
    metavar="NAME",
    multiple=True,
    help="Use only this pool of the site. Repeat the option for several. Default: all pools.",
)
ACCOUNT = click.option(
    "--account",
    metavar="NAME",
    help="Account that is charged for the batch jobs. Default: the environment variable "
    "HPCBENCH_ACCOUNT.",
)

MOST_ROWS = 200
"""A run ends with a table of its measurements if there are at most this many."""


@click.command()
@SITE
@POOL
@ACCOUNT
@click.option(
    "--results",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder on the file system where the results will be stored. Nothing stays in it.",
)
@click.option(
    "--wait",
    "wait_min",
    metavar="MINUTES",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Cancel a job that has not started by then.",
)
@JSON
def doctor(
    site: str,
    pools: tuple[str, ...],
    account: str | None,
    results: Path,
    wait_min: float,
    as_json: bool,
) -> int:
    """Check a site: this host, and one short job in every pool.

    Leaves no job, process or file behind.

    Exit codes: 0 all checks passed, 3 a check failed.
    """
    from hpcbench.cli.console import SafeConsole
    from hpcbench.cli.progress import show_checks
    from hpcbench.config.site import Site
    from hpcbench.doctor.doctor import check_site
    from hpcbench.doctor.findings import State

    where = Site.load(site)
    with show_checks(SafeConsole(stderr=as_json)) as report:
        checks = check_site(
            where, results, pools=pools, account=account, wait_s=60 * wait_min, report=report
        )
    failed = [check for check in checks if check.state is State.FAILED]
    if as_json:
        content = {
            "site": where.name,
            "ok": not failed,
            "checks": [asdict(check) for check in checks],
        }
        click.echo(json.dumps(content, indent=2))
    return 3 if failed else 0


@click.command()
@CAMPAIGN
@SITE
@POOL
@ACCOUNT
@JSON
def plan(
    campaign: Path, site: str, pools: tuple[str, ...], account: str | None, as_json: bool
) -> None:
    """Show the points, the time and the job scripts of CAMPAIGN.

    Starts nothing.
    """
    from hpcbench.config.campaign import Campaign
    from hpcbench.config.site import Site
    from hpcbench.plan import plan as planning

    todo = planning.plan(Campaign.load(campaign), Site.load(site), pools=pools)
    scripts = _job_scripts(todo, account)
    if as_json:
        click.echo(json.dumps(_plan_json(todo, scripts), indent=2))
        return
    from hpcbench.cli.console import SafeConsole
    from hpcbench.cli.plan_text import print_plan

    print_plan(todo, SafeConsole())
    for pool, script in scripts.items():
        if script:
            jobs = todo.site.pools[pool].max_jobs
            say(f"\njob script of pool {pool}, submitted at most {jobs} times at once:")
            say(script)


def _job_scripts(todo: "Plan", account: str | None) -> dict[str, str | None]:
    """Return what is submitted for a job of each pool; None without a batch system.

    Words in capitals stand for values that only a run knows.
    """
    if todo.site.scheduler == "local":
        return dict.fromkeys(todo.placements)
    # Only here: it imports Dask, which takes longer than all the rest of this command.
    from hpcbench.cluster import submission

    return {
        pool: submission.job_script(todo.site, pool, account=account) for pool in todo.placements
    }


def _plan_json(todo: "Plan", scripts: dict[str, str | None]) -> dict[str, Any]:
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
        "gpu_s": todo.gpu_s,
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


@click.command()
@CAMPAIGN
@SITE
@POOL
@ACCOUNT
@click.option(
    "--results",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the results. Points that it already contains are not measured again.",
)
@click.option(
    "--new-session",
    is_flag=True,
    help="Measure all points again, beside the results of earlier sessions.",
)
@click.option(
    "--confirm",
    metavar="N RESULTS",
    type=(click.IntRange(min=2), click.Path(path_type=Path)),
    help="Measure only what is recommended in RESULTS, its rivals and the base, N times each, on "
    "fresh servers. RESULTS may be the folder of recommend --out, for its limits to count.",
)
def run(
    campaign: Path,
    site: str,
    pools: tuple[str, ...],
    account: str | None,
    results: Path,
    new_session: bool,
    confirm: tuple[int, Path] | None,
) -> int:
    """Measure the points of CAMPAIGN that have no result yet.

    It is safe to interrupt a run: the same command continues it, and tries failed points again.
    With --new-session it measures all of them once more, as on another night. At the end it says
    which references of the campaign were met.

    Exit codes: 0 every point has its record, none failed and every reference was met, 1 some did
    not, 2 bad input, 3 the site or the batch system refused, 130 interrupted.
    """
    from hpcbench.cluster.fork_server import start_fork_server
    from hpcbench.config.site import Site

    where = Site.load(site)
    if where.scheduler == "local":
        # Before the other imports, which take about as long as its own.
        start_fork_server()
    from hpcbench.cli.console import SafeConsole, line_width, print_lines
    from hpcbench.cli.progress import load_pandas_at_the_end, show_progress
    from hpcbench.cli.results_table import results_table
    from hpcbench.cluster import driver
    from hpcbench.config.campaign import Campaign

    chosen, only = Campaign.load(campaign), None
    if confirm is not None:
        chosen, only = _to_confirm(chosen, results, *confirm)
    # Progress goes to stderr, so that the table alone can be piped.
    console = SafeConsole(stderr=True)
    with show_progress(console) as report:
        listener = load_pandas_at_the_end(report)
        summary = driver.run(
            chosen,
            where,
            results,
            pools=pools,
            account=account,
            listener=listener,
            only=only,
            new_session=new_session,
        )
    from hpcbench.records.frame import load_results

    frame = load_results(results)
    if len(frame) <= MOST_ROWS:
        table = SafeConsole()
        print_lines(table, results_table(frame, line_width(table)))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.counts.items()))
    console.print(f"{results}: {counts or 'no results'}", highlight=False, markup=False)
    if not summary.measured_now and not summary.exit_code:
        console.print("nothing was left to measure; --new-session measures all points again")
    if summary.exit_code:
        console.print(f"for the reasons: hpcbench status {results}", highlight=False, markup=False)
    return max(summary.exit_code, _say_references(chosen, frame))


def _say_references(campaign: "Campaign", frame: "DataFrame") -> int:
    """Say which references were met, and return the exit code."""
    if not campaign.references:
        return 0
    from hpcbench.analysis.decide import references
    from hpcbench.records.references import expectations

    held = references.check_references(frame, expectations(campaign))
    for line in references.reference_lines(held):
        say(line, err=True)
    return int(held.is_missed)


def _to_confirm(
    campaign: "Campaign", results: Path, repeats: int, source: Path
) -> tuple["Campaign", frozenset[str]]:
    """Return the campaign with so many repeats on fresh servers, and the points to measure."""
    from hpcbench.analysis.decide.confirm import points_to_confirm

    if results.resolve() == source.resolve():
        raise BadInput(
            f"--confirm {source}: is the folder of --results, too",
            "name a new folder: what led to the choice says nothing about it",
        )
    fresh = {"repeats": repeats, "fresh_servers": True}
    return campaign.model_copy(update=fresh), points_to_confirm(source)


@click.command()
@RESULTS
@JSON
def status(results: Path, as_json: bool) -> int:
    """Show which points are done, running, missing or failed.

    RESULTS is the folder that was given to hpcbench run. The points that failed are listed with
    the reason.
    """
    from hpcbench.cli import point_text
    from hpcbench.cluster import ledger, run_state
    from hpcbench.records import store
    from hpcbench.records.folder import Results, is_folder_locked

    where = Results(results)
    active = is_folder_locked(where)
    state = run_state.read_state(where)
    damaged: list[HpcbenchError] = []
    statuses = store.read_statuses(where, damaged.append)
    rows = _with_status(store.read_plan(where), statuses, state["running"])
    counts = Counter(row["status"] for row in rows)
    if as_json:
        content = {
            "results": str(results),
            "active": active,
            "counts": dict(counts),
            "jobs": state["jobs"],
            "measurements": rows,
        }
        click.echo(json.dumps(content, indent=2))
        return say_damaged(damaged)
    say(f"{results}: {len(rows)} measurements, {'a' if active else 'no'} run is active")
    for name, count in sorted(counts.items()):
        say(f"  {count:6d} {name}")
    for pool, jobs in state["jobs"].items():
        say(folded(f"pool {pool}: {point_text.jobs_text(jobs)}", width_of(sys.stdout), 4))
    if not active and (runs := ledger.unfinished(where)):
        names = ", ".join(run.name for run in runs)
        say(
            f"the last driver was killed; jobs named {names} may still be queued or running\n"
            f"  -> hpcbench cancel {results}"
        )
    for line in point_text.reason_lines(rows, width_of(sys.stdout)):
        say(line)
    if counts["missing"] and not active:
        say("to measure the missing points, repeat the same hpcbench run command")
    return say_damaged(damaged)


def _with_status(
    planned: list[dict[str, Any]], statuses: dict[Any, Any], running: list[Any]
) -> list[dict[str, Any]]:
    """Return the planned rows with the status and the reason of each."""
    at_work = {tuple(key) for key in running}
    rows = []
    for row in planned:
        key = row["point_id"], row["pool"], row["repeat"]
        unfinished = ("running" if key in at_work else "missing", None)
        status, reason = statuses.get(key, unfinished)
        rows.append({**row, "status": status, "reason": reason})
    return rows


@click.command()
@RESULTS
def cancel(results: Path) -> None:
    """End a run and cancel its batch jobs.

    RESULTS is the folder that was given to hpcbench run. No other jobs are cancelled.

    Works from any shell that has the batch system's commands, even if the driver was killed.
    """
    from hpcbench.cluster import ledger
    from hpcbench.records.folder import Results

    ledger.cancel_run(Results(results), say)


COMMANDS = (doctor, plan, run, status, cancel)
